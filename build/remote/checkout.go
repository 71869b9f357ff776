package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/parser"
	"golang.org/x/sys/unix"
)

// filesDir is where a checkout's files are in its place.
const filesDir = "files"

// Checkout gives the directory with the tree's files, which must not be changed.
// It fetches what is not here.
func (t *Tree) Checkout(ctx context.Context, report Report) (string, error) {
	if report == nil {
		report = func(string, int64, int64) {}
	}
	at := t.c.place(treesDir, t.Identity())
	files := filepath.Join(at.path, filesDir)
	unlock, err := t.c.o.Locks.Lock(ctx, at.lock)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Lstat(files); err == nil {
		at.use()
		return files, nil
	}
	if err := t.make(ctx, at, report); err != nil {
		return "", err
	}
	at.use()
	return files, nil
}

// make fetches the commit and puts its files in their place. A repository that
// was here before may be damaged: then it is fetched anew.
func (t *Tree) make(ctx context.Context, at place, report Report) error {
	repo := t.c.place(reposDir, t.repository())
	unlock, err := t.c.o.Locks.Lock(ctx, repo.lock)
	if err != nil {
		return err
	}
	defer unlock()
	_, gone := os.Lstat(repo.path)
	err = t.makeFrom(ctx, repo, at, report)
	var bad *gitError
	if gone == nil && errors.As(err, &bad) && bad.damage() {
		if err := t.c.discard(repo.path); err != nil {
			return err
		}
		err = t.makeFrom(ctx, repo, at, report)
	}
	repo.use()
	return t.failed(err)
}

// repository tells the kept repositories apart.
func (t *Tree) repository() string { return t.remote.url + "\n" + strconv.Itoa(len(t.head.object)) }

