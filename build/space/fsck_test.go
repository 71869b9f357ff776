package space

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// hospital is a store with something of everything that can be damaged.
type hospital struct {
	*fixture
	app, twin     ocispec.Descriptor
	shared, alone image.Layer // of app and twin; of app
	cached        image.Layer // of a record alone
	unpacked      string      // of alone
	onto          string      // the name of alone, unpacked on top of shared
}

func newHospital(t *testing.T) *hospital {
	h := &hospital{fixture: newFixture(t)}
	h.shared, h.alone, h.cached = h.layer("shared", 4), h.layer("alone", 4), h.layer("cached", 4)
	h.app = h.image("app:v1", nil, h.shared, h.alone)
	h.twin = h.image("twin:v1", nil, h.shared)
	h.record("RUN cached", h.cached)
	h.record("RUN shared", h.shared)
	_, err := h.Images.LayerTOC(t.Context(), h.shared, h.Cache)
	h.check(err)
	h.check(h.Cache.PutFact("content", keyOf("x"), []byte("fact")))
	memo, err := h.Cache.Files("/context")
	h.check(err)
	memo.Remember("f", cache.Stat{Size: 1}, h.alone.DiffID)
	h.check(memo.Save())
	h.unpacked = h.alone.DiffID.Encoded()
	h.unpack(h.unpacked, "")
	chain := image.ChainOf([]image.Layer{h.shared, h.alone})
	h.onto = chain.Name()
	h.unpack(h.onto, chain.String())
	if _, err := h.Images.List(t.Context(), image.ListOptions{}); err != nil { // summaries are remembered
		t.Fatal(err)
	}
	if faults := h.fsck(); len(faults) > 0 {
		t.Fatalf("before any damage: %v", faults)
	}
	return h
}

// unpack makes an unpacked layer of alone.
func (h *hospital) unpack(name, note string) {
	h.t.Helper()
	sn, err := h.Snapshots[0].Prepare(h.t.Context(), nil)
	h.check(err)
	toc, err := h.Images.LayerTOC(h.t.Context(), h.alone, h.Cache)
	h.check(err)
	h.check(os.WriteFile(filepath.Join(sn.Upper(), "alone"), []byte(strings.Repeat("alone\n", 1+int(toc.Entries[0].Size)/6))[:toc.Entries[0].Size], 0o644))
	if note != "" {
		h.check(sn.Note(note))
	}
	h.check(h.Snapshots[0].Commit(sn, name))
}

func (h *hospital) fsck() []image.Fault {
	h.t.Helper()
	faults, err := h.Fsck(h.t.Context())
	h.check(err)
	return faults
}

// overwrite changes one byte of a file.
func (h *hospital) overwrite(path string, at int) {
	h.t.Helper()
	text, err := os.ReadFile(h.path(path))
	h.check(err)
	if at < 0 {
		at += len(text)
	}
	text[at] ^= 1
	h.check(os.Chmod(h.path(path), 0o600))
	h.check(os.WriteFile(h.path(path), text, 0o600))
}

