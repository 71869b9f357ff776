package image

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// operation is one kind of change to the store's directory.
type operation string

const (
	opMkdir   operation = "mkdir"
	opCreate  operation = "create"
	opWrite   operation = "write"
	opSync    operation = "sync"
	opSyncDir operation = "sync directory"
	opRename  operation = "rename"
	opChmod   operation = "chmod"
	opTouch   operation = "touch"
	opRemove  operation = "remove"
	opLink    operation = "link"
)

// disk makes every change to the store's directory. The zero value is the
// real thing; tests set the fields to stop or fail it at any operation.
type disk struct {
	before func(op operation, paths ...string) error
	boot   func() string
	flush  func(*os.File) error
}

func (d disk) ask(op operation, paths ...string) error {
	if d.before == nil {
		return nil
	}
	return d.before(op, paths...)
}

// bootID tells one run of the kernel from the next; empty when it is unknown.
func (d disk) bootID() string {
	if d.boot != nil {
		return d.boot()
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func (d disk) mkdir(path string, perm fs.FileMode) error {
	if err := d.ask(opMkdir, path); err != nil {
		return err
	}
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// temp makes a new file in dir and holds a lock on it for as long as it is
// open, so that a prune can tell it from one whose writer has died.
func (d disk) temp(dir string) (*os.File, error) {
	for {
		var random [12]byte
		_, _ = rand.Read(random[:])
		path := filepath.Join(dir, tempPrefix+hex.EncodeToString(random[:]))
		if err := d.ask(opCreate, path); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, err
		}
		ok, err := lockNew(f)
		if ok {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// lockNew locks a file that was just made. It is not ok when a prune found
// the file in between and has removed it.
func lockNew(f *os.File) (ok bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, err
	}
	return st.Nlink > 0, nil
}

func (d disk) write(f *os.File, p []byte) error {
	if err := d.ask(opWrite, f.Name()); err != nil {
		return err
	}
	_, err := f.Write(p)
	return err
}

func (d disk) sync(f *os.File) error {
	if err := d.ask(opSync, f.Name()); err != nil {
		return err
	}
	return d.fsync(f)
}

func (d disk) fsync(f *os.File) error {
	if d.flush != nil {
		return d.flush(f)
	}
	return f.Sync()
}

// writeBack asks the kernel to begin to write a part of a file to the disk. Nothing is durable for it, and where it
// cannot be asked nothing is lost.
func (d disk) writeBack(f *os.File, from, to int64) {
	_ = unix.SyncFileRange(int(f.Fd()), from, to-from, unix.SYNC_FILE_RANGE_WRITE)
}

func (d disk) syncDir(path string) error {
	if err := d.ask(opSyncDir, path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = d.fsync(f)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // some network file systems cannot sync directories
	}
	return err
}

func (d disk) rename(from, to string) error {
	if err := d.ask(opRename, from, to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// renameNew renames unless the new name is taken, which is fs.ErrExist.
func (d disk) renameNew(from, to string) error {
	if err := d.ask(opRename, from, to); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.ENOTSUP) {
		return wrapLink("rename", from, to, err)
	}
	// A file system without that call: a hard link does not replace either.
	err = os.Link(from, to)
	if err == nil {
		return os.Remove(from)
	}
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return wrapLink("rename", from, to, fs.ErrExist)
	}
	return os.Rename(from, to)
}

func wrapLink(op, from, to string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: from, New: to, Err: err}
}

func (d disk) fchmod(f *os.File, mode fs.FileMode) error {
	if err := d.ask(opChmod, f.Name()); err != nil {
		return err
	}
	return f.Chmod(mode)
}

func (d disk) touch(path string, t time.Time) error {
	if err := d.ask(opTouch, path); err != nil {
		return err
	}
	return os.Chtimes(path, t, t)
}

// link gives a file a second name.
func (d disk) link(from, to string) error {
	if err := d.ask(opLink, from, to); err != nil {
		return err
	}
	return os.Link(from, to)
}

func (d disk) remove(path string) error {
	if err := d.ask(opRemove, path); err != nil {
		return err
	}
	return os.Remove(path)
}

func (d disk) removeAll(path string) error {
	if err := d.ask(opRemove, path); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// replace makes path a file with that content, durably and in one step.
func (d disk) replace(tempDir, path string, content []byte) error {
	if err := d.replaceWith(tempDir, path, content, d.sync); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(path))
}

// replaceSoon is replace for what may be lost when power fails.
func (d disk) replaceSoon(tempDir, path string, content []byte) error {
	return d.replaceWith(tempDir, path, content, func(*os.File) error { return nil })
}

func (d disk) replaceWith(tempDir, path string, content []byte, sync func(*os.File) error) error {
	f, err := d.temp(tempDir)
	if err != nil {
		return err
	}
	defer f.Close()
	err = d.write(f, content)
	if err == nil {
		err = sync(f)
	}
	if err == nil {
		err = d.rename(f.Name(), path)
	}
	if err != nil {
		_ = d.remove(f.Name())
	}
	return err
}
