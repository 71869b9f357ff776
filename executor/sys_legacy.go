//go:build amd64 || 386 || arm || ppc64le || s390x || mips || mipsle || mips64 || mips64le || ppc64

package executor

import "golang.org/x/sys/unix"

// System calls that only older architectures have.
const (
	sysReadlink = unix.SYS_READLINK
)
