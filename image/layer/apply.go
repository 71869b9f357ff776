package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocibuild/ocibuild/image/rootfs"
)

// Format is how Apply carries out deletions.
type Format int

const (
	// Overlay makes a directory that overlayfs can use as a lower one: a whiteout
	// becomes a character device 0:0, an opaque marker an attribute of its
	// directory. The directory that is applied to must be empty.
	Overlay Format = iota
	// Merge carries deletions out in the tree that is there.
	Merge
)

// ErrNeedsLower says that a tar cannot be made into an overlay directory on its
// own: the parent directory of an entry or the target of a hard link is in a layer
// below. It can be applied in Merge format to the layers below it.
var ErrNeedsLower = errors.New("layer depends on the layers below it")

// ApplyOptions are the choices of Apply. The zero value makes an overlay directory
// for mounts of the initial user namespace.
type ApplyOptions struct {
	Format Format
	// UserXattr marks opaque directories for overlays that are mounted with userxattr.
	UserXattr bool
	// SkipDevices leaves out character and block devices, which cannot be made in a
	// user namespace. They are in the TOC all the same.
	SkipDevices bool
	// Owner gives the owner to put on disk for the one that the tar names. The default
	// is the same. The TOC has the tar's.
	Owner func(uid, gid int) (int, int)
	// NoteOwners writes the tar's owners, where they are not root, into attributes of files and
	// directories, from which Diff has them again.
	NoteOwners bool
}

// Apply unpacks an uncompressed layer tar into the directory root, and reads the
// tar to its end. Nothing outside root is touched, whatever the tar says. Owners,
// modes, times and attributes are restored. After an error root holds a part of
// the layer, and is of no use.
func Apply(ctx context.Context, r io.Reader, root string, o ApplyOptions) (Digests, *TOC, error) {
	dir, err := rootfs.Open(root)
	if err != nil {
		return Digests{}, nil, fmt.Errorf("apply layer: %w", err)
	}
	defer dir.Close()
	s := newStream(ctx, r)
	defer s.Close()
	a := newApplier(dir, o)
	defer a.dirs.flush(nil)
	if o.Format == Overlay {
		// An access list of the host's own that all files here would inherit.
		_ = unix.Fremovexattr(dir.FD(), defaultACL)
	}
	err = a.all(&tarReader{tar: tar.NewReader(s), offset: func() int64 { return s.n }})
	if filled := a.filler.finish(a.toc.Entries); filled != nil && (err == nil || errors.Is(err, errFiller)) {
		err = filled
	}
	if err == nil {
		err = a.finish()
	}
	if err != nil {
		return Digests{}, nil, fmt.Errorf("apply layer: %w", err)
	}
	digests, err := s.finish()
	if err != nil {
		return Digests{}, nil, fmt.Errorf("apply layer: read tar: %w", err)
	}
	content := newContentHash()
	for i := range a.toc.Entries {
		content.add(&a.toc.Entries[i])
	}
	digests.Content = content.digest()
	return digests, &a.toc, nil
}

// applier puts the entries of one tar in place.
type applier struct {
	root    *rootfs.Root
	options ApplyOptions
	opaque  string // the attribute of an opaque directory
	dirs    dirCache
	copier  *copier
	filler  *filler
	toc     TOC
	// made holds the real paths of what the tar has put there and of the directories
	// above, in Merge format: whiteouts spare it.
	made map[string]bool
	// hiding holds the real paths of opaque directories, and whiteouts is set when there
	// is a whiteout, in Overlay format.
	hiding    map[string]bool
	whiteouts bool
	// late is what is left to do to directories when everything is in them.
	late []lateDir
}

// lateDir is a directory whose time is set at the end, and with it what would be in
// the way before: a mode that keeps its owner out, an access list that new files
// would inherit.
type lateDir struct {
	path  string
	mtime unix.Timespec
	mode  int64 // -1 if it is as it should be
	acl   string
}

func newApplier(root *rootfs.Root, o ApplyOptions) *applier {
	a := &applier{
		root:    root,
		options: o,
		opaque:  trustedOverlay + "opaque",
		copier:  newCopier(),
		filler:  newFiller(),
		made:    make(map[string]bool),
		hiding:  make(map[string]bool),
	}
	if o.UserXattr {
		a.opaque = userOverlay + "opaque"
	}
	if a.options.Owner == nil {
		a.options.Owner = func(uid, gid int) (int, int) { return uid, gid }
	}
	return a
}

// all applies every entry.
func (a *applier) all(r *tarReader) error {
	for {
		e, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.entry(&e, r.tar); err != nil {
			return fmt.Errorf("entry %q: %w", e.Name, err)
		}
		a.toc.Entries = append(a.toc.Entries, e)
	}
}

// entry applies one entry. The digest is set then, or by the filler.
func (a *applier) entry(e *Entry, body io.Reader) error {
	if e.Name == "." {
		return a.rootDir(e)
	}
	dir, base := splitName(e.Name)
	up, err := a.parent(dir, e.ModTime)
	if err != nil {
		return err
	}
	if target, ok := e.Whiteout(); ok {
		_, base := splitName(target)
		return a.whiteout(up, base)
	}
	if _, ok := e.Opaque(); ok {
		return a.hideBelow(up)
	}
	err = a.create(up, base, e, body)
	if err == unix.EEXIST {
		if err = a.clear(up, base, e); err == nil {
			err = a.create(up, base, e, body)
		}
	}
	if err != nil {
		return err
	}
	a.mark(joinName(up.real, base))
	return nil
}

// mark notes that the tar has put something at a real path.
func (a *applier) mark(real string) {
	if a.options.Format == Merge {
		a.made[real] = true
	}
}

// rootDir takes the root's own metadata from the tar.
func (a *applier) rootDir(e *Entry) error {
	if err := a.describeDir(a.root.FD(), e); err != nil {
		return err
	}
	a.mark("")
	a.later("", e)
	return nil
}

// later notes what finish does to a directory of the tar.
func (a *applier) later(real string, e *Entry) {
	d := lateDir{path: real, mtime: timespec(e.ModTime), mode: -1, acl: e.Xattrs[defaultACL]}
	if e.Mode&0o700 != 0o700 {
		d.mode = e.Mode
	}
	a.late = append(a.late, d)
}

// finish sets what has to wait until directories are complete. A directory that the
// tar itself has replaced meanwhile is passed over.
func (a *applier) finish() error {
	a.dirs.flush(nil)
	for i := range a.late {
		d := &a.late[i]
		fd, err := a.root.OpenPlain(d.path, unix.O_RDONLY|unix.O_DIRECTORY)
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			continue
		}
		if err == nil {
			err = d.set(fd)
			unix.Close(fd)
		}
		if err != nil {
			return fmt.Errorf("finish directory %q: %w", d.path, err)
		}
	}
	return nil
}

func (d *lateDir) set(fd int) error {
	if d.mode >= 0 {
		if err := unix.Fchmod(fd, uint32(d.mode)); err != nil {
			return err
		}
	}
	if d.acl != "" {
		err := unix.Fsetxattr(fd, defaultACL, []byte(d.acl), 0)
		if err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("set attribute %s: %w", defaultACL, err)
		}
	}
	return setTime(fd, ".", d.mtime)
}

// setTime sets both times of name in the directory fd.
func setTime(fd int, name string, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(fd, name, []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
