package executor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// Executor runs processes in snapshots of one store. Its methods may be called
// from several goroutines.
type Executor struct {
	snapshots *Snapshots
	filters   filters
	cgroups   func() (cgroups, error)
	runtime   string // another program that carries out specs; "" is ourselves
	spares    spares
}

// New returns an executor for the snapshots of s.
func New(s *Snapshots) *Executor {
	e := &Executor{snapshots: s, cgroups: sync.OnceValues(findCgroups)}
	if s != nil && s.level.Mounts() { // without any it can still be asked what it could limit
		e.spares.flags = usualNamespaces
	}
	e.spares.cgroups = func() (cgroups, error) { return e.cgroups() }
	return e
}

// usualNamespaces are those of a step of which nothing special is asked.
const usualNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// Expect says that n steps are about to be run, so that what a step needs in any case can
// be made ready beside what comes before it. It is no promise: Close clears up what was
// made for steps that did not come.
func (e *Executor) Expect(n int) { e.spares.expect(n) }

// Close ends what waits for steps that have not come.
func (e *Executor) Close() { e.spares.close() }

// CanLimit returns why all processes of a step together cannot be limited here; then
// each of them is limited by itself, as far as that goes.
func (e *Executor) CanLimit(r Resources) error {
	all, err := e.cgroups()
	if err != nil {
		return err
	}
	g, err := all.make(r.spec())
	g.remove()
	return err
}

// Run runs p in the snapshot's merged tree and returns when the command and all
// that it started have ended and nothing of it is mounted any more. What it
// changed is in the snapshot's upper directory, also when it failed.
//
// A command that ends badly, or that cannot be started, gives an *ExitError.
// When ctx is done, everything is killed at once and the error is ctx's.
func (e *Executor) Run(ctx context.Context, sn *Snapshot, p Process, out IO) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !e.snapshots.level.Mounts() {
		return e.runChroot(ctx, sn, p, out)
	}
	st := &stubs{upper: sn.Upper()}
	ran, runErr := e.runMounted(ctx, sn, p, st, out)
	err := withCleanup(runErr, st.uncopy())
	if ran != nil && ran.OneID && !e.snapshots.copies() {
		err = withCleanup(err, sn.claimUpper(ran.claim()))
	}
	return err
}

// settleNetwork makes the files by which a process finds others, and finds what
// connects it, if something has to.
func (e *Executor) settleNetwork(p Process, h *Host) (c *connector, err error) {
	if p.Network == NetworkIsolated {
		if c, err = findConnector(); err != nil {
			return nil, err
		}
		if len(p.DNS.Servers) == 0 {
			p.DNS.Servers = []netip.Addr{netip.MustParseAddr(c.server)}
		}
	}
	if h.Hosts, err = e.snapshots.file(hostsFile(p)); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	if h.ResolvConf, err = e.snapshots.file(p.DNS.apply(readResolvConf(os.ReadFile))); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	return c, nil
}

// plan settles how p is run here.
func (e *Executor) plan(p Process) (*plan, error) {
	if p.Network != "" && p.Network != NetworkHost && !p.ownNetwork() {
		return nil, fmt.Errorf("run command: unsupported network mode %q", p.Network)
	}
	if err := checkHostname(p.hostname()); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	h, err := detectHost(p)
	if err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	h.Chroot = !e.snapshots.level.Mounts()
	connector, err := e.settleNetwork(p, &h)
	if err != nil {
		return nil, err
	}
	if h.Seccomp, err = p.seccomp(); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	spec := Spec(p, h)
	make := compile
	if h.Chroot {
		make = compileChroot
	}
	plan, err := make(spec)
	if err != nil {
		return nil, err
	}
	if plan.Filter, err = e.filters.compile(spec.Linux.Seccomp); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	plan.Scratch = e.snapshots.path(emptyDir)
	if err := plan.addTrees(p.Binds, p.Files); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	plan.arrange(len(defaultMounts(p, h)))
	plan.lasting = p.lasting()
	plan.connector = connector
	if e.runtime != "" {
		plan.external = &external{e.runtime, spec}
	}
	return plan, nil
}

// runMounted runs the process in a mount of the snapshot that ends with it, and gives the
// plan that it was run by, if there was one.
func (e *Executor) runMounted(ctx context.Context, sn *Snapshot, p Process, st *stubs, out IO) (ran *plan, err error) {
	err = e.inMount(sn, func(at mounted) (err error) {
		var j job
		if ran, j, err = e.prepare(p, at.root, out); err != nil {
			return err
		}
		err = runPlan(ctx, ran, at, st, j)
		if ran.OneID && sn.tree != nil {
			err = withCleanup(err, sn.tree.claim(ran.claim()))
		}
		return err
	})
	return ran, err
}

