package image

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Place is a repository that is known to have a blob.
type Place struct {
	Host       string `json:"host"`
	Repository string `json:"repository"`
}

// String names the repository: "docker.io/library/alpine".
func (p Place) String() string { return p.Host + "/" + p.Repository }

// A placed blob is one that is known to be at registries, whether or not it is
// here too: the file cache/blobs/<algorithm>-<hex>.places.
type placed struct {
	Size   int64      `json:"size"`
	Places []sighting `json:"places"` // the one heard of last first
}

// sighting is a place and when it last was found to have the blob.
type sighting struct {
	Place
	Seen time.Time `json:"seen,omitzero"`
}

// at lists the places.
func (p placed) at() []Place {
	list := make([]Place, len(p.Places))
	for i, s := range p.Places {
		list[i] = s.Place
	}
	return list
}

const (
	placesSuffix = ".places"
	// maxPlaces bounds what is remembered of a blob.
	maxPlaces = 8
	// placesAge is how old the mark of use of a record may be before it is set
	// again, so that a second pull of an image writes nothing.
	placesAge = time.Hour
)

func (s *Store) placesPath(d digest.Digest) string {
	return s.path("cache", "blobs", d.Algorithm().String()+"-"+d.Encoded()+placesSuffix)
}

func (s *Store) placed(d digest.Digest) (placed, bool) {
	var p placed
	if d.Validate() != nil {
		return p, false
	}
	text, err := os.ReadFile(s.placesPath(d))
	return p, err == nil && json.Unmarshal(text, &p) == nil && len(p.Places) > 0
}

// Places yields the repositories that are known to have a blob, as host and
// name, the one that was heard of last first.
func (s *Store) Places(d digest.Digest) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		p, _ := s.placed(d)
		for _, at := range p.Places {
			if !yield(at.Host, at.Repository) {
				return
			}
		}
	}
}

// Seen remembers that a repository has a blob. With that, an image may do
// without the blob being here: see Remote.
func (s *Store) Seen(desc ocispec.Descriptor, host, repository string) error {
	if err := checkDescriptor(desc); err != nil {
		return err
	}
	unlock, err := s.lock(context.Background(), lockSweep)
	if err != nil {
		return err
	}
	defer unlock()
	at := Place{host, repository}
	p, _ := s.placed(desc.Digest)
	path := s.placesPath(desc.Digest)
	now := s.now().UTC().Truncate(time.Second)
	if len(p.Places) > 0 && p.Places[0].Place == at && p.Size == desc.Size && now.Sub(p.Places[0].Seen) < placesAge {
		return s.explain("remember where a blob is", s.refresh(path))
	}
	p.Size = desc.Size
	p.Places = slices.DeleteFunc(p.Places, func(other sighting) bool { return other.Place == at })
	p.Places = slices.Insert(p.Places, 0, sighting{at, now})
	p.Places = p.Places[:min(len(p.Places), maxPlaces)]
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.explain("remember where a blob is", s.disk.replaceSoon(s.path("cache", "blobs"), path, text))
}

// Lost forgets that a repository has a blob: it has been asked and says no.
func (s *Store) Lost(d digest.Digest, host, repository string) error {
	p, ok := s.placed(d)
	if !ok {
		return nil
	}
	i := slices.IndexFunc(p.Places, func(at sighting) bool { return at.Place == Place{host, repository} })
	switch {
	case i < 0:
		return nil
	case len(p.Places) == 1:
		p.Places[0].Seen = time.Time{} // the last place is kept: it is what an error can name
	default:
		p.Places = slices.Delete(p.Places, i, i+1)
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.explain("remember where a blob is", s.disk.replaceSoon(s.path("cache", "blobs"), s.placesPath(d), text))
}

// SeenAt tells when a repository was last found to have a blob; the zero time is never.
func (s *Store) SeenAt(d digest.Digest, host, repository string) time.Time {
	p, _ := s.placed(d)
	for _, at := range p.Places {
		if at.Host == host && at.Repository == repository {
			return at.Seen
		}
	}
	return time.Time{}
}

// refresh marks a record as used, unless that was done not long ago.
func (s *Store) refresh(path string) error {
	info, err := os.Stat(path)
	if err != nil || s.now().Sub(info.ModTime()) < placesAge {
		return err
	}
	return s.disk.touch(path, s.now())
}

// UseAnywhere is Use that is content with a blob which is known to be at a
// registry.
func (s *Store) UseAnywhere(d digest.Digest) bool { return s.Use(d) || s.useAway(d) }

// HasAnywhere is Has that is content with a blob which is known to be at a
// registry.
func (s *Store) HasAnywhere(d digest.Digest) bool { return s.there(d) || s.away(d) }

// useAway reports whether a blob is known to be at a registry, and keeps a
// prune from forgetting that.
func (s *Store) useAway(d digest.Digest) bool {
	if !s.away(d) {
		return false
	}
	unlock, err := s.lock(context.Background(), lockSweep)
	if err != nil {
		return false
	}
	defer unlock()
	return s.disk.touch(s.placesPath(d), s.now()) == nil
}

// away reports whether a blob is at a registry, and leaves no mark.
func (s *Store) away(d digest.Digest) bool {
	_, ok := s.placed(d)
	return ok
}

// syncAway makes durable what is known of blobs that are not here.
func (s *Store) syncAway(ctx context.Context, ds []digest.Digest) error {
	for _, d := range ds {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := os.Open(s.placesPath(d))
		if errors.Is(err, fs.ErrNotExist) && s.there(d) {
			continue // it has come here meanwhile
		}
		if err != nil {
			return s.explain("sync places", err)
		}
		err = s.disk.sync(f)
		f.Close()
		if err != nil {
			return s.explain("sync places", err)
		}
	}
	if len(ds) == 0 {
		return nil
	}
	return s.explain("sync places", s.disk.syncDir(s.path("cache", "blobs")))
}

// placesFile is a record found in cache/blobs.
type placesFile struct {
	path   string
	digest digest.Digest
}

func (s *Store) placesFiles() ([]placesFile, error) {
	entries, err := os.ReadDir(s.path("cache", "blobs"))
	if err != nil {
		return nil, err
	}
	var list []placesFile
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), placesSuffix)
		algorithm, hex, _ := strings.Cut(name, "-")
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
		if ok && d.Validate() == nil {
			list = append(list, placesFile{s.placesPath(d), d})
		}
	}
	return list, nil
}
