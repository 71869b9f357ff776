//go:build !386 && !arm

package executor

import "golang.org/x/sys/unix"

// The calls that take whole 32-bit ids.
const (
	sysSetgroups = unix.SYS_SETGROUPS
	sysSetresgid = unix.SYS_SETRESGID
	sysSetresuid = unix.SYS_SETRESUID
)
