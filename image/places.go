package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Place is a repository that is known to have a blob.
type Place struct{ Host, Repository string }

// String names the repository: "docker.io/library/alpine".
func (p Place) String() string { return p.Host + "/" + p.Repository }

// placed is what is known of a blob that some registry has, whether or not it is
// here too.
type placed struct {
	size   int64
	places []sighting // the one heard of last first
	used   time.Time  // when it was last heard of or relied on
}

// sighting is a place and when it last was found to have the blob; never, if it
// has said no since and no other place is known.
type sighting struct {
	Place
	seen time.Time
}

// at lists the places.
func (p placed) at() []Place {
	list := make([]Place, len(p.places))
	for i, s := range p.places {
		list[i] = s.Place
	}
	return list
}

// placesLog is the file cache/blobs/places as it was read last: lines of digest,
// size, when it was seen (0: it is not there any more), when that was used, host
// and repository; each new one at the end. Times are seconds since 1970. A line
// that is torn is passed over. Prune writes the file anew without what nothing
// needs.
type placesLog struct {
	mu    sync.Mutex
	file  fs.FileInfo // nil: nothing was read
	end   int64       // of the last whole line
	known map[digest.Digest]placed
}

const (
	// maxPlaces bounds what is remembered of a blob.
	maxPlaces = 8
	// placesAge is how old a line may be before another is written for the same, so
	// that a second pull of an image writes nothing.
	placesAge = time.Hour
)

func (s *Store) placesPath() string { return s.path("cache", "blobs", "places") }

// placed tells where a blob is known to be.
func (s *Store) placed(d digest.Digest) (placed, bool) {
	l := &s.places
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.read(s.placesPath()); err != nil {
		return placed{}, false
	}
	p, ok := l.known[d]
	return p, ok
}

// read takes in what has been added since the last time, or all of another file.
func (l *placesLog) read(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		l.file, l.known = nil, nil
		return err
	}
	same := l.file != nil && os.SameFile(l.file, info)
	if same && info.Size() == l.file.Size() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if !same || info.Size() < l.end {
		l.end, l.known = 0, make(map[digest.Digest]placed)
	}
	if info, err = f.Stat(); err != nil {
		return err
	}
	text, err := io.ReadAll(io.NewSectionReader(f, l.end, info.Size()-l.end))
	if err != nil {
		return err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	for line := range strings.Lines(string(text)) {
		l.add(line)
	}
	l.file, l.end = info, l.end+int64(len(text))
	return nil
}

// add takes in a line.
func (l *placesLog) add(line string) {
	f := strings.Fields(line)
	if len(f) != 6 {
		return
	}
	var numbers [3]int64
	for i := range numbers {
		n, err := strconv.ParseInt(f[1+i], 10, 64)
		if err != nil || n < 0 {
			return
		}
		numbers[i] = n
	}
	d, at := digest.Digest(f[0]), sighting{Place: Place{f[4], f[5]}}
	if d.Validate() != nil {
		return
	}
	if numbers[1] > 0 {
		at.seen = time.Unix(numbers[1], 0)
	}
	l.known[d] = l.known[d].with(at, numbers[0], time.Unix(numbers[2], 0))
}

// with adds a sighting. The last place that is known stays though it has said no:
// it is what an error can name.
func (p placed) with(at sighting, size int64, used time.Time) placed {
	var others []sighting
	for _, other := range p.places {
		if other.Place != at.Place {
			others = append(others, other)
		}
	}
	out := placed{size: size, places: others, used: used}
	if !at.seen.IsZero() || len(others) == 0 {
		out.places = append([]sighting{at}, others...)
	}
	out.places = out.places[:min(len(out.places), maxPlaces)]
	return out
}

func placesLine(d digest.Digest, p placed, at sighting) string {
	seen := int64(0)
	if !at.seen.IsZero() {
		seen = at.seen.Unix()
	}
	return fmt.Sprintf("%s %d %d %d %s %s\n", d, p.size, seen, p.used.Unix(), at.Host, at.Repository)
}

