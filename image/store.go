package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	formatFile = "format"
	formatText = "ocibuild store 1\n"
	bootFile   = "boot"
	tempPrefix = "tmp-"
)

// formatLine is what every version of the format file looks like.
var formatLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^ocibuild store [0-9]+\n$`) })

// Store is an open store. Its methods may be called from several goroutines,
// and several processes may have the same store open.
type Store struct {
	root   string
	disk   disk
	queue  lockQueue
	opened time.Time
	remote Remote // nil: what is elsewhere stays there
	places placesLog
	guard  func(context.Context) error
	aside  *aside // nil: all that is made is stored
	// detours are taken in place of shortcuts.
	detours Detours
}

// Detours are longer ways to the same, one for each shortcut that a store takes: tests
// compare what the two give. The zero value takes none.
type Detours struct {
	// Recompress finds no layer that was compressed before.
	Recompress bool
	// OneBlock compresses one block at a time.
	OneBlock bool
	// Reread lists images by what their documents say, not by what is remembered of these.
	Reread bool
	// SyncOnly leaves it to Sync that a blob's bytes get to the disk.
	SyncOnly bool
}

// SetDetours says what is done in the longer way. It is called before the store is used.
func (s *Store) SetDetours(d Detours) { s.detours = d }

// Open opens the store at root and creates it when it is not there. A
// directory that other programs made as an OCI image layout becomes a store;
// one that holds anything else is refused.
func Open(root string) (*Store, error) { return open(root, disk{}) }

// OpenDamaged opens a store for Fsck and Repair even though the files that Open
// wants are damaged or gone. What was never a store, or has the format of another
// version, is refused.
func OpenDamaged(root string) (*Store, error) { return openDamaged(root, disk{}) }

func openDamaged(root string, d disk) (*Store, error) {
	s, err := storeAt(root, d)
	if err != nil {
		return nil, err
	}
	ready, checkErr := s.check()
	if checkErr == nil && !ready {
		return open(root, d) // there is nothing yet, or another program's layout
	}
	if checkErr != nil && !s.mendable(checkErr) {
		return nil, s.explain("open store "+s.root, checkErr)
	}
	for _, dir := range storeDirs() {
		if err := s.disk.mkdir(s.path(dir), 0o755); err != nil {
			return nil, s.explain("open store "+s.root, err)
		}
	}
	if err := s.recover(); err != nil {
		return nil, s.explain("open store "+s.root, err)
	}
	return s, nil
}

// mendable reports whether Repair can do something about an error of check. With
// our format beside it, a layout of another version is damage too.
func (s *Store) mendable(err error) bool {
	var damaged *DamagedError
	return errors.As(err, &damaged) || s.checkLayout() != nil && s.checkFormat() == nil
}

func storeAt(root string, d disk) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	return &Store{root: abs, disk: d, opened: time.Now()}, nil
}

func open(root string, d disk) (*Store, error) {
	s, err := storeAt(root, d)
	if err != nil {
		return nil, err
	}
	ready, err := s.check()
	if err == nil && !ready {
		err = s.initialise()
	}
	if err == nil {
		err = s.recover()
	}
	if err != nil {
		return nil, s.explain("open store "+s.root, err)
	}
	return s, nil
}

// SetGuard lets guard refuse new entries of the table: Tag, Keep and all that is made
// of them fail with its error. It is called before the store is used.
func (s *Store) SetGuard(guard func(context.Context) error) { s.guard = guard }

// allow asks the guard.
func (s *Store) allow(ctx context.Context) error {
	if s.guard == nil {
		return nil
	}
	return s.guard(ctx)
}

// Root is the directory the store is in.
func (s *Store) Root() string { return s.root }

// Close ends the use of the store. Blobs already opened stay readable, and
// leases and locks stay held until they are released.
func (s *Store) Close() error { return nil }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// now is the time for marks of use and starts of leases. Within a process it
// never goes back, even when the machine's clock does.
func (s *Store) now() time.Time {
	steady := s.opened.Add(time.Since(s.opened)).Round(0)
	if wall := time.Now().Round(0); wall.After(steady) {
		return wall
	}
	return steady
}

// storeDirs are the directories of a store, parents first.
func storeDirs() []string {
	return []string{
		"blobs", "blobs/sha256", "ingest", "trash",
		"locks", "locks/leases", "cache", "cache/blobs",
	}
}

// check reports whether the store is complete. What is there and wrong is an
// error.
func (s *Store) check() (ready bool, err error) {
	names, err := namesIn(s.root)
	if err != nil || names == nil {
		return false, err
	}
	layout := slices.Contains(names, ocispec.ImageLayoutFile)
	if stranger := firstStranger(names); !layout && stranger != "" {
		return false, fmt.Errorf("the directory holds %q and is neither a store nor an OCI image layout (choose an empty directory with --root)", stranger)
	}
	if layout {
		if err := s.checkLayout(); err != nil {
			return false, err
		}
	}
	formatted := slices.Contains(names, formatFile)
	if formatted {
		if err := s.checkFormat(); err != nil {
			return false, err
		}
	}
	table := slices.Contains(names, ocispec.ImageIndexFile)
	if formatted && !table { // the format file is written last
		return false, &DamagedError{ocispec.ImageIndexFile, errors.New("it is gone")}
	}
	return layout && formatted && table && s.hasDirs(), nil
}

// namesIn lists a directory; nil is that it is not there.
func namesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (s *Store) hasDirs() bool {
	for _, dir := range storeDirs() {
		if !isDir(s.path(dir)) {
			return false
		}
	}
	return true
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// firstStranger is a name that neither a store being made nor a new file
// system has.
func firstStranger(names []string) string {
	ours := []string{
		"blobs", "ingest", "trash", "locks", "cache", "snapshots", "mounts", QuarantineDir, formatFile, ConfigFile,
		ocispec.ImageIndexFile, "lost+found",
	}
	for _, name := range names {
		if !slices.Contains(ours, name) {
			return name
		}
	}
	return ""
}

func (s *Store) checkLayout() error {
	text, err := os.ReadFile(s.path(ocispec.ImageLayoutFile))
	if err != nil {
		return err
	}
	var layout ocispec.ImageLayout
	if err := json.Unmarshal(text, &layout); err != nil {
		return &DamagedError{ocispec.ImageLayoutFile, err}
	}
	if layout.Version == "" {
		return &DamagedError{ocispec.ImageLayoutFile, errors.New("it names no version")}
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("OCI image layout version %q is not supported, only %s is (choose another directory with --root)",
			layout.Version, ocispec.ImageLayoutVersion)
	}
	return nil
}

func (s *Store) checkFormat() error {
	text, err := os.ReadFile(s.path(formatFile))
	if err != nil {
		return err
	}
	if !formatLine().Match(text) {
		return &DamagedError{formatFile, fmt.Errorf("it holds %.40q", text)}
	}
	if string(text) != formatText {
		return fmt.Errorf("the store has format %q and this program knows %q only (use the program that made it, or choose another store with --root)",
			strings.TrimSpace(string(text)), strings.TrimSpace(formatText))
	}
	return nil
}

// initialise makes what is missing of the store. The format file comes last: a
// store that has it is whole.
func (s *Store) initialise() error {
	if err := os.MkdirAll(filepath.Dir(s.root), 0o755); err != nil {
		return err
	}
	// Unpacked layers hold set-uid programs: other users stay out.
	if err := s.disk.mkdir(s.root, 0o700); err != nil {
		return err
	}
	for _, dir := range storeDirs() {
		if err := s.disk.mkdir(s.path(dir), 0o755); err != nil {
			return err
		}
	}
	unlock, err := s.lock(context.Background(), lockStore)
	if err != nil {
		return err
	}
	defer unlock()

	fixed := s.fixedFiles()
	files := []struct {
		name    string
		content []byte
	}{
		{filepath.Join("locks", bootFile), []byte(s.disk.bootID())},
		{ocispec.ImageIndexFile, encodeIndex(newIndex())},
		{ocispec.ImageLayoutFile, fixed[ocispec.ImageLayoutFile]},
		{formatFile, fixed[formatFile]},
	}
	for _, f := range files {
		if _, err := os.Lstat(s.path(f.name)); err == nil {
			continue
		}
		if err := s.disk.replace(s.path("ingest"), s.path(f.name), f.content); err != nil {
			return err
		}
	}
	return nil
}

// fixedFiles gives the files that are the same in every store.
func (s *Store) fixedFiles() map[string][]byte {
	layout, _ := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	return map[string][]byte{ocispec.ImageLayoutFile: layout, formatFile: []byte(formatText)}
}

// recover looks at the blobs that were not durable when the machine went
// down: damaged ones are removed. It does so once a boot.
func (s *Store) recover() error {
	boot := s.disk.bootID()
	if s.lastBoot() == boot {
		return nil
	}
	ctx := context.Background()
	unlock, err := s.lock(ctx, lockStore)
	if err != nil {
		return err
	}
	defer unlock()
	if s.lastBoot() == boot {
		return nil
	}
	if err := s.emptyTrash(ctx); err != nil {
		return err
	}
	// Another machine may share the directory: what its builds have in hand
	// is not ours to judge.
	start := s.now()
	inUse, err := s.cutoff(start)
	if err != nil {
		return err
	}
	err = s.eachBlob(func(b blobFile) error {
		if b.durable() || inUse.Before(start) && !b.info.ModTime().Before(inUse) {
			return nil
		}
		return s.recoverBlob(ctx, b)
	})
	if err != nil {
		return err
	}
	return s.disk.replace(s.path("ingest"), s.path("locks", bootFile), []byte(boot))
}

func (s *Store) recoverBlob(ctx context.Context, b blobFile) error {
	err := s.verify(ctx, b.digest)
	var bad *VerifyError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.As(err, &bad):
		return s.disk.remove(b.path)
	case err != nil:
		return err
	}
	return s.Sync(ctx, b.digest)
}

func (s *Store) lastBoot() string {
	id, err := os.ReadFile(s.path("locks", bootFile))
	if err != nil {
		return "unknown"
	}
	return string(id)
}
