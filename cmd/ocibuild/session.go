package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ocibuild/ocibuild/build/space"
	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	"golang.org/x/sys/unix"
)

// session is what a verb works with: its surroundings and the store, which is
// opened when it is first asked for.
type session struct {
	*stdio
	rootFlag, limitFlag string
	// invoker is the user who started the program, whatever namespace it is in by now.
	invoker int
	level   executor.Level
	// noRun is why steps cannot run here.
	noRun  string
	opened *image.Store
	bring  *bringer // with the store
	// onOpen is called when the store has been opened.
	onOpen  func() error
	keeper  keeper
	detours detours
	// mendable opens even a store that has to be repaired first.
	mendable bool
}

func newSession(io *stdio, g globals) *session {
	return &session{stdio: io, rootFlag: g.root, limitFlag: g.storeMax, invoker: executor.InvokedBy()}
}

// tellLevel says in one line what steps are run at, if that is not the best there is.
func (s *session) tellLevel() {
	switch s.level {
	case executor.LevelSingle, executor.LevelChroot:
		fmt.Fprintf(s.err, "note: isolation %s: %s; but %s\n", s.level, s.level.Holds(), s.level.Lacks())
	}
}

// root is the directory of the store.
func (s *session) root() (string, error) {
	if s.rootFlag != "" {
		return s.rootFlag, nil
	}
	if dir := s.getenv("OCIBUILD_ROOT"); dir != "" {
		return dir, nil
	}
	if s.invoker == 0 {
		return "/var/lib/ocibuild", nil
	}
	if dir := s.getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ocibuild"), nil
	}
	if home := s.getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local/share/ocibuild"), nil
	}
	return "", &usageError{msg: "there is no place for the store: $HOME is not set", hint: "name a directory with --root or $OCIBUILD_ROOT"}
}

// store opens the store.
func (s *session) store() (*image.Store, error) {
	if s.opened != nil {
		return s.opened, nil
	}
	dir, err := s.root()
	if err != nil {
		return nil, err
	}
	open := image.Open
	if s.mendable {
		open = image.OpenDamaged
	}
	st, err := open(dir)
	if err != nil {
		return nil, openError(err)
	}
	st.SetDetours(s.detours.store)
	s.opened = st
	s.bring = newBringer(s)
	st.SetRemote(s.bring)
	if s.onOpen != nil {
		err = s.onOpen()
	}
	return st, err
}

// leasedStore opens the store with a lease: what the verb makes or reads stays until
// it releases that.
func (s *session) leasedStore(ctx context.Context) (*image.Store, *image.Lease, error) {
	st, err := s.store()
	if err != nil {
		return nil, nil, err
	}
	lease, err := st.Lease(ctx)
	return st, lease, err
}

// readingLease is a lease for a verb that only reads: from a file system that nothing can
// be written to, nothing can be taken away either, and there it does without.
func (s *session) readingLease(ctx context.Context) (*image.Store, func(), error) {
	st, lease, err := s.leasedStore(ctx)
	switch {
	case st != nil && errors.Is(err, unix.EROFS):
		return st, func() {}, nil
	case err != nil:
		return nil, nil, err
	}
	return st, lease.Release, nil
}

// openError makes every failure to open the store a storeError.
func openError(err error) error {
	var known *image.StoreError
	if errors.As(err, &known) {
		return err
	}
	return &storeError{msg: err.Error(), err: err}
}

// cache opens the build cache of the store.
func (s *session) cache() (*cache.Store, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	c, err := cache.Open(filepath.Join(st.Root(), "cache"))
	if err != nil {
		return nil, st.Diagnose("open the build cache", err)
	}
	return c.Without(s.detours.forgotten...), nil
}

// snapshots opens the unpacked layers of the store.
func (s *session) snapshots() (*executor.Snapshots, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	snapshots, err := executor.OpenSnapshots(executor.SnapshotDirs(st.Root(), s.level)[0], s.level)
	if err != nil {
		return nil, st.Diagnose("open the unpacked layers", err)
	}
	snapshots.SetDetours(s.detours.snapshots)
	return snapshots, nil
}

// space is the store with all that is in it.
func (s *session) space() (space.Space, error) {
	st, err := s.store()
	if err != nil {
		return space.Space{}, err
	}
	memory, err := s.cache()
	if err != nil {
		return space.Space{}, err
	}
	snapshots, err := executor.OpenAllSnapshots(st.Root(), s.level)
	return space.Space{Images: st, Cache: memory, Snapshots: snapshots}, st.Diagnose("open the unpacked layers", err)
}

// client gives a registry client that tells show of its transfers.
func (s *session) client(insecure []string, show display) *registry.Client {
	o := registry.Options{
		Insecure: insecure, UserAgent: "ocibuild/" + version(), Progress: show.transfer, Whole: s.detours.wholeBlobs,
	}
	if s.detours.serial {
		o.Parallel = 1
	}
	return registry.New(o)
}

// close ends the use of the store.
func (s *session) close() error {
	if s.opened == nil {
		return nil
	}
	return errors.Join(s.bring.close(s.opened), s.opened.DropAside(), s.opened.Close())
}

// parseRef reads a reference from the command line.
func parseRef(text string) (image.Ref, error) {
	if _, err := withoutUser(text); err != nil {
		return image.Ref{}, err
	}
	ref, err := image.ParseRef(text)
	if err != nil {
		return ref, &usageError{msg: err.Error(), hint: "a name looks like app:v1, or registry.example.org/team/app:v1"}
	}
	return ref, nil
}

// withoutUser refuses a user and a password before a host, and does not repeat
// them.
func withoutUser(text string) (string, error) {
	i := strings.LastIndexByte(text, '@')
	if i < 0 || strings.Count(text[:i], ":") == 0 || strings.HasPrefix(text[i:], "@sha") {
		return text, nil
	}
	host, _, _ := strings.Cut(text[i+1:], "/")
	return "", &usageError{msg: "..." + text[i:] + ": a user and a password do not belong here", hint: "`ocibuild login " + host + "` keeps them"}
}

// parseNewRef reads a reference that is to be given to an image: one with a
// tag, not with a digest.
func parseNewRef(text string) (image.Ref, error) {
	ref, err := parseRef(text)
	if err != nil {
		return ref, err
	}
	if ref.Digest() != "" {
		return ref, usagef("%s: a name with a digest cannot be given to an image, only one with a tag", text)
	}
	return ref.WithDefaultTag(), nil
}
