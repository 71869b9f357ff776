package conformance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// WriteDir makes a tree below dir, which is there. Owners are left out: in a
// context they mean nothing.
func (t Tree) WriteDir(dir string) error {
	for _, e := range t {
		name := filepath.Join(dir, e.Path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := e.create(dir, name); err != nil {
			return fmt.Errorf("make %q: %w", e.Path, err)
		}
	}
	for i := len(t) - 1; i >= 0; i-- { // children first: they change the times of their directories
		if err := t[i].finish(filepath.Join(dir, t[i].Path)); err != nil {
			return fmt.Errorf("make %q: %w", t[i].Path, err)
		}
	}
	return nil
}

func (e Entry) create(dir, name string) error {
	switch e.Type {
	case "dir":
		return os.MkdirAll(name, 0o755)
	case "link":
		return os.Symlink(e.Target, name)
	case "fifo":
		return unix.Mkfifo(name, 0o600)
	case "socket":
		return makeSocket(name)
	case "char":
		return unix.Mknod(name, unix.S_IFCHR, int(unix.Mkdev(uint32(e.Major), uint32(e.Minor))))
	case "block":
		return unix.Mknod(name, unix.S_IFBLK, int(unix.Mkdev(uint32(e.Major), uint32(e.Minor))))
	case "file":
	default:
		return fmt.Errorf("a context has no %s", e.Type)
	}
	if e.Same != "" {
		return os.Link(filepath.Join(dir, e.Same), name)
	}
	if len(e.Data) > maxText && len(bytes.Trim(e.Data, "\x00")) == 0 {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			return err
		}
		return os.Truncate(name, int64(len(e.Data)))
	}
	return os.WriteFile(name, e.Data, 0o600)
}

// makeSocket leaves a socket that nobody listens on. The name goes by the
// directory, for sockets have short names only.
func makeSocket(name string) error {
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(name))})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	return l.Close()
}

func (e Entry) finish(name string) error {
	if e.Type == "link" || e.Same != "" {
		return e.touch(name)
	}
	for k, v := range e.Xattrs {
		if err := unix.Lsetxattr(name, k, []byte(v), 0); err != nil {
			return err
		}
	}
	if err := unix.Chmod(name, uint32(e.Mode)); err != nil {
		return err
	}
	return e.touch(name)
}

func (e Entry) touch(name string) error {
	if e.Time.IsZero() {
		return nil
	}
	ts := unix.NsecToTimespec(e.Time.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

var tarTypes = map[string]byte{
	"dir": tar.TypeDir, "file": tar.TypeReg, "link": tar.TypeSymlink,
	"char": tar.TypeChar, "block": tar.TypeBlock, "fifo": tar.TypeFifo,
}

// WriteTar writes a tree as a tar, its lines in their order.
func (t Tree) WriteTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	for i, e := range t {
		h := tar.Header{
			Typeflag: tarTypes[e.Type], Name: e.Path, Mode: e.Mode, Uid: e.UID, Gid: e.GID, Uname: e.User, Gname: e.Group,
			Size: int64(len(e.Data)), Linkname: e.Target, Devmajor: e.Major, Devminor: e.Minor, ModTime: e.Time,
		}
		if h.Typeflag == 0 {
			return fmt.Errorf("%s: a tar has no %s", e.Path, e.Type)
		}
		if e.Same != "" {
			t[:i].linkTo(&h, e.Same)
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1e9, 0) // the same bytes each time
		}
		if e.Type == "dir" && !strings.HasSuffix(h.Name, "/") {
			h.Name += "/"
		}
		for k, v := range e.Xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if e.Time.Nanosecond() != 0 {
			h.Format = tar.FormatPAX
		}
		if err := tw.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := tw.Write(e.Data); err != nil {
			return err
		}
	}
	return tw.Close()
}

// linkTo makes a header that of a hard link, with the metadata of the file:
// some builders set them again.
func (t Tree) linkTo(h *tar.Header, name string) {
	for i, first := range t {
		if first.Path == name {
			h.Mode, h.Uid, h.Gid, h.ModTime = first.Mode, first.UID, first.GID, first.Time
			if first.Same != "" {
				t[:i].linkTo(h, first.Same)
			}
		}
	}
	h.Typeflag, h.Linkname = tar.TypeLink, name
}

// errNeeds is in the error for what this machine does not have.
var errNeeds = errors.New("missing here")

// archive is a tar of the tree, compressed as the name's ending says.
func (t Tree) archive(name string) ([]byte, error) {
	var buf bytes.Buffer
	if err := t.WriteTar(&buf); err != nil {
		return nil, err
	}
	return compress(buf.Bytes(), path.Ext(name))
}

func compress(data []byte, ext string) ([]byte, error) {
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case ".gz", ".tgz":
		w = gzip.NewWriter(&buf)
	case ".zst":
		w, err = zstd.NewWriter(&buf)
	case ".xz":
		w, err = xz.NewWriter(&buf)
	case ".bz2":
		return bzip2(data)
	default:
		return data, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func bzip2(data []byte) ([]byte, error) {
	if _, err := exec.LookPath("bzip2"); err != nil {
		return nil, fmt.Errorf("bzip2: %w", errNeeds)
	}
	cmd := exec.Command("bzip2", "-c")
	cmd.Stdin = bytes.NewReader(data)
	return cmd.Output()
}
