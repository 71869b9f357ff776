// Package seccomp turns the seccomp part of a runtime spec into the filter that
// the kernel takes, and makes that part: Docker's default for a set of
// capabilities ([Default]), or what a profile in Docker's JSON says ([Parse]).
//
// It is pure but for [Parse], which asks for the kernel's version, and knows
// amd64, arm64, 386, arm, riscv64, loong64, ppc64le and s390x, with what the first two
// run beside their own. System calls by the rules of x32 do not exist under any
// filter made here: they are told ENOSYS, as by most kernels.
//
// # Numbers
//
// syscalls.txt has a line for each system call: its name, who may use it by default,
// and its number on 386, amd64, arm, arm64, loong64, ppc64le, riscv64 and
// s390x. Who is "+" for everybody, "-" for nobody, a list of capabilities of which one
// must be had, or "=" where it depends on arguments, see default.go.
//
// # Precedence
//
// Of the rules for one system call, those with conditions are asked in their order and
// then the first one without; then the default action. A call that is newer than all that
// the rules name is told ENOSYS instead of an error by default, so that programs
// fall back to an older one.
package seccomp
