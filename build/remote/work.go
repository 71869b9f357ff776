package remote

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// work is a directory for what is being made. It is flocked as long as somebody
// works in it.
type work struct {
	dir  string
	lock *os.File
}

func (c *Client) newWork() (*work, error) {
	parent := filepath.Join(c.o.Dir, workDir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	for {
		dir, err := os.MkdirTemp(parent, "")
		if err != nil {
			return nil, err
		}
		w, err := claim(dir)
		if w != nil || err != nil {
			return w, err
		}
	}
}

// claim locks a directory of work. It gives nil when somebody works in it, or it is gone.
func claim(dir string) (*work, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, ignoreGone(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, nil
	}
	if _, err := os.Lstat(dir); err != nil { // removed before it was locked
		f.Close()
		return nil, ignoreGone(err)
	}
	return &work{dir, f}, nil
}

// remove ends the work.
func (w *work) remove() error {
	defer w.lock.Close()
	return os.RemoveAll(w.dir)
}

// end ends work whose result is elsewhere. What cannot be removed, a prune will.
func (w *work) end() { _ = w.remove() }

// discard takes something that is in its place out of it and removes it.
func (c *Client) discard(path string) error {
	w, err := c.newWork()
	if err != nil {
		return err
	}
	if err := ignoreGone(os.Rename(path, filepath.Join(w.dir, "discarded"))); err != nil {
		w.end()
		return err
	}
	return w.remove()
}