// prepare settles how p is run in a root filesystem.
func (e *Executor) prepare(p Process, root *rootfs.Root, out IO) (*plan, job, error) {
	if err := p.resolveUser(root); err != nil {
		return nil, job{}, err
	}
	if err := p.addCertificates(root); err != nil {
		return nil, job{}, fmt.Errorf("add certificates: %w", err)
	}
	plan, err := e.plan(p)
	if err != nil {
		return nil, job{}, err
	}
	if e.snapshots.level == LevelSingle {
		plan.haveOneID(slices.Concat(p.Groups, p.MoreGroups))
		if p.Security.Seccomp != Unconfined && !p.Security.NoNewPrivileges {
			if plan.Notify, err = e.filters.single(); err != nil {
				return nil, job{}, fmt.Errorf("run command: %w", err)
			}
		}
	}
	all, err := e.cgroups()
	return plan, job{out, all, &e.spares}, err
}

// inMount calls do with a mount of the snapshot, its mount points added.
func (e *Executor) inMount(sn *Snapshot, do func(mounted) error) error {
	if e.snapshots.copies() {
		return e.inCopy(sn, do)
	}
	points, err := e.snapshots.mountPoints()
	if err != nil {
		return err
	}
	mnt, err := e.snapshots.mountOver(sn, points)
	if err != nil {
		return err
	}
	defer mnt.Close()
	root, err := duplicate(mnt)
	if err != nil {
		return fmt.Errorf("open root filesystem: %w", err)
	}
	defer root.Close()
	return do(mounted{mnt, root})
}

// inCopy is inMount where there are no overlays.
func (e *Executor) inCopy(sn *Snapshot, do func(mounted) error) error {
	tree, err := sn.workOn(true)
	if err != nil {
		return err
	}
	if tree.before == nil {
		if err := tree.note(); err != nil {
			return err
		}
	}
	mnt, err := e.snapshots.detach(tree.root)
	if err != nil {
		return fmt.Errorf("mount snapshot: %w", err)
	}
	defer mnt.Close()
	root, err := duplicate(mnt)
	if err != nil {
		return fmt.Errorf("open root filesystem: %w", err)
	}
	defer root.Close()
	return withCleanup(do(mounted{mnt, root}), sn.collect())
}

// mounted is a root filesystem: the mount that the step gets, and our way into it.
type mounted struct {
	mnt  *os.File
	root *rootfs.Root
}

// lasting lists the directories that an image without them has after this step,
// as with BuildKit: of the usual mount points those that no mount of the step's own is
// on or below.
func (p Process) lasting() []string {
	var own []string
	for _, m := range p.Mounts {
		own = append(own, m.Destination)
	}
	for _, b := range p.Binds {
		own = append(own, b.Target)
	}
	for _, f := range p.Files {
		own = append(own, f.Target)
	}
	if p.ShmSize > 0 {
		own = append(own, "/dev/shm")
	}
	return slices.DeleteFunc([]string{"/proc", "/dev", "/sys"}, func(dir string) bool {
		return slices.ContainsFunc(own, func(target string) bool { return path.Clean(target) == dir || isBelow(target, dir) })
	})
}

// runPlan runs a plan in a root filesystem.
func runPlan(ctx context.Context, p *plan, at mounted, st *stubs, j job) error {
	uid, gid := p.owner()
	if err := at.root.MkdirAll(p.Cwd, 0o755, uid, gid); err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	for _, dir := range p.lasting {
		if err := at.root.MkdirAll(dir, 0o755, 0, 0); err != nil {
			return fmt.Errorf("make mount point %s: %w", dir, err)
		}
	}
	err := st.make(at.root, p.Mounts)
	if err == nil {
		err = j.start(ctx, p, at.mnt)
	}
	if p.ReadonlyRoot {
		return err // it is read-only for us too by now
	}
	return withCleanup(err, st.remove(at.root))
}

// withCleanup adds what went wrong in cleaning up, and leaves err itself as it is.
func withCleanup(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return errors.Join(err, cleanup)
}

func duplicate(mnt *os.File) (*rootfs.Root, error) {
	fd, err := unix.Openat(int(mnt.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return rootfs.FromFile(os.NewFile(uintptr(fd), "/")), nil
}
