package executor

import (
	"context"
	"fmt"
	"path/filepath"
)

// At level chroot a step is run in the snapshot's copy of the layers. What elsewhere is
// mounted for it is put there as files, and taken away when it has ended.

// procCalls are the system calls that /proc is shown by, see procServer.
var procCalls = []string{"open", "openat", "readlink", "readlinkat"}

// runChroot is Run at level chroot.
func (e *Executor) runChroot(ctx context.Context, sn *Snapshot, p Process, out IO) error {
	if err := refuseChroot(p); err != nil {
		return fmt.Errorf("run command: %w", err)
	}
	tree, err := sn.workOn(true)
	if err != nil {
		return err
	}
	root, err := duplicate(tree.root)
	if err != nil {
		return fmt.Errorf("open root filesystem: %w", err)
	}
	defer root.Close()
	plan, j, err := e.prepare(p, root, out)
	if err != nil {
		return err
	}
	if plan.Notify, err = e.filters.chroot(); err != nil {
		return fmt.Errorf("run command: %w", err)
	}
	if plan.Guard, err = e.filters.guard(p.Network == NetworkNone); err != nil {
		return fmt.Errorf("run command: %w", err)
	}
	show := &shown{
		root: root, tree: tree, aside: filepath.Join(sn.dir, "aside"),
		layers: []string{e.snapshots.path(committedDir), e.snapshots.path(viewsDir)},
	}
	return withCleanup(show.run(ctx, plan, j), sn.collect())
}

// refuseChroot refuses what takes a namespace or a mount.
func refuseChroot(p Process) error {
	switch {
	case p.Network == NetworkIsolated:
		return &LevelError{"network isolated", "a network namespace"}
	case p.ReadOnly:
		return &LevelError{"a read-only root filesystem", "a mount"}
	case p.Insecure:
		return &LevelError{"security=insecure", "more than the capabilities of an ordinary container"}
	}
	return nil
}
