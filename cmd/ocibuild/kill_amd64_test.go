package main

import "golang.org/x/sys/unix"

// syscallOf is the number of the call that a stopped thread begins.
func syscallOf(pid int) (uint64, bool) {
	var regs unix.PtraceRegs
	err := unix.PtraceGetRegs(pid, &regs)
	return regs.Orig_rax, err == nil
}

// firstArgument is what that call is given first.
func firstArgument(pid int) (uint64, bool) {
	var regs unix.PtraceRegs
	err := unix.PtraceGetRegs(pid, &regs)
	return regs.Rdi, err == nil
}
