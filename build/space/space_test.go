package space

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fixture is a store that a test fills. Whatever it makes was last used long ago,
// the earlier the longer.
type fixture struct {
	Space
	t     *testing.T
	used  time.Time
	total int64
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ocibuild-space-") // in memory, where the machine has such a place
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &fixture{Space: openSpace(t, dir), t: t, used: time.Now().Add(-24 * time.Hour).Truncate(time.Second)}
}

func openSpace(t *testing.T, dir string) Space {
	t.Helper()
	st, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cache.Open(filepath.Join(dir, "cache"))
	if err != nil {
		t.Fatal(err)
	}
	sn, err := executor.OpenSnapshots(filepath.Join(dir, "snapshots"), map[bool]executor.Level{true: executor.LevelRoot, false: executor.LevelNone}[os.Geteuid() == 0])
	if err != nil {
		t.Fatal(err)
	}
	return Space{st, c, []*executor.Snapshots{sn}}
}

// tick is when the next thing was last used.
func (f *fixture) tick() time.Time {
	f.used = f.used.Add(time.Minute)
	return f.used
}

func (f *fixture) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) age(path string, used time.Time) {
	f.t.Helper()
	f.check(os.Chtimes(path, used, used))
}

func (f *fixture) blobPath(d digest.Digest) string { return f.path("blobs/sha256", d.Encoded()) }

// layer stores a layer of that many KiB.
func (f *fixture) layer(name string, kib int) image.Layer {
	f.t.Helper()
	const frame = 3 * 512 // a header, and the end of a tar
	text := bytes.Repeat([]byte(name+"\n"), kib<<10/(len(name)+1)+1)[:kib<<10-frame]
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	f.check(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}))
	_, err := w.Write(text)
	f.check(err)
	f.check(w.Close())
	desc, err := f.Images.Put(f.t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer}, &out)
	f.check(err)
	f.age(f.blobPath(desc.Digest), f.tick())
	return image.Layer{Descriptor: desc, DiffID: desc.Digest}
}

// image makes an image of layers; an empty name is none.
func (f *fixture) image(name string, labels map[string]string, layers ...image.Layer) ocispec.Descriptor {
	f.t.Helper()
	created := f.tick()
	cfg := image.Config{Created: &created, Platform: image.HostPlatform()}
	cfg.Config.Labels = labels
	cfg.Config.Cmd = []string{name, created.String()}
	before := f.uses()
	desc, err := f.Images.Assemble(f.t.Context(), cfg, layers)
	f.check(err)
	img, err := f.Images.Image(f.t.Context(), desc, nil)
	f.check(err)
	if name != "" {
		ref, err := image.ParseRef(name)
		f.check(err)
		f.check(f.Images.Tag(f.t.Context(), ref, desc))
	}
	for d, used := range before {
		f.age(f.blobPath(d), used)
	}
	f.age(f.blobPath(desc.Digest), created)
	f.age(f.blobPath(img.ID()), created)
	return desc
}

// uses tells when each blob was last used.
func (f *fixture) uses() map[digest.Digest]time.Time {
	f.t.Helper()
	list, err := f.Images.StoredBlobs(f.t.Context())
	f.check(err)
	uses := make(map[digest.Digest]time.Time)
	for _, b := range list {
		uses[b.Digest] = b.Used
	}
	return uses
}

func keyOf(name string) cache.Key {
	h := cache.NewHasher("test")
	h.String("name", name)
	key, _ := h.Sum()
	return key
}

// record keeps what a step gave.
func (f *fixture) record(name string, layers ...image.Layer) {
	f.t.Helper()
	r := &cache.Record{Key: keyOf(name), Name: name, Value: json.RawMessage(`{}`)}
	for _, l := range layers {
		r.Blobs = append(r.Blobs, l.Descriptor)
	}
	f.check(f.Cache.Put(r))
	f.age(f.path("cache/steps", string(r.Key)), f.tick())
}