func (t *Tree) makeFrom(ctx context.Context, repo, at place, report Report) error {
	report("fetch "+t.remote.shown, 0, 0)
	if err := t.fetch(ctx, repo.path); err != nil {
		return err
	}
	work, err := t.c.newWork()
	if err != nil {
		return err
	}
	defer work.end()
	report("check out "+t.head.object, 0, 0)
	files, err := t.checkout(ctx, repo.path, work.dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(at.path, 0o700); err != nil {
		return err
	}
	if err := writeSum(ctx, at, files); err != nil {
		return err
	}
	return os.Rename(files, filepath.Join(at.path, filesDir))
}

// checkout makes the files in a directory, and gives the directory that they are in.
func (t *Tree) checkout(ctx context.Context, repo, dir string) (string, error) {
	files := filepath.Join(dir, filesDir)
	if err := t.clone(ctx, repo, files); err != nil {
		return "", err
	}
	if _, err := t.c.run(ctx, local(files, "checkout", "-q", "--force", "--detach", t.head.object)); err != nil {
		return "", err
	}
	if info, err := os.Lstat(filepath.Join(files, ".gitmodules")); t.submodules() && err == nil && info.Mode().IsRegular() {
		if err := t.updateSubmodules(ctx, files); err != nil {
			return "", err
		}
	}
	made, err := t.commitTime(ctx, files)
	if err != nil {
		return "", err
	}
	if !t.keepsGit() {
		if err := dropGit(files); err != nil {
			return "", err
		}
	}
	if files, err = t.subdir(files); err != nil || made.IsZero() {
		return files, err
	}
	return files, setTimes(files, made)
}

// clone makes the repository of a checkout. One that is kept has all that it
// needs, and the reference by its name.
func (t *Tree) clone(ctx context.Context, repo, files string) error {
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(files, 0o755); err != nil { // whatever the umask
		return err
	}
	if _, err := t.c.run(ctx, local(files, append([]string{"init", "-q", "--template="}, t.format()...)...)); err != nil {
		return err
	}
	if _, err := t.c.run(ctx, local(files, "remote", "add", "origin", t.remote.url)); err != nil {
		return err
	}
	if !t.keepsGit() {
		info := filepath.Join(files, ".git/objects/info")
		if err := os.MkdirAll(info, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(info, "alternates"), []byte(filepath.Join(repo, "objects")+"\n"), 0o644)
	}
	spec := keptRef(t.head.object)
	if t.head.ref != "" {
		spec += ":" + t.head.ref
	}
	if _, err := t.c.run(ctx, local(files, "fetch", "-q", "-u", "--no-tags", "--depth=1", "--", fileURL(repo), spec)); err != nil {
		return err
	}
	return ignoreGone(os.Remove(filepath.Join(files, ".git/FETCH_HEAD")))
}

func fileURL(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

// format are the arguments for a repository with the kind of object names that this one has.
func (t *Tree) format() []string {
	if len(t.head.object) == 64 {
		return []string{"--object-format=sha256"}
	}
	return nil
}

// updateSubmodules fetches the submodules: of each its commit alone, if its server
// lets us.
func (t *Tree) updateSubmodules(ctx context.Context, files string) error {
	args := []string{"submodule", "-q", "update", "--init", "--recursive", "--depth=1"}
	err := t.passing(ctx, t.remote.command(args...).in(files))
	var bad *gitError
	if errors.As(err, &bad) && bad.says("depth", "shallow") {
		err = t.passing(ctx, t.remote.command(args[:len(args)-1]...).in(files))
	}
	if err != nil {
		return fmt.Errorf("submodules: %w", err)
	}
	return nil
}

// commitTime is the time that the files shall have, or zero for none.
func (t *Tree) commitTime(ctx context.Context, files string) (time.Time, error) {
	if t.git.MTime != parser.MTimeCommit {
		return time.Time{}, nil
	}
	return t.timeIn(ctx, files)
}

// Time is when the commit was made. It fetches the commit unless it is here.
func (t *Tree) Time(ctx context.Context) (time.Time, error) {
	repo := t.c.place(reposDir, t.repository())
	unlock, err := t.c.o.Locks.Lock(ctx, repo.lock)
	if err != nil {
		return time.Time{}, err
	}
	defer unlock()
	if err := t.fetch(ctx, repo.path); err != nil {
		return time.Time{}, t.failed(err)
	}
	repo.use()
	return t.timeIn(ctx, repo.path)
}

// timeIn reads the commit's time in a repository that has it.
func (t *Tree) timeIn(ctx context.Context, repo string) (time.Time, error) {
	out, err := t.c.run(ctx, local(repo, "cat-file", "commit", t.head.object+"^{commit}"))
	if err != nil {
		return time.Time{}, err
	}
	m := committerPattern().FindStringSubmatch(out)
	if m == nil {
		return time.Time{}, fmt.Errorf("commit %s has no time", t.head.object)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	return time.Unix(n, 0), err
}

var committerPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^committer .* (-?\d+) [-+]\d{4}$`) })

// subdir gives the directory of the checkout that is meant. A link does not lead to one.
func (t *Tree) subdir(files string) (string, error) {
	dir := files
	for name := range strings.SplitSeq(t.git.Subdir, "/") {
		dir = filepath.Join(dir, name)
		info, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return "", t.mismatch("", "commit %s has no directory %s", t.head.object, t.git.Subdir)
		}
		if err != nil {
			return "", err
		}
		if !info.IsDir() {
			return "", t.mismatch("", "%s is not a directory in commit %s", t.git.Subdir, t.head.object)
		}
	}
	return dir, nil
}

// dropGit removes every .git: no file of a commit can have that name.
func dropGit(files string) error {
	return filepath.WalkDir(files, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != ".git" {
			return err
		}
		if err := os.RemoveAll(p); err != nil || !d.IsDir() {
			return err
		}
		return fs.SkipDir
	})
}

// setTimes gives everything in a directory one time.
func setTimes(dir string, t time.Time) error {
	times := []unix.Timespec{unix.NsecToTimespec(t.UnixNano()), unix.NsecToTimespec(t.UnixNano())}
	return filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, times, unix.AT_SYMLINK_NOFOLLOW)
	})
}
