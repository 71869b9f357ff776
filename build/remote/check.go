package remote

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

// sumFile is beside a checkout's files, and has their digest.
const sumFile = "sum"

// Check reads all that a Client of these options keeps, and calls fn with each and with
// what is wrong with it, or nil: content of a URL must be what arrived, the files of a
// checkout those that were checked out, and a repository must have what it says it has,
// which git is asked if that is here. What somebody else works with is passed over. None
// is marked as used.
func Check(ctx context.Context, o Options, fn func(Kept, error)) error {
	c := New(o)
	kept, err := List(o.Dir)
	if err != nil {
		return err
	}
	for _, k := range kept {
		fault, err := c.checkKept(ctx, k)
		if err != nil {
			return fmt.Errorf("check what was fetched: %w", err)
		}
		fn(k, fault)
	}
	return nil
}

// checkKept looks without a lock, so that nobody waits for it, and looks again with
// it if something seems to be wrong: it may just have changed.
func (c *Client) checkKept(ctx context.Context, k Kept) (fault, err error) {
	kind, base := filepath.Split(k.Path)
	at := placeOf(c.o.Dir, filepath.Clean(kind), base)
	check := map[string]func(context.Context, string) error{
		httpDir: checkFile, reposDir: c.checkRepository, treesDir: checkTree,
	}[filepath.Clean(kind)]
	if fault = check(ctx, at.path); fault == nil || ctx.Err() != nil {
		return nil, ctx.Err()
	}
	unlock, err := c.o.Locks.TryLock(at.lock, true)
	switch {
	case err != nil: // where nothing can be written, nothing changes
		return fault, nil
	case unlock == nil:
		return nil, nil
	}
	defer unlock()
	if _, gone := os.Lstat(at.path); errors.Is(gone, fs.ErrNotExist) {
		return nil, nil
	}
	return check(ctx, at.path), ctx.Err()
}

// checkFile checks what is kept of a URL. A place with parts alone is unfinished.
func checkFile(ctx context.Context, dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, entryFile)); err != nil {
		return ignoreGone(err)
	}
	e := readEntry(place{path: dir})
	if e == nil {
		return errors.New("damaged: it has not the content that it is about")
	}
	f, err := os.Open(e.content())
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := digest.SHA256.FromReader(&contextReader{ctx, f})
	if err == nil && got != e.Digest {
		err = fmt.Errorf("damaged: the content has digest %s and should have %s", got, e.Digest)
	}
	return err
}

// checkRepository asks git. What git finds odd in what somebody has committed is no
// damage.
func (c *Client) checkRepository(ctx context.Context, dir string) error {
	var missing *GitMissingError
	_, err := c.run(ctx, local(dir, "fsck", "--full", "--no-dangling", "--no-progress"))
	var bad *gitError
	if err == nil || errors.As(err, &missing) || !errors.As(err, &bad) {
		return nil
	}
	for line := range strings.Lines(bad.stderr + bad.stdout) {
		for _, sign := range []string{"error: ", "fatal: ", "missing ", "broken link "} {
			if strings.HasPrefix(line, sign) {
				return fmt.Errorf("damaged: git: %s", printable(line))
			}
		}
	}
	return nil
}

// checkTree checks a checkout. One without a sum is not finished, or of before there
// were sums.
func checkTree(ctx context.Context, dir string) error {
	want, err := os.ReadFile(filepath.Join(dir, sumFile))
	if err != nil {
		return ignoreGone(err)
	}
	files := filepath.Join(dir, filesDir)
	if _, err := os.Lstat(files); err != nil {
		return ignoreGone(err)
	}
	got, err := treeSum(ctx, files)
	if err == nil && string(got)+"\n" != string(want) {
		err = errors.New("damaged: it is not what was checked out")
	}
	return err
}

// writeSum notes what the files are that are about to be put in a place.
func writeSum(ctx context.Context, at place, files string) error {
	sum, err := treeSum(ctx, files)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(at.path, sumFile), []byte(sum+"\n"), 0o600)
}

// treeSum is the digest of the files in a directory: names, modes and what they hold.
func treeSum(ctx context.Context, dir string) (digest.Digest, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		var sum digest.Digest
		switch {
		case info.Mode().IsRegular():
			sum, err = fileSum(ctx, p)
		case info.Mode()&fs.ModeSymlink != 0:
			var target string
			target, err = os.Readlink(p)
			sum = digest.FromString(target)
		}
		fmt.Fprintf(h, "%q %v %s\n", name, info.Mode(), sum)
		return err
	})
	return digest.NewDigest(digest.SHA256, h), err
}

func fileSum(ctx context.Context, path string) (digest.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digest.SHA256.FromReader(&contextReader{ctx, f})
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

// Read reads unless the context has ended.
func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
