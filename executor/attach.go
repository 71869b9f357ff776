package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Attachment is a read-only mount of committed layers at a place of the file
// system. It stays when the process ends, and Prune keeps its layers for as long
// as it does.
type Attachment struct {
	Dir    string            `json:"dir"`
	Layers []string          `json:"layers"` // bottom first
	Labels map[string]string `json:"labels,omitempty"`
}

// Attach mounts committed layers, bottom first, at an existing directory. It takes
// CAP_SYS_ADMIN, and what a process in a mount namespace of its own attaches ends
// with that.
func (s *Snapshots) Attach(ctx context.Context, a Attachment) error {
	dir, err := filepath.Abs(a.Dir)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	a.Dir = dir
	view, err := s.View(ctx, a.Layers)
	if err != nil {
		return fmt.Errorf("attach at %s: %w", dir, err)
	}
	defer view.Close()
	// The note goes first: no prune may come between the mount and it.
	note, err := s.noteAttachment(a)
	if err != nil {
		return fmt.Errorf("attach at %s: %w", dir, err)
	}
	err = unix.MoveMount(int(view.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return errors.Join(fmt.Errorf("attach at %s: %w", dir, err), os.Remove(note))
	}
	return nil
}

func (s *Snapshots) noteAttachment(a Attachment) (path string, err error) {
	text, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	path = s.notePath(a.Dir)
	return path, s.writeFile(path, text, os.Rename)
}

func (s *Snapshots) notePath(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return s.path(attachedDir, hex.EncodeToString(sum[:12]))
}

// Attachments lists what is attached, by directory. Notes of mounts that are gone,
// as after a reboot, are dropped.
func (s *Snapshots) Attachments() ([]Attachment, error) {
	names, err := readNames(s.path(attachedDir))
	if err != nil {
		return nil, fmt.Errorf("list attachments: %w", err)
	}
	var list []Attachment
	for _, name := range names {
		text, err := os.ReadFile(s.path(attachedDir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list attachments: %w", err)
		}
		var a Attachment
		if json.Unmarshal(text, &a) != nil || !isOverlay(a.Dir) {
			if err := os.Remove(s.path(attachedDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("drop attachment: %w", err)
			}
			continue
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Attachment) int { return strings.Compare(a.Dir, b.Dir) })
	return list, nil
}

// isOverlay reports whether an overlay is mounted at dir.
func isOverlay(dir string) bool {
	var stat unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, 0, &stat) != nil || stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false
	}
	var super unix.Statfs_t
	return unix.Statfs(dir, &super) == nil && super.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// Detach takes away what Attach has mounted at dir. What is in use there is
// unix.EBUSY, a directory where nothing is attached fs.ErrNotExist.
func (s *Snapshots) Detach(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	if _, err := os.Lstat(s.notePath(dir)); err != nil {
		return fmt.Errorf("detach %s: %w", dir, fs.ErrNotExist)
	}
	if isOverlay(dir) {
		if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("detach %s: %w", dir, err)
		}
	}
	if isOverlay(dir) {
		return nil // one more is mounted below the one that is gone
	}
	if err := os.Remove(s.notePath(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("detach %s: %w", dir, err)
	}
	return nil
}

// attached gives the names of the layers that attachments need.
func (s *Snapshots) attached() (map[string]bool, error) {
	list, err := s.Attachments()
	names := make(map[string]bool)
	for _, a := range list {
		for _, name := range a.Layers {
			names[name] = true
		}
	}
	return names, err
}
