package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
)

const workerEnv = "OCIBUILD_IMAGE_TEST_WORKER"

// worker is one of the processes that share a store: it does what builds,
// readers and prunes do.
func worker() int {
	s, err := open(os.Getenv(workerEnv), disk{flush: noFlush})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	seed, _ := strconv.ParseUint(os.Getenv(workerEnv+"_SEED"), 10, 64)
	if err := stress(context.Background(), s, rand.New(rand.NewPCG(seed, 1)), 40); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// stress builds, reads, untags and prunes at random. Few names and few layers
// make it meet the others often.
func stress(ctx context.Context, s *Store, r *rand.Rand, rounds int) error {
	for range rounds {
		name := fmt.Sprintf("app%d:v1", r.IntN(4))
		var err error
		switch r.IntN(8) {
		case 0:
			_, err = s.Prune(ctx, PruneOptions{})
		case 1:
			_, err = s.Prune(ctx, PruneOptions{All: r.IntN(4) == 0})
		case 2:
			err = s.Untag(ctx, mustParse(name))
		case 3:
			err = readThrough(ctx, s, name)
		default:
			err = stressBuild(ctx, s, r, name)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

func mustParse(name string) Ref {
	ref, err := ParseRef(name)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return ref
}

// stressBuild fails with ErrNotFound for nobody: all it needs, it makes or
// uses under its lease.
func stressBuild(ctx context.Context, s *Store, r *rand.Rand, name string) error {
	a := []byte(fmt.Sprintf("layer %d%0600000d", r.IntN(3), 0))
	b := []byte(fmt.Sprintf("layer %d", 3+r.IntN(3)))
	if _, err := build(ctx, s, name, a, b); err != nil {
		return fmt.Errorf("build %s: %v", name, err) //nolint:errorlint // a missing blob must not pass for one
	}
	return nil
}

// readThrough reads an image as a push does. Nothing may be missing while the
// lease lives, if everything could be marked as used.
func readThrough(ctx context.Context, s *Store, name string) error {
	lease, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	desc, err := s.Resolve(ctx, name)
	if err != nil {
		return err
	}
	needs, err := s.useAll(ctx, desc)
	if err != nil {
		return err // pruned before we could mark it
	}
	for _, d := range needs.here {
		if err := s.verify(ctx, d); err != nil {
			return fmt.Errorf("read %s under a lease: %v", name, err) //nolint:errorlint // the same
		}
	}
	return nil
}

func TestGoroutinesAndProcessesAtOnce(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for i := range 4 {
		g.Go(func() error {
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), workerEnv+"="+root, workerEnv+"_SEED="+strconv.Itoa(i))
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("process %d: %w\n%s", i, err, out)
			}
			return nil
		})
	}
	s := openTest(t, root, disk{flush: noFlush})
	for i := range 16 {
		g.Go(func() error {
			return stress(t.Context(), s, rand.New(rand.NewPCG(uint64(i), 2)), 15)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, s)
	refs, err := s.References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range refs {
		mustHave(t, s, r.Ref.Familiar())
	}
	if _, err := s.Prune(t.Context(), PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if left := blobs(t, s); len(left) != 0 {
		t.Errorf("blobs left after everything was pruned: %v", left)
	}
}

func TestKilledProcessLetsItsLocksAndLeasesGo(t *testing.T) {
	s := newStore(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestHelperHoldsEverything$")
	cmd.Env = append(os.Environ(), "OCIBUILD_IMAGE_TEST_HOLD="+s.Root())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 1)
	if _, err := io.ReadFull(out, ready); err != nil {
		t.Fatal(err)
	}
	age(t, s)
	held, err := s.Prune(t.Context(), PruneOptions{Until: s.now()})
	if err != nil {
		t.Fatal(err)
	}
	_ = held // the blobs are older than the lease; what matters is that nothing blocked
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	unlock, err := s.Lock(t.Context(), "step")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	next, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if files := tree(t, s.path("locks/leases")); len(files) != 1 {
		t.Errorf("leases are %v, want the next program's alone", files)
	}
	next.Release()
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"ingest", "locks/leases", "blobs/sha256"} {
		if files := tree(t, s.path(dir)); len(files) != 0 {
			t.Errorf("%s after the prune: %v", dir, files)
		}
	}
}

// TestHelperHoldsEverything is the process that is killed.
func TestHelperHoldsEverything(t *testing.T) {
	root := os.Getenv("OCIBUILD_IMAGE_TEST_HOLD")
	if root == "" {
		t.Skip("is the second process of another test")
	}
	s := openTest(t, root, disk{})
	if _, err := s.Lease(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lock(t.Context(), "step"); err != nil {
		t.Fatal(err)
	}
	if _, err := addLayer(s, []byte("finished")); err != nil {
		t.Fatal(err)
	}
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, readSize+1)); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString(".")
	var forever sync.WaitGroup
	forever.Add(1)
	forever.Wait()
}