// snapshot makes an unpacked layer with a file of that many KiB.
func (f *fixture) snapshot(name string, kib int) {
	f.t.Helper()
	dir, commit, abort, err := f.Snapshots[0].Create(name)
	f.check(err)
	defer abort()
	f.check(os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte{1}, kib<<10), 0o644))
	f.check(commit())
	f.age(f.path("snapshots/committed", name), f.tick())
}

// mount makes a cache mount with a file of that many KiB.
func (f *fixture) mount(name string, kib int) string {
	f.t.Helper()
	dir, err := f.Cache.Mount(name, func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte{1}, kib<<10), 0o644)
	})
	f.check(err)
	f.check(f.Cache.LabelMount(name, "/"+name))
	f.age(dir, f.tick())
	return dir
}

func (f *fixture) census() *Census {
	f.t.Helper()
	c, err := f.Census(f.t.Context())
	f.check(err)
	return c
}

// prune carries out what o wants, and checks that it does what it said.
func (f *fixture) prune(o Options) Report {
	f.t.Helper()
	plan := f.census().Plan(o)
	report, err := plan.Prune(f.t.Context())
	f.check(err)
	said := plan.Report()
	if fmt.Sprint(said.Counts, said.Bytes, len(said.Blobs), said.Images, said.Untagged) != fmt.Sprint(report.Counts, report.Bytes, len(report.Blobs), report.Images, report.Untagged) {
		f.t.Errorf("%+v\nsaid %+v\ndid  %+v", o, said, report)
	}
	return report
}

// left lists what is in the store: names, records by name, unpacked layers, mounts,
// and how many blobs there are.
func (f *fixture) left() string {
	f.t.Helper()
	var list []string
	c := f.census()
	for _, i := range c.Items {
		switch i.Kind {
		case KindImage:
			list = append(list, "image "+i.Title)
		case KindRecord, KindMount:
			list = append(list, string(i.Kind)+" "+i.Title)
		case KindSnapshot, KindCompressed, KindSource:
			list = append(list, string(i.Kind)+" "+i.ID)
		}
	}
	slices.Sort(list)
	return fmt.Sprintf("%s; %d blobs", strings.Join(list, ", "), len(c.Blobs))
}

