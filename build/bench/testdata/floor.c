// floor N LOWER DIR PROGRAM: the least that a step can be. N times, one after another: a process in namespaces of its own, an overlay on
// LOWER with fresh directories below DIR, pivot_root, exec of PROGRAM.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char options[8192], target[4096], *program;

static int child(void *unused) {
	if (mount("", "/", "", MS_REC | MS_PRIVATE, "") || mount("overlay", target, "overlay", 0, options)) return 101;
	if (chdir(target) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH)) return 102;
	execl(program, program, (char *)0);
	return 103;
}

int main(int argc, char **argv) {
	static char stack[65536] __attribute__((aligned(16)));
	static char upper[4096], work[4096];
	if (argc != 5) return 2;
	program = argv[4];
	for (int i = 0; i < atoi(argv[1]); i++) {
		int status;
		snprintf(upper, sizeof upper, "%s/u%d", argv[3], i);
		snprintf(work, sizeof work, "%s/w%d", argv[3], i);
		snprintf(target, sizeof target, "%s/m%d", argv[3], i);
		snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,volatile", argv[2], upper, work);
		if (mkdir(upper, 0755) || mkdir(work, 0755) || mkdir(target, 0755)) { perror("mkdir"); return 1; }
		int pid = clone(child, stack + sizeof stack, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_VFORK | CLONE_VM | SIGCHLD, 0);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) { fprintf(stderr, "status %x\n", status); return 1; }
	}
	return 0;
}