// Places yields the repositories that are known to have a blob, as host and
// name, the one that was heard of last first.
func (s *Store) Places(d digest.Digest) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		p, _ := s.placed(d)
		for _, at := range p.places {
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
	at := sighting{Place{host, repository}, s.now()}
	if strings.ContainsAny(at.String(), " \n\t") || host == "" || repository == "" {
		return fmt.Errorf("remember where blob %s is: %q is no repository", desc.Digest, at.Place)
	}
	p, ok := s.placed(desc.Digest)
	if ok && p.places[0].Place == at.Place && p.size == desc.Size && at.seen.Sub(p.places[0].seen) < placesAge {
		return nil
	}
	return s.explain("remember where a blob is", s.addPlace(desc.Digest, placed{size: desc.Size}, at))
}

// Lost forgets that a repository has a blob: it has been asked and says no.
func (s *Store) Lost(d digest.Digest, host, repository string) error {
	if s.SeenAt(d, host, repository).IsZero() {
		return nil
	}
	p, _ := s.placed(d)
	return s.explain("remember where a blob is", s.addPlace(d, p, sighting{Place: Place{host, repository}}))
}

// SeenAt tells when a repository was last found to have a blob; the zero time is never.
func (s *Store) SeenAt(d digest.Digest, host, repository string) time.Time {
	p, _ := s.placed(d)
	for _, at := range p.places {
		if at.Host == host && at.Repository == repository {
			return at.seen
		}
	}
	return time.Time{}
}

// addPlace writes a line. The sweep lock keeps prunes from writing the file anew
// meanwhile.
func (s *Store) addPlace(d digest.Digest, p placed, at sighting) error {
	unlock, err := s.lock(context.Background(), lockSweep)
	if err != nil {
		return err
	}
	defer unlock()
	path := s.placesPath()
	if err := s.disk.ask(opWrite, path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	p.used = s.now()
	line := placesLine(d, p, at)
	var last [1]byte
	if info, err := f.Stat(); err == nil && info.Size() > 0 {
		if _, err := f.ReadAt(last[:], info.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line // after one that is torn
		}
	}
	_, err = f.WriteString(line)
	return err
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
	p, ok := s.placed(d)
	if !ok || s.now().Sub(p.used) < placesAge {
		return ok
	}
	return s.addPlace(d, p, p.places[0]) == nil
}

// away reports whether a blob is at a registry, and leaves no mark.
func (s *Store) away(d digest.Digest) bool {
	_, ok := s.placed(d)
	return ok
}

// syncAway makes durable what is known of blobs that are not here.
func (s *Store) syncAway(ds []digest.Digest) error {
	if len(ds) == 0 {
		return nil
	}
	f, err := os.Open(s.placesPath())
	if err != nil {
		return s.explain("sync places", err)
	}
	defer f.Close()
	if err := s.disk.sync(f); err != nil {
		return s.explain("sync places", err)
	}
	return s.explain("sync places", s.disk.syncDir(s.path("cache", "blobs")))
}

// prunePlaces forgets where blobs are that no image needs and that were not heard
// of since a time. Under the lock nobody begins to rely on that.
func (s *Store) prunePlaces(ctx context.Context, keep map[digest.Digest]bool, since time.Time) error {
	unlock, err := s.lock(ctx, lockSweep)
	if err != nil {
		return err
	}
	defer unlock()
	l := &s.places
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.read(s.placesPath()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var text bytes.Buffer
	dropped := false
	for _, d := range slices.Sorted(maps.Keys(l.known)) {
		p := l.known[d]
		if !keep[d] && p.used.Before(since.Add(-placesAge)) {
			dropped = true
			continue
		}
		for _, at := range slices.Backward(p.places) {
			text.WriteString(placesLine(d, p, at))
		}
	}
	if !dropped {
		return nil
	}
	return s.disk.replace(s.path("ingest"), s.placesPath(), text.Bytes())
}
