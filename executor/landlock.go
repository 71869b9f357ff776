package executor

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// landlockABI is what the kernel's Landlock can do; 0 is nothing.
func landlockABI() int {
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
}

const (
	// landlockUsable is the first version that lets files be moved between directories.
	landlockUsable = 2

	landlockTruncate = 3 // and the first ones that know of
	landlockIoctl    = 5 // these rights
	landlockScopes   = 6
)

// landlockRights are all rights on files that a version knows.
func landlockRights(abi int) uint64 {
	rights := uint64(unix.LANDLOCK_ACCESS_FS_REFER<<1 - 1)
	if abi >= landlockTruncate {
		rights |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= landlockIoctl {
		rights |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return rights
}

// confine keeps this thread, and what it starts, from the files outside of a tree,
// and from the processes outside of what it starts. It says nothing where the kernel
// cannot do that. The thread must not be able to gain privileges.
func confine(tree *os.File) error {
	abi := landlockABI()
	if abi < landlockUsable {
		return nil
	}
	rights := landlockRights(abi)
	rules := struct{ files, net, scoped uint64 }{files: rights}
	size := unsafe.Sizeof(rules.files)
	if abi >= landlockScopes {
		rules.scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		size = unsafe.Sizeof(rules)
	}
	set, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), size, 0)
	if errno != 0 {
		return fmt.Errorf("make landlock rules: %w", errno)
	}
	defer unix.Close(int(set))
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(tree.Fd())}
	_, _, errno = unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("add landlock rule: %w", errno)
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("apply landlock rules: %w", errno)
	}
	return nil
}
