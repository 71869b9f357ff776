package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"golang.org/x/sys/unix"
)

// LeakError is a secret that a step has left where it stays.
type LeakError struct {
	ID string // of the secret
	// Where is a path in the root filesystem, or what else it was found in.
	Where string
	Form  string // how it is encoded there; "" is not at all
}

// Error names the secret and the place, never a byte of it.
func (e *LeakError) Error() string {
	form := ""
	if e.Form != "" {
		form = ", as " + e.Form
	}
	return fmt.Sprintf("secret %s is in %s%s", e.ID, e.Where, form)
}

// seeker looks for secrets. It is for one goroutine at a time.
type seeker struct {
	needles []needle
	longest int
	flat    []byte // see withoutBlanks
}

func newSeeker(secrets map[string][]byte) *seeker {
	s := &seeker{}
	for _, id := range slices.Sorted(maps.Keys(secrets)) {
		s.needles = append(s.needles, needles(id, secrets[id])...)
	}
	for _, n := range s.needles {
		s.longest = max(s.longest, len(n.text))
	}
	return s
}

// in finds the first of the secrets in a whole text.
func (s *seeker) in(text []byte) *needle { return s.inPart(text, true, true) }

// inPart finds the first of the secrets in a part of a text, which may be its
// beginning or its end.
func (s *seeker) inPart(text []byte, first, last bool) *needle {
	flat := s.withoutBlanks(text)
	for i := range s.needles {
		n := &s.needles[i]
		if n.flat {
			if bytes.Contains(flat, n.text) {
				return n
			}
			continue
		}
		for at := 0; ; at++ {
			next := bytes.Index(text[at:], n.text)
			if next < 0 {
				break
			}
			at += next
			if !n.word || edge(text, at-1, first) && edge(text, at+len(n.text), last) {
				return n
			}
		}
	}
	return nil
}

// withoutBlanks joins what programs that encode break into lines. It is valid until the
// next call.
func (s *seeker) withoutBlanks(text []byte) []byte {
	if !slices.ContainsFunc(s.needles, func(n needle) bool { return n.flat }) {
		return nil
	}
	s.flat = s.flat[:0]
	for _, c := range text {
		if c != '\n' && c != '\r' && c != ' ' && c != '\t' {
			s.flat = append(s.flat, c)
		}
	}
	return s.flat
}

// keep is how much of the end of one part of a text has to stand at the beginning of the
// next, so that nothing is overlooked: the longest, with blanks in it, and one before it.
func (s *seeker) keep() int { return 2*s.longest + 1 }

// edge reports whether what is at i is no part of a word; past an end only if that is
// known to be one.
func edge(text []byte, i int, end bool) bool {
	if i < 0 || i >= len(text) {
		return end
	}
	return !isWord(text[i])
}

// seekBuffer is how much is read at once.
const seekBuffer = 256 << 10

// inReader finds the first of the secrets in what r gives, in constant memory.
func (s *seeker) inReader(ctx context.Context, r io.Reader) (*needle, error) {
	keep := s.keep()
	buf := make([]byte, 0, keep+seekBuffer)
	for first := true; ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return nil, err
		}
		if found := s.inPart(buf, first, last); found != nil || last {
			return found, nil
		}
		tail := min(keep, len(buf))
		first = first && tail == len(buf)
		copy(buf, buf[len(buf)-tail:])
		buf = buf[:tail]
	}
}

// inFile finds the first of the secrets in a file. Its holes hold none.
func (s *seeker) inFile(ctx context.Context, path string) (*needle, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for at := int64(0); ; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil, nil
		}
		if err != nil { // this file system does not tell
			return s.inReader(ctx, f)
		}
		if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
			return nil, err
		}
		found, err := s.inReader(ctx, io.NewSectionReader(f, from, at-from))
		if found != nil || err != nil {
			return found, err
		}
	}
}

// inTree finds the first of the secrets in what a step has changed: the contents,
// names, targets and attributes in its upper directory.
func (s *seeker) inTree(ctx context.Context, dir string) (leak *LeakError, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		found := s.in([]byte(filepath.Base(name)))
		if found != nil {
			name = "the name of a file in " + filepath.Dir(name)
		}
		if found == nil {
			found, err = s.inEntry(ctx, path, e)
		}
		if err != nil {
			return err
		}
		if found != nil {
			leak = &LeakError{ID: found.id, Where: name, Form: found.form}
			return fs.SkipAll
		}
		return nil
	})
	return leak, err
}

func (s *seeker) inEntry(ctx context.Context, path string, e fs.DirEntry) (*needle, error) {
	switch {
	case e.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return s.in([]byte(target)), err
	case e.Type().IsRegular():
		if found, err := s.inFile(ctx, path); found != nil || err != nil {
			return found, err
		}
	case !e.IsDir():
		return nil, nil
	}
	return s.inAttributes(path)
}

func (s *seeker) inAttributes(path string) (*needle, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err == unix.ENOTSUP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	value := make([]byte, 64<<10)
	for name := range bytes.SplitSeq(bytes.TrimRight(names[:n], "\x00"), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		size, err := unix.Lgetxattr(path, string(name), value)
		if err != nil {
			continue // it is gone, or not ours to read
		}
		if found := s.in(value[:size]); found != nil {
			return found, nil
		}
	}
	return nil, nil
}

// inConfig finds the first of the secrets in what an image says of itself.
func (s *seeker) inConfig(c *image.Config) *LeakError {
	rc := &c.Config
	list := slices.Concat(rc.Env, rc.Cmd, rc.Entrypoint, rc.OnBuild, rc.Shell, []string{rc.User, rc.WorkingDir, rc.StopSignal, c.Author})
	for k, v := range rc.Labels {
		list = append(list, k, v)
	}
	if rc.Healthcheck != nil {
		list = append(list, rc.Healthcheck.Test...)
	}
	for _, text := range list {
		if n := s.in([]byte(text)); n != nil {
			return &LeakError{ID: n.id, Where: "the image's config", Form: n.form}
		}
	}
	for _, h := range c.History {
		if n := s.in([]byte(h.CreatedBy + "\n" + h.Comment)); n != nil {
			return &LeakError{ID: n.id, Where: "the image's history", Form: n.form}
		}
	}
	return nil
}

// leakHint is what to do about a leak.
const leakHint = "use the secret where it is mounted and leave no copy; --allow-secret-leak builds in spite of it"
