package image

import (
	"errors"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
)

// notePrefix begins the names in ingest/ of notes: what a process that may die
// wants the next one to know.
const notePrefix = "note-"

func (s *Store) notePath(name string) string {
	return s.path("ingest", notePrefix+digest.FromString(name).Encoded())
}

// Note gives what PutNote has kept under a name, nil if there is nothing. A prune drops notes that are old.
func (s *Store) Note(name string) []byte {
	text, err := os.ReadFile(s.notePath(name))
	if err != nil {
		return nil
	}
	return text
}

// PutNote keeps a few bytes under a name, until a prune or a crash of the machine; nil drops them.
func (s *Store) PutNote(name string, text []byte) error {
	path := s.notePath(name)
	if text != nil {
		return s.explain("keep note", s.disk.replaceSoon(s.path("ingest"), path, text))
	}
	err := s.disk.remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return s.explain("drop note", err)
}
