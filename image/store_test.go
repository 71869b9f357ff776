package image

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

var errFlaky = errors.New("flaky disk")

// suite is what a store does, whatever disk is below it. Every call goes
// through try, so that each method is seen to be repeatable after an error.
type suite struct {
	s    *Store
	root string
	disk disk
	fail bool
	// reopen lets every call be that of another program.
	reopen bool
}

func (x *suite) try(t *testing.T, what string, f func() error) {
	t.Helper()
	if x.reopen && x.s != nil {
		x.s = openTest(t, x.root, x.disk)
	}
	for range 1000 {
		err := f()
		if x.fail && (errors.Is(err, errFlaky) || errors.Is(err, unix.ENOSPC)) {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return
	}
	t.Fatalf("%s: fails for ever", what)
}

func (x *suite) put(t *testing.T, text string) (desc ocispec.Descriptor) {
	t.Helper()
	x.try(t, "put", func() (err error) {
		desc, err = x.s.Put(t.Context(), ocispec.Descriptor{MediaType: "text/plain"}, strings.NewReader(text))
		return err
	})
	return desc
}

func (x *suite) build(t *testing.T, name string, layers ...string) (desc ocispec.Descriptor) {
	t.Helper()
	var list [][]byte
	for _, l := range layers {
		list = append(list, []byte(l))
	}
	x.try(t, "build "+name, func() (err error) {
		desc, err = build(t.Context(), x.s, name, list...)
		return err
	})
	return desc
}

func TestStore(t *testing.T) {
	behaviours := []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"put and read", testPutAndRead},
		{"put what is not wanted", testPutWrong},
		{"writer of many blocks", testWriterBlocks},
		{"abort leaves nothing", testAbort},
		{"commit twice", testCommitTwice},
		{"commit mends a truncated blob", testCommitMends},
		{"other digest algorithms", testOtherAlgorithm},
		{"sync marks blobs durable", testSync},
		{"tag, move, untag", testTags},
		{"tag needs the whole image", testTagIncomplete},
		{"assemble is deterministic", testAssembleTwice},
		{"opens again", testReopen},
		{"prune removes the unreachable", testPrune},
		{"prune all", testPruneAll},
		{"save and load", testSaveLoad},
		{"import", testImport},
		{"what is more than an image goes round untouched", testRoundTrip},
		{"a platform goes", testPlatformGoes},
		{"layer on its own", testLayerAlone},
		{"compress", testCompressed},
		{"mutate", testMutate},
		{"repair", testRepair},
	}
	wrappers := []struct {
		name string
		wrap func(*suite)
	}{
		{"", func(*suite) {}},
		{", flaky disk", func(x *suite) { x.fail, x.disk.before = true, flaky(errFlaky) }},
		{", disk that is full at times", func(x *suite) { x.fail, x.disk.before = true, flaky(unix.ENOSPC) }},
		{", opened again for every call", func(x *suite) { x.reopen = true }},
	}
	for _, b := range behaviours {
		for _, w := range wrappers {
			t.Run(b.name+w.name, func(t *testing.T) {
				x := &suite{root: filepath.Join(t.TempDir(), "store"), disk: disk{flush: noFlush}}
				w.wrap(x)
				x.try(t, "open", func() (err error) { x.s, err = open(x.root, x.disk); return err })
				b.run(t, x)
				mustBeClean(t, x.s)
			})
		}
	}
}

// flaky fails operations, with ever longer stretches without an error that let the
// longest one end at last.
func flaky(with error) func(operation, ...string) error {
	n, next, gap := 0, 1, 1
	var mu sync.Mutex
	return func(operation, ...string) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n < next {
			return nil
		}
		gap += 1 + gap/8
		next = n + gap
		return with
	}
}

