package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// floorProgram does nothing of a container but clone, overlay, pivot_root and
// exec of true, one after another in one small process.
const floorProgram = `
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static char *options, *target;
static int child(void *unused) {
	if (mount("", "/", "", MS_REC|MS_PRIVATE, "") || mount("overlay", target, "overlay", 0, options)) return 101;
	if (chdir(target) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH)) return 102;
	execl("/bin/true", "true", (char *)0);
	return 103;
}
int main(int argc, char **argv) {
	static char stack[65536] __attribute__((aligned(16)));
	int n = atoi(argv[1]), status;
	options = argv[2]; target = argv[3];
	for (int i = 0; i < n; i++) {
		int pid = clone(child, stack + sizeof stack, CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWIPC|CLONE_NEWUTS|CLONE_NEWCGROUP|CLONE_VFORK|CLONE_VM|SIGCHLD, 0);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) { perror("floor"); return 1; }
	}
	return 0;
}
`

// BenchmarkRunTrue measures a whole step that runs true, and the run alone, each
// as a ratio to the floor that no step can be below, measured in turn with it: at the level of
// who measures, and for root at level chroot, which also copies the layers. Aim: 3 times that.
func BenchmarkRunTrue(b *testing.B) {
	floor := newFloor(b, newStore(b))
	b.Run(string(testLevel), func(b *testing.B) { benchmarkRunTrue(b, newStore(b), floor) })
	if mayChroot() {
		b.Run(string(LevelChroot), func(b *testing.B) { benchmarkRunTrue(b, newStoreAt(b, LevelChroot), floor) })
	}
}

func benchmarkRunTrue(b *testing.B, s *Snapshots, floor func() error) {
	e := New(s)
	true1 := Process{Args: []string{"/bin/true"}}
	b.Run("step", func(b *testing.B) {
		againstFloor(b, floor, func() error {
			sn, err := s.Prepare(context.Background(), []string{"base"})
			if err != nil {
				return err
			}
			return errors.Join(e.Run(context.Background(), sn, true1, IO{}), sn.Discard())
		})
	})
	b.Run("run", func(b *testing.B) {
		sn := prepare(b, s, "base")
		againstFloor(b, floor, func() error { return e.Run(context.Background(), sn, true1, IO{}) })
	})
}

// againstFloor runs floor and work in turn and reports the ratio of their times.
func againstFloor(b *testing.B, floor, work func() error) {
	b.Helper()
	var floors, works time.Duration
	n := 0
	for b.Loop() {
		n++
		for _, one := range []struct {
			do  func() error
			sum *time.Duration
		}{{floor, &floors}, {work, &works}} {
			began := time.Now()
			if err := one.do(); err != nil {
				b.Fatal(err)
			}
			*one.sum += time.Since(began)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(works.Seconds()*1000/float64(n), "ms")
	b.ReportMetric(floors.Seconds()*1000/float64(n), "floor-ms")
	b.ReportMetric(works.Seconds()/floors.Seconds(), "x-floor")
}

// newFloor compiles the floor's program and gives what runs it.
func newFloor(b *testing.B, s *Snapshots) func() error {
	b.Helper()
	dir := b.TempDir()
	source, program := filepath.Join(dir, "floor.c"), filepath.Join(dir, "floor")
	if err := os.WriteFile(source, []byte(floorProgram), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("cc", "-O2", "-static", "-o", program, source).CombinedOutput(); err != nil {
		b.Skipf("needs a C compiler: %v\n%s", err, out)
	}
	tree{"upper/": "", "work/": "", "merged/": ""}.make(b, dir)
	options := "lowerdir=" + s.tree("base") + ",upperdir=" + dir + "/upper,workdir=" + dir + "/work,volatile"
	if s.level.UserXattr() {
		options += ",userxattr"
	}
	return func() error {
		os.RemoveAll(dir + "/work/work") // a volatile overlay marks its work directory
		if out, err := exec.Command(program, "1", options, dir+"/merged").CombinedOutput(); err != nil {
			return fmt.Errorf("floor: %w\n%s", err, out)
		}
		return nil
	}
}

// BenchmarkPlan measures what the parent does before it starts anything.
func BenchmarkPlan(b *testing.B) {
	s := newStore(b)
	e := New(s)
	for b.Loop() {
		p, err := e.plan(Process{Args: []string{"/bin/true"}})
		if err != nil {
			b.Fatal(err)
		}
		_ = marshal(p)
	}
}

// BenchmarkMount measures an overlay of many layers.
func BenchmarkMount(b *testing.B) {
	s := newStore(b)
	sn := prepare(b, s, manyLayers(b, s, 128)...)
	for b.Loop() {
		f, err := s.Mount(context.Background(), sn)
		if err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