// du is what the program of that name says.
func (f *fixture) du() int64 {
	f.t.Helper()
	out, err := exec.Command("du", "-s", "--block-size=1", f.Images.Root()).Output()
	if err != nil {
		f.t.Skipf("du: %v", err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	f.check(err)
	return n
}

// standard fills a store with something of every kind.
func standard(f *fixture) (shared, old, loose image.Layer) {
	f.t.Helper()
	shared, old, loose = f.layer("shared", 64), f.layer("old", 32), f.layer("loose", 16)
	only := f.layer("only", 8)
	f.image("app:v1", map[string]string{"team": "a"}, shared)
	f.image("", map[string]string{"team": "b"}, shared, only)
	f.record("RUN shared", shared)
	f.record("RUN old", old)
	f.snapshot("unpacked", 128)
	f.mount("npm", 256)
	_, err := f.Images.LayerTOC(f.t.Context(), shared, f.Cache)
	f.check(err)
	f.age(f.path("cache/toc", shared.DiffID.Encoded()), f.tick())
	return shared, old, loose
}

func TestCensusIsWhatDuSays(t *testing.T) {
	f := newFixture(t)
	standard(f)
	f.check(os.MkdirAll(f.path("mounts/here"), 0o700))
	f.check(os.MkdirAll(f.path(image.QuarantineDir, "1/blobs"), 0o700))
	f.check(os.WriteFile(f.path(image.QuarantineDir, "1/blobs/x"), bytes.Repeat([]byte{1}, 16<<10), 0o644))
	f.check(os.WriteFile(f.path("ingest/tmp-1"), bytes.Repeat([]byte{1}, 40<<10), 0o644))
	f.census() // the sizes of trees are noted now, which takes a block
	c := f.census()
	want := f.du()
	if c.Total != want {
		t.Errorf("the census says %d, du %d", c.Total, want)
	}
	sum := int64(0)
	for _, n := range c.Sizes() {
		sum += n
	}
	if sum != want {
		t.Errorf("the areas take %d, du says %d: %v", sum, want, c.Sizes())
	}
	if n, err := f.Measure(t.Context()); n != want || err != nil {
		t.Errorf("measured %d, %v", n, err)
	}
	sizes := c.Sizes()
	for area, least := range map[Area]int64{Images: 88 << 10, Cache: 32 << 10, Snapshots: 128 << 10, Mounts: 256 << 10, Unfinished: 40 << 10, Quarantine: 16 << 10} {
		if got := sizes[area]; got < least || got > least+40<<10 {
			t.Errorf("%s takes %d, want about %d", area, got, least)
		}
	}
}

func TestCensusMarksNothing(t *testing.T) {
	f := newFixture(t)
	standard(f)
	before := f.uses()
	f.census()
	for d, used := range f.uses() {
		if !used.Equal(before[d]) {
			t.Errorf("%s was used %v, now %v", d, before[d], used)
		}
	}
}

func TestPruneByArea(t *testing.T) {
	hour := time.Now().Add(-time.Hour)
	long := time.Now().Add(-100 * time.Hour)
	all := "image , image app:v1, mount /npm, record RUN old, record RUN shared, snapshot unpacked; "
	for _, test := range []struct {
		name    string
		options Options
		want    string
	}{
		{"what nobody can miss", Options{}, "image app:v1, mount /npm, record RUN old, record RUN shared, snapshot unpacked; 4 blobs"},
		{"images", Options{Areas: []Area{Images}}, "image app:v1, mount /npm, record RUN old, record RUN shared, snapshot unpacked; 4 blobs"},
		{"all images", Options{Areas: []Area{Images}, All: true}, "mount /npm, record RUN old, record RUN shared, snapshot unpacked; 2 blobs"},
		{"cache", Options{Areas: []Area{Cache}}, "image , image app:v1, mount /npm, snapshot unpacked; 6 blobs"},
		{"snapshots", Options{Areas: []Area{Snapshots}}, "image , image app:v1, mount /npm, record RUN old, record RUN shared; 8 blobs"},
		{"mounts", Options{Areas: []Area{Mounts}}, "image , image app:v1, record RUN old, record RUN shared, snapshot unpacked; 8 blobs"},
		{"two areas", Options{Areas: []Area{Mounts, Snapshots}}, "image , image app:v1, record RUN old, record RUN shared; 8 blobs"},
		{"everything", Options{All: true}, "; 0 blobs"},
		{"everything old", Options{All: true, Until: hour}, "; 0 blobs"},
		{"everything older", Options{All: true, Until: long}, all + "8 blobs"},
		{"labelled", Options{Labels: []Label{ParseLabel("team=b", false)}}, "image app:v1, mount /npm, record RUN old, record RUN shared, snapshot unpacked; 5 blobs"},
		{"labelled otherwise", Options{Labels: []Label{ParseLabel("team=c", false)}}, all + "8 blobs"},
		{"not labelled", Options{Labels: []Label{ParseLabel("team=b", true)}}, all + "8 blobs"},
		{"all not labelled", Options{All: true, Labels: []Label{ParseLabel("team=b", true)}}, "image , mount /npm, record RUN old, record RUN shared, snapshot unpacked; 6 blobs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			standard(f)
			before := f.du()
			report := f.prune(test.options)
			if got := f.left(); got != test.want {
				t.Errorf("left:\n%s\nwant:\n%s", got, test.want)
			}
			// The index of names and directories that have shrunk come on top.
			if freed := before - f.du(); freed < report.Bytes-8<<10 || freed > report.Bytes+16<<10 {
				t.Errorf("%d bytes are said to be freed, du says %d", report.Bytes, freed)
			}
			faults, err := f.Fsck(t.Context())
			if err != nil || len(faults) > 0 {
				t.Errorf("fsck: %v, %v", faults, err)
			}
		})
	}
}

func TestPruneDropsOldSnapshotsUnasked(t *testing.T) {
	f := newFixture(t)
	f.snapshot("new", 4)
	f.snapshot("old", 4)
	f.age(f.path("snapshots/committed/old"), time.Now().Add(-UnusedAge-time.Hour))
	if r := f.prune(Options{}); r.Counts[KindSnapshot] != 1 {
		t.Errorf("%+v", r)
	}
	if got := f.left(); got != "snapshot new; 0 blobs" {
		t.Error(got)
	}
}

func TestFetched(t *testing.T) {
	f := newFixture(t)
	old := time.Now().Add(-UnusedAge - time.Hour)
	for name, used := range map[string]time.Time{"http/a": f.tick(), "trees/b": old, "work/dead": f.tick()} {
		dir := f.path(RemoteDir, name)
		f.check(os.MkdirAll(dir, 0o700))
		f.check(os.WriteFile(filepath.Join(dir, "x"), make([]byte, 64<<10), 0o600))
		f.age(dir, used)
	}
	f.census()
	c := f.census()
	if sizes := c.Sizes(); c.Total != f.du() || sizes[Unfinished] < 64<<10 || sizes[Cache] < 128<<10 || sizes[Other] > 64<<10 {
		t.Errorf("%d, du %d: %v", c.Total, f.du(), sizes)
	}
	if r := f.prune(Options{}); r.Counts[KindSource] != 1 || r.Counts[KindUnfinished] != 1 {
		t.Errorf("%+v", r)
	}
	if got := f.left(); got != "source http/a; 0 blobs" {
		t.Error(got)
	}
	f.prune(Options{Areas: []Area{Cache}})
	if got := f.left(); got != "; 0 blobs" {
		t.Error(got)
	}
}

func TestUselessRecordsGo(t *testing.T) {
	f := newFixture(t)
	gone := f.layer("gone", 4)
	f.record("RUN gone", gone)
	f.record("RUN damaged", f.layer("kept", 4))
	f.record("RUN good", f.layer("good", 4))
	f.check(os.Remove(f.blobPath(gone.DiffID)))
	path := f.path("cache/steps", string(keyOf("RUN damaged")))
	f.check(os.WriteFile(path, []byte("x"), 0o600))
	f.age(path, f.tick())
	f.prune(Options{})
	if got := f.left(); got != "record RUN good; 1 blobs" {
		t.Error(got)
	}
}

func TestCompressedFormsFollowTheirLayers(t *testing.T) {
	f := newFixture(t)
	a, b := f.layer("a", 16), f.layer("b", 16)
	f.image("app:v1", nil, a)
	f.record("RUN b", b)
	for _, l := range []image.Layer{a, b} {
		form := f.layer("compressed "+string(l.DiffID), 8)
		text := fmt.Sprintf(`{"mediaType":"x","digest":"%s","size":%d}`, form.Descriptor.Digest, form.Descriptor.Size)
		path := f.path("cache/blobs", l.DiffID.Encoded()+".gzip-6")
		f.check(os.WriteFile(path, []byte(text), 0o644))
		f.age(path, f.tick())
	}
	f.prune(Options{})
	form := func(l image.Layer) string { return "compressed " + l.DiffID.Encoded() + ".gzip-6" }
	if got := f.left(); !strings.Contains(got, form(a)) || !strings.Contains(got, form(b)) || !strings.HasSuffix(got, "; 6 blobs") {
		t.Errorf("after a plain prune: %s", got)
	}
	f.prune(Options{Areas: []Area{Cache}})
	if got := f.left(); got != "image app:v1; 3 blobs" {
		t.Errorf("without the cache: %s", got)
	}
}

func TestWhatARunningBuildUsedStays(t *testing.T) {
	f := newFixture(t)
	shared, old, loose := standard(f)
	lease, err := f.Images.Lease(t.Context())
	f.check(err)
	f.Images.Use(old.DiffID)
	f.Images.Use(loose.DiffID)
	f.Snapshots[0].Use("unpacked")
	_, err = f.Cache.Mount("npm", nil)
	f.check(err)
	f.prune(Options{All: true})
	if got := f.left(); got != "mount /npm, record RUN old, snapshot unpacked; 2 blobs" {
		t.Errorf("under a lease: %s", got)
	}
	if f.Images.Has(shared.DiffID) {
		t.Error("what nobody used is there")
	}
	lease.Release()
	f.prune(Options{All: true})
	if got := f.left(); got != "; 0 blobs" {
		t.Errorf("after it: %s", got)
	}
}

func TestMountThatIsLockedStays(t *testing.T) {
	f := newFixture(t)
	f.mount("npm", 4)
	unlock, err := f.Images.Lock(t.Context(), cache.MountLock("npm"))
	f.check(err)
	report, err := f.census().Plan(Options{All: true}).Prune(t.Context())
	f.check(err)
	if got := f.left(); got != "mount /npm; 0 blobs" || report.Counts[KindMount] != 0 {
		t.Errorf("%s, %+v", got, report)
	}
	unlock()
	f.prune(Options{All: true})
	if got := f.left(); got != "; 0 blobs" {
		t.Error(got)
	}
}

func TestUseAfterTheCensusKeeps(t *testing.T) {
	f := newFixture(t)
	_, old, loose := standard(f)
	plan := f.census().Plan(Options{All: true})
	f.Images.Use(old.DiffID)
	f.Images.Use(loose.DiffID)
	f.Snapshots[0].Use("unpacked")
	_, err := f.Cache.Mount("npm", nil)
	f.check(err)
	f.record("RUN new", f.layer("new", 4))
	f.age(f.blobPath(f.layer("new", 4).DiffID), time.Now().Add(-time.Hour))
	report, err := plan.Prune(t.Context())
	f.check(err)
	if got := f.left(); got != "mount /npm, record RUN new, snapshot unpacked; 3 blobs" {
		t.Errorf("left %s", got)
	}
	if report.Counts[KindMount]+report.Counts[KindSnapshot] != 0 || report.Bytes >= plan.Bytes {
		t.Errorf("said %d, did %+v", plan.Bytes, report)
	}
}

func TestNamesGivenAfterTheCensusStay(t *testing.T) {
	f := newFixture(t)
	desc := f.image("", nil, f.layer("a", 4))
	f.image("app:v1", nil, f.layer("b", 4))
	plan := f.census().Plan(Options{All: true})
	for name, d := range map[string]ocispec.Descriptor{"new:v1": desc} {
		ref, err := image.ParseRef(name)
		f.check(err)
		f.check(f.Images.Tag(t.Context(), ref, d))
	}
	_, err := plan.Prune(t.Context())
	f.check(err)
	if got := f.left(); got != "image new:v1; 3 blobs" {
		t.Error(got)
	}
}

func TestHolders(t *testing.T) {
	f := newFixture(t)
	shared, _, loose := standard(f)
	c := f.census()
	var got []string
	for _, i := range c.Holders(shared.DiffID) {
		got = append(got, string(i.Kind)+" "+i.Title)
	}
	if want := "image app:v1|image |record RUN shared"; strings.Join(got, "|") != want {
		t.Errorf("%q", got)
	}
	if list := c.Holders(loose.DiffID); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if list := c.Holders(digest.FromString("not there")); list != nil {
		t.Errorf("%+v", list)
	}
}

func TestUnreadableImageStopsThePrune(t *testing.T) {
	f := newFixture(t)
	desc := f.image("app:v1", nil, f.layer("a", 4))
	f.layer("loose", 4)
	f.check(errors.Join(os.Chmod(f.blobPath(desc.Digest), 0o644), os.WriteFile(f.blobPath(desc.Digest), bytes.Repeat([]byte(" "), int(desc.Size)), 0o644)))
	_, err := f.census().Plan(Options{}).Prune(t.Context())
	if err == nil || !strings.Contains(err.Error(), "app:v1") {
		t.Errorf("%v", err)
	}
}
