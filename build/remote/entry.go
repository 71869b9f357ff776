package remote

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// entry is what is kept of a URL: what the server said of the content, and where
// that is.
type entry struct {
	Version int `json:"version"`
	// Digest is the SHA-256 of the content.
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
	// ETag and LastModified are the server's, as it sent them; empty if it did not.
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`

	at place
}

const (
	entryVersion = 1
	entryFile    = "info"
	partPrefix   = "part-"
)

// readEntry finds what is kept at a place; nil is nothing that can be used.
func readEntry(p place) *entry {
	text, err := os.ReadFile(filepath.Join(p.path, entryFile))
	if err != nil {
		return nil
	}
	e := entry{at: p}
	if json.Unmarshal(text, &e) != nil || e.Version != entryVersion || e.Digest.Validate() != nil {
		return nil
	}
	if info, err := os.Stat(e.content()); err != nil || info.Size() != e.Size {
		return nil
	}
	return &e
}

// content is the file with the content.
func (e *entry) content() string { return filepath.Join(e.at.path, e.Digest.Encoded()) }

// write makes the entry that of its place, whose content is there already.
func (e *entry) write() error {
	e.Version = entryVersion
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	part := filepath.Join(e.at.path, partPrefix+entryFile)
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(e.at.path, entryFile))
}

// sweep removes from the place everything that the entry does not need; a nil
// entry needs nothing. What somebody reads, he reads to the end all the same.
func (p place) sweep(keep *entry) error {
	files, err := os.ReadDir(p.path)
	if err != nil {
		return err
	}
	for _, f := range files {
		if keep != nil && (f.Name() == entryFile || f.Name() == keep.Digest.Encoded()) {
			continue
		}
		if err := os.Remove(filepath.Join(p.path, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sum gives the digest of the content, which is in a file: another than the
// SHA-256 takes reading it.
func (e *entry) sum(file string, a digest.Algorithm) (digest.Digest, error) {
	if a == digest.SHA256 {
		return e.Digest, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return a.FromReader(f)
}
