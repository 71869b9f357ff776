// Package usage measures what files take on the disk: the blocks that they
// hold, not the length that they show. A sparse file takes what it has, a small
// one a whole block, and a file with several names counts once.
package usage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// blockSize is the unit of st_blocks, whatever the file system's own is.
const blockSize = 512

// Of is what one file or directory takes, without what is in it.
func Of(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * blockSize
	}
	return info.Size()
}

// inode identifies a file that may have several names.
type inode struct{ dev, ino uint64 }

// Meter adds up what trees take. Its zero value is ready, for one goroutine.
type Meter struct {
	// Bytes is the sum so far, Files how many files and directories it is of.
	Bytes, Files int64

	// Skip, if it is set, chooses what is left out, with all below it.
	Skip func(path string) bool

	seen map[inode]bool
}

// Tree adds a directory and everything below it, or a single file. What is on
// another file system is left out, and so is what vanishes meanwhile.
func (m *Meter) Tree(ctx context.Context, path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return gone(&os.PathError{Op: "lstat", Path: path, Err: err})
	}
	m.add(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	return m.below(ctx, path, st.Dev)
}

func (m *Meter) below(ctx context.Context, dir string, dev uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := m.entries(dir, dev)
	if err != nil {
		return gone(err)
	}
	for _, name := range names {
		if err := m.below(ctx, dir+"/"+name, dev); err != nil {
			return err
		}
	}
	return nil
}

// entries adds what is in a directory and gives the names of the directories.
func (m *Meter) entries(dir string, dev uint64) (dirs []string, err error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			if err := gone(&os.PathError{Op: "lstat", Path: dir + "/" + name, Err: err}); err != nil {
				return nil, err
			}
			continue
		}
		if st.Dev != dev || m.Skip != nil && m.Skip(dir+"/"+name) {
			continue
		}
		m.add(&st)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			dirs = append(dirs, name)
		}
	}
	return dirs, nil
}

func (m *Meter) add(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := inode{st.Dev, st.Ino}
		if m.seen[id] {
			return
		}
		if m.seen == nil {
			m.seen = make(map[inode]bool)
		}
		m.seen[id] = true
	}
	m.Files++
	m.Bytes += st.Blocks * blockSize
}

// gone drops the error of a file that was removed meanwhile.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	return err
}