func testPutAndRead(t *testing.T, x *suite) {
	desc := x.put(t, "hello")
	if desc.Digest != digest.FromString("hello") || desc.Size != 5 || desc.MediaType != "text/plain" {
		t.Errorf("descriptor %+v", desc)
	}
	got, err := x.s.ReadBlob(t.Context(), desc, 5)
	if err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := x.s.ReadBlob(t.Context(), desc, 4); err == nil {
		t.Error("read past the limit")
	}
	f, err := x.s.BlobFile(t.Context(), desc.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part := make([]byte, 2)
	if _, err := f.ReadAt(part, 2); err != nil || string(part) != "ll" {
		t.Errorf("read at 2: %q, %v", part, err)
	}
	absent := digest.FromString("absent")
	if x.s.Use(absent) {
		t.Error("an absent blob was used")
	}
	_, err = x.s.Blob(t.Context(), ocispec.Descriptor{Digest: absent})
	if !errors.Is(err, ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent blob: %v", err)
	}
	if _, err := x.s.Blob(t.Context(), ocispec.Descriptor{Digest: "sha256:../../../etc/passwd"}); err == nil {
		t.Error("a path was taken for a digest")
	}
}

func testPutWrong(t *testing.T, x *suite) {
	tests := []struct {
		name string
		want ocispec.Descriptor
	}{
		{"digest", ocispec.Descriptor{Digest: digest.FromString("other")}},
		{"size too small", ocispec.Descriptor{Digest: digest.FromString("hello"), Size: 4}},
		{"size too large", ocispec.Descriptor{Digest: digest.FromString("hello"), Size: 6}},
		{"size alone", ocispec.Descriptor{Size: 9}},
	}
	for _, test := range tests {
		x.try(t, test.name, func() error {
			_, err := x.s.Put(t.Context(), test.want, strings.NewReader("hello"))
			var bad *VerifyError
			if errors.As(err, &bad) {
				return nil
			}
			if err == nil {
				err = errors.New("no error")
			}
			return err
		})
	}
	if _, err := x.s.Put(t.Context(), ocispec.Descriptor{Digest: "md5:00"}, strings.NewReader("")); err == nil {
		t.Error("md5 was accepted")
	}
	if left := tree(t, filepath.Join(x.root, "blobs")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func testWriterBlocks(t *testing.T, x *suite) {
	for _, size := range []int{0, 1, readSize - 1, readSize, readSize + 1, 9*readSize + 17} {
		text := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
		x.try(t, "write", func() error {
			w, err := x.s.Create()
			if err != nil {
				return err
			}
			defer w.Abort()
			for rest := text; len(rest) > 0; {
				n, err := w.Write(rest[:min(len(rest), 100_003)])
				if err != nil {
					return err
				}
				rest = rest[n:]
			}
			desc, err := w.Commit(ocispec.Descriptor{Digest: digest.FromBytes(text), Size: int64(size)})
			if err == nil && desc.Size != int64(size) {
				t.Errorf("size %d instead of %d", desc.Size, size)
			}
			return err
		})
	}
}

func testAbort(t *testing.T, x *suite) {
	x.try(t, "write", func() error {
		w, err := x.s.Create()
		if err != nil {
			return err
		}
		if _, err = w.Write(make([]byte, 3*readSize)); err == nil {
			w.Abort()
			w.Abort()
			_, err = w.Write([]byte("x"))
			if errors.Is(err, fs.ErrClosed) {
				return nil
			}
		}
		w.Abort()
		return err
	})
	if !x.fail {
		if left := tree(t, filepath.Join(x.root, "ingest")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func testCommitTwice(t *testing.T, x *suite) {
	first, second := x.put(t, "same"), x.put(t, "same")
	if first.Digest != second.Digest {
		t.Errorf("%s and %s", first.Digest, second.Digest)
	}
	x.try(t, "write", func() error {
		w, err := x.s.Create()
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := w.Write([]byte("same")); err != nil {
			return err
		}
		if _, err := w.Commit(ocispec.Descriptor{}); err != nil {
			return err
		}
		w.Abort()
		return nil
	})
	if !x.s.Use(first.Digest) {
		t.Error("gone")
	}
}

func testCommitMends(t *testing.T, x *suite) {
	desc := x.put(t, "some text")
	if err := os.Truncate(x.s.blobPath(desc.Digest), 3); err != nil {
		t.Fatal(err)
	}
	x.try(t, "put again", func() error {
		_, err := x.s.Put(t.Context(), desc, strings.NewReader("some text"))
		return err
	})
	if got, err := x.s.ReadBlob(t.Context(), desc, 100); err != nil || string(got) != "some text" {
		t.Errorf("%q, %v", got, err)
	}
}

func testOtherAlgorithm(t *testing.T, x *suite) {
	want := ocispec.Descriptor{Digest: digest.SHA512.FromString("long"), Size: 4}
	x.try(t, "put", func() error {
		_, err := x.s.Put(t.Context(), want, strings.NewReader("long"))
		return err
	})
	if got, err := x.s.ReadBlob(t.Context(), want, 4); err != nil || string(got) != "long" {
		t.Errorf("%q, %v", got, err)
	}
}

func testSync(t *testing.T, x *suite) {
	var ds []digest.Digest
	for i := range 2*syncBatch + 3 {
		ds = append(ds, x.put(t, strings.Repeat("x", i)).Digest)
	}
	for range 2 {
		x.try(t, "sync", func() error { return x.s.Sync(t.Context(), ds...) })
	}
	for _, d := range ds {
		if info, err := os.Stat(x.s.blobPath(d)); err != nil || !durable(info.Mode()) {
			t.Fatalf("%s is not durable", d)
		}
	}
	if err := x.s.Sync(t.Context(), digest.FromString("absent")); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent blob: %v", err)
	}
}

func testTags(t *testing.T, x *suite) {
	one, two := x.build(t, "app:v1", "1"), x.build(t, "other.io/team/app", "2")
	lookup := func(name string) digest.Digest {
		desc, err := x.s.Lookup(t.Context(), mustRef(t, name))
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		return desc.Digest
	}
	if lookup("docker.io/library/app:v1") != one.Digest || lookup("other.io/team/app:latest") != two.Digest || lookup("app") != "" {
		t.Error("wrong images")
	}
	x.try(t, "move", func() error { return x.s.Tag(t.Context(), mustRef(t, "app:v1"), two) })
	if lookup("app:v1") != two.Digest {
		t.Error("the tag did not move")
	}
	refs, err := x.s.References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Reference{{mustRef(t, "app:v1"), two}, {mustRef(t, "other.io/team/app:latest"), two}}
	if diff := cmp.Diff(want, refs, cmp.AllowUnexported(Ref{})); diff != "" {
		t.Error(diff)
	}
	x.try(t, "untag", func() error { return x.s.Untag(t.Context(), mustRef(t, "app:v1")) })
	if lookup("app:v1") != "" {
		t.Error("the tag is still there")
	}
	if !x.fail {
		if err := x.s.Untag(t.Context(), mustRef(t, "app:v1")); !errors.Is(err, ErrNotFound) {
			t.Errorf("untag again: %v", err)
		}
	}
	var bad *RefError
	if err := x.s.Tag(t.Context(), mustRef(t, "app@sha256:"+zeros), two); !errors.As(err, &bad) {
		t.Errorf("tag by another digest: %v", err)
	}
	byDigest := mustRef(t, "app:v1@"+string(two.Digest))
	x.try(t, "tag by digest", func() error { return x.s.Tag(t.Context(), byDigest, two) })
	if got := lookup(byDigest.String()); got != two.Digest {
		t.Errorf("lookup by digest: %s", got)
	}
	if lookup("app:v1") != "" {
		t.Error("a name with a digest gave a tag")
	}
	x.try(t, "untag by digest", func() error { return x.s.Untag(t.Context(), byDigest) })
}

func testTagIncomplete(t *testing.T, x *suite) {
	desc := x.build(t, "", "layer")
	img, err := x.s.Image(t.Context(), desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := img.Layers[0].Descriptor.Digest
	if err := os.Remove(x.s.blobPath(gone)); err != nil {
		t.Fatal(err)
	}
	x.try(t, "tag", func() error {
		err := x.s.Tag(t.Context(), mustRef(t, "app:v1"), desc)
		if errors.Is(err, ErrNotFound) && strings.Contains(err.Error(), gone.String()) {
			return nil
		}
		return errors.Join(err, errors.New("tagged"))
	})
	_, err = x.s.Assemble(t.Context(), testConfig("x"), img.Layers)
	if !x.fail && !errors.Is(err, ErrNotFound) {
		t.Errorf("assemble: %v", err)
	}
}

func testAssembleTwice(t *testing.T, x *suite) {
	if a, b := x.build(t, "a:v1", "1", "2"), x.build(t, "a:v1", "1", "2"); a.Digest != b.Digest {
		t.Errorf("%s and %s", a.Digest, b.Digest)
	}
}

func testReopen(t *testing.T, x *suite) {
	x.build(t, "app:v1", "1")
	before := tree(t, x.root)
	x.try(t, "open", func() (err error) { x.s, err = open(x.root, x.disk); return err })
	mustHave(t, x.s, "app:v1")
	if diff := cmp.Diff(before, tree(t, x.root)); diff != "" {
		t.Errorf("opening changed the store: %s", diff)
	}
}

func testPrune(t *testing.T, x *suite) {
	x.build(t, "app:v1", "base", "old")
	x.build(t, "app:v1", "base", "new")
	kept := x.put(t, "kept").Digest
	later := x.put(t, "kept later").Digest
	x.put(t, "unreachable")
	age(t, x.s)
	var deleted int
	x.try(t, "prune", func() error {
		report, err := x.s.Prune(t.Context(), PruneOptions{
			Keep:     []digest.Digest{kept},
			KeepMore: func(context.Context) ([]digest.Digest, error) { return []digest.Digest{later}, nil },
		})
		deleted += len(report.Deleted)
		return err
	})
	if deleted != 4 { // manifest, config and layer of the old image, and the text
		t.Errorf("%d blobs deleted", deleted)
	}
	if !x.s.Use(kept) || !x.s.Use(later) {
		t.Error("what was to be kept is gone")
	}
	mustHave(t, x.s, "app:v1")
}

func testPruneAll(t *testing.T, x *suite) {
	x.build(t, "app:v1", "1")
	age(t, x.s)
	x.try(t, "prune", func() error {
		report, err := x.s.Prune(t.Context(), PruneOptions{All: true, Until: time.Now().Add(-2 * time.Hour)})
		if len(report.Untagged)+len(report.Deleted) > 0 {
			t.Errorf("removed what is younger than asked for: %+v", report)
		}
		return err
	})
	age(t, x.s)
	x.try(t, "prune", func() error {
		_, err := x.s.Prune(t.Context(), PruneOptions{All: true})
		return err
	})
	if refs, err := x.s.References(t.Context()); err != nil || len(refs) != 0 {
		t.Errorf("%v, %v", refs, err)
	}
	if left := blobs(t, x.s); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestBlobReadEndsWithItsContext(t *testing.T) {
	s := newStore(t)
	l, err := addLayer(s, make([]byte, 10))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := s.Blob(ctx, l.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestTryLock(t *testing.T) {
	s := newStore(t)
	second := openTest(t, s.Root(), disk{flush: noFlush})
	try := func(st *Store, shared bool) func() {
		t.Helper()
		unlock, err := st.TryLock("cache", shared)
		if err != nil {
			t.Fatal(err)
		}
		return unlock
	}
	one, two := try(s, true), try(second, true)
	if one == nil || two == nil {
		t.Fatal("two cannot share")
	}
	if try(s, false) != nil {
		t.Error("exclusive, while two share")
	}
	one()
	one()
	if try(s, false) != nil {
		t.Error("exclusive, while one shares")
	}
	two()
	alone := try(second, false)
	if alone == nil || try(s, true) != nil || try(s, false) != nil {
		t.Error("an exclusive lock is none")
	}
	alone()
	waited, err := s.Lock(t.Context(), "cache")
	if err != nil {
		t.Fatal(err)
	}
	if try(second, true) != nil {
		t.Error("shared, while one waited for it alone")
	}
	waited()
}