func blobName(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

// onlyFile gives the only file of a directory of the store.
func (h *hospital) onlyFile(dir string) string {
	h.t.Helper()
	entries, err := os.ReadDir(h.path(dir))
	h.check(err)
	if len(entries) != 1 {
		h.t.Fatalf("%s has %d entries", dir, len(entries))
	}
	return filepath.Join(dir, entries[0].Name())
}

// names lists what the table has, and what the quarantine's has.
func (h *hospital) names() (here, away string) {
	h.t.Helper()
	read := func(path string) string {
		text, err := os.ReadFile(path)
		h.check(err)
		var index ocispec.Index
		h.check(json.Unmarshal(text, &index))
		var list []string
		for _, m := range index.Manifests {
			list = append(list, m.Annotations[ocispec.AnnotationRefName])
		}
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	here = read(h.path("index.json"))
	if list, _ := filepath.Glob(h.path("quarantine/*/index.json")); len(list) == 1 {
		away = read(list[0])
	}
	return here, away
}

func TestRepair(t *testing.T) {
	for _, test := range []struct {
		name       string
		damage     func(*hospital)
		kinds      string // of the faults found
		done       string // what was done
		here, away string // names afterwards
	}{
		{
			"layer of two images",
			func(h *hospital) { h.overwrite(blobName(h.shared.DiffID), 600) },
			"blob image image record", "dropped quarantined", "", "app:v1 twin:v1",
		},
		{
			"layer of one image, cut short",
			func(h *hospital) { h.check(os.Truncate(h.blobPath(h.alone.DiffID), 100)) },
			"blob image", "quarantined", "twin:v1", "app:v1",
		},
		{
			"layer that is gone",
			func(h *hospital) { h.check(os.Remove(h.blobPath(h.alone.DiffID))) },
			"image", "quarantined", "twin:v1", "app:v1",
		},
		{
			"manifest",
			func(h *hospital) { h.overwrite(blobName(h.app.Digest), 10) },
			"blob image", "quarantined", "twin:v1", "app:v1",
		},
		{
			"layer of the cache",
			func(h *hospital) { h.overwrite(blobName(h.cached.DiffID), 600) },
			"blob record", "dropped", "app:v1 twin:v1", "",
		},
		{
			"record",
			func(h *hospital) { h.overwrite("cache/steps/"+string(keyOf("RUN shared")), -3) },
			"record", "dropped", "app:v1 twin:v1", "",
		},
		{
			"table of contents",
			func(h *hospital) { h.overwrite("cache/toc/"+h.shared.DiffID.Encoded(), -3) },
			"cache", "dropped", "app:v1 twin:v1", "",
		},
		{
			"table of contents of another layer",
			func(h *hospital) { h.check(h.Cache.PutTOC(h.shared.DiffID, []byte("other"))) },
			"cache", "dropped", "app:v1 twin:v1", "",
		},
		{
			"fact",
			func(h *hospital) { h.check(os.Truncate(h.path("cache/facts/content", string(keyOf("x"))), 5)) },
			"cache", "dropped", "app:v1 twin:v1", "",
		},
		{
			"file memo",
			func(h *hospital) { h.overwrite(h.onlyFile("cache/files"), -1) },
			"cache", "dropped", "app:v1 twin:v1", "",
		},
		{
			"unpacked file",
			func(h *hospital) { h.overwrite("snapshots/committed/"+h.unpacked+"/fs/alone", 3) },
			"snapshot", "dropped", "app:v1 twin:v1", "",
		},
		{
			"unpacked file that is gone",
			func(h *hospital) { h.check(os.Remove(h.path("snapshots/committed", h.unpacked, "fs/alone"))) },
			"snapshot", "dropped", "app:v1 twin:v1", "",
		},
		{
			"file unpacked on top of others",
			func(h *hospital) { h.overwrite("snapshots/committed/"+h.onto+"/fs/alone", 3) },
			"snapshot", "dropped", "app:v1 twin:v1", "",
		},
		{
			"file too many, unpacked on top of others",
			func(h *hospital) {
				h.check(os.WriteFile(h.path("snapshots/committed", h.onto, "fs/more"), []byte("x"), 0o644))
			},
			"snapshot", "dropped", "app:v1 twin:v1", "",
		},
		{
			"what layers were unpacked on top of each other",
			func(h *hospital) { h.overwrite("snapshots/committed/"+h.onto+"/note", 9) },
			"snapshot", "dropped", "app:v1 twin:v1", "",
		},
		{
			"file among the blobs",
			func(h *hospital) { h.check(os.WriteFile(h.path("blobs/sha256/README"), []byte("x"), 0o644)) },
			"blob", "quarantined", "app:v1 twin:v1", "",
		},
		{
			"the layout's file",
			func(h *hospital) { h.check(os.Truncate(h.path("oci-layout"), 3)) },
			"layout", "made anew", "app:v1 twin:v1", "",
		},
		{
			"the format's file",
			func(h *hospital) { h.overwrite("format", 3) },
			"layout", "made anew", "app:v1 twin:v1", "",
		},
		{
			"table that ends early",
			func(h *hospital) {
				info, err := os.Stat(h.path("index.json"))
				h.check(err)
				h.check(os.Truncate(h.path("index.json"), info.Size()-20))
			},
			"table", "made anew", " app:v1", "", // twin's entry is cut, but the image stays
		},
		{
			"table with a wrong byte",
			func(h *hospital) { h.overwrite("index.json", 0) },
			"table", "made anew", "app:v1 twin:v1", "",
		},
		{
			"table that is gone",
			func(h *hospital) { h.check(os.Remove(h.path("index.json"))) },
			"table", "made anew", " ", "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHospital(t)
			test.damage(h)
			good := h.goodBlobs()
			again, err := image.OpenDamaged(h.Images.Root())
			h.check(err)
			h.Images = again
			faults := h.fsck()
			if got := kindsOf(faults); got != test.kinds {
				t.Fatalf("found %q, want %q: %v", got, test.kinds, faults)
			}
			done, err := h.Repair(t.Context(), faults)
			h.check(err)
			if got := actionsOf(done); got != test.done || len(done) != len(faults) {
				t.Errorf("did %q, want %q: %v", got, test.done, done)
			}
			if faults := h.fsck(); len(faults) > 0 {
				t.Errorf("after the repair: %v", faults)
			}
			if _, err := image.Open(h.Images.Root()); err != nil {
				t.Errorf("after the repair: %v", err)
			}
			if here, away := h.names(); here != test.here || away != test.away {
				t.Errorf("names are %q, and in the quarantine %q; want %q, %q", here, away, test.here, test.away)
			}
			h.mustHaveAll(good)
		})
	}
}

func kindsOf(faults []image.Fault) string {
	var list []string
	for _, f := range faults {
		list = append(list, string(f.Kind))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func actionsOf(done []image.Repaired) string {
	var list []string
	for _, d := range done {
		list = append(list, string(d.Action))
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// goodBlobs lists the blobs that are what they are named by.
func (h *hospital) goodBlobs() []digest.Digest {
	h.t.Helper()
	files, err := filepath.Glob(h.path("blobs/sha256/*"))
	h.check(err)
	var list []digest.Digest
	for _, f := range files {
		text, err := os.ReadFile(f)
		h.check(err)
		if d := digest.FromBytes(text); d.Encoded() == filepath.Base(f) {
			list = append(list, d)
		}
	}
	return list
}

// mustHaveAll wants blobs to be in the store or in the quarantine, also after a
// prune.
func (h *hospital) mustHaveAll(blobs []digest.Digest) {
	h.t.Helper()
	kept := func() (missing []digest.Digest) {
		for _, d := range blobs {
			away, _ := filepath.Glob(h.path("quarantine/*/blobs/sha256", d.Encoded()))
			if len(away) == 0 && !h.Images.Has(d) {
				missing = append(missing, d)
			}
		}
		return missing
	}
	if gone := kept(); len(gone) > 0 {
		h.t.Errorf("good blobs are gone: %v", gone)
	}
	h.prune(Options{})
	gone := kept()
	if i := slices.IndexFunc(gone, func(d digest.Digest) bool { return d != h.cached.DiffID }); i >= 0 {
		h.t.Errorf("good blobs are gone after a prune: %v", gone)
	}
}

// An index keeps its place while one of its images is whole.
func TestRepairKeepsIndex(t *testing.T) {
	h := newHospital(t)
	index, err := h.Images.AssembleIndex(t.Context(), []ocispec.Descriptor{
		h.platformImage("amd64", h.shared), h.platformImage("arm64", h.shared, h.alone),
	}, nil)
	h.check(err)
	ref, err := image.ParseRef("multi:v1")
	h.check(err)
	h.check(h.Images.Tag(t.Context(), ref, index))
	h.overwrite(blobName(h.alone.DiffID), 600)
	faults := h.fsck()
	done, err := h.Repair(t.Context(), faults)
	h.check(err)
	if faults := h.fsck(); len(faults) > 0 {
		t.Errorf("after the repair: %v (did %v)", faults, done)
	}
	if here, away := h.names(); here != "multi:v1 twin:v1" || away != " app:v1" {
		t.Errorf("names are %q, and in the quarantine %q", here, away)
	}
	img, err := h.Images.Select(t.Context(), index, &ocispec.Platform{OS: "linux", Architecture: "amd64"})
	if err != nil || len(img.Layers) != 1 {
		t.Errorf("the whole image of the index: %v", err)
	}
}

func (h *hospital) platformImage(arch string, layers ...image.Layer) ocispec.Descriptor {
	h.t.Helper()
	created := h.tick()
	desc, err := h.Images.Assemble(h.t.Context(), image.Config{Created: &created, Platform: ocispec.Platform{OS: "linux", Architecture: arch}}, layers)
	h.check(err)
	return desc
}

// What an image wrongly says of itself is no damage.
func TestRepairLeavesClaims(t *testing.T) {
	h := newHospital(t)
	cfg := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, h.shared.DiffID)
	config, err := h.Images.Put(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig}, strings.NewReader(string(cfg)))
	h.check(err)
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: struct {
			SchemaVersion int `json:"schemaVersion"`
		}{2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{h.alone.Descriptor},
	})
	h.check(err)
	desc, err := h.Images.Put(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest}, strings.NewReader(string(manifest)))
	h.check(err)
	ref, err := image.ParseRef("liar:v1")
	h.check(err)
	h.check(h.Images.Tag(t.Context(), ref, desc))
	faults := h.fsck()
	if kindsOf(faults) != "image" {
		t.Fatalf("found %v", faults)
	}
	done, err := h.Repair(t.Context(), faults)
	h.check(err)
	if actionsOf(done) != "left" || done[0].Note == "" {
		t.Errorf("did %+v", done)
	}
	if here, _ := h.names(); here != "app:v1 liar:v1 twin:v1" {
		t.Errorf("names are %q", here)
	}
	if _, err := os.Lstat(h.path(image.QuarantineDir)); err == nil {
		t.Error("there is a quarantine")
	}
}
