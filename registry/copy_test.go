package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// holds says what a repository of a fake has of a store: all blobs and manifests that want names.
func (f *fakeRegistry) holds(repo string, want map[digest.Digest][]byte) (missing []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for d, body := range want {
		if string(f.blobs[repo+" "+d.String()]) != string(body) && string(f.manifests[repo+" "+d.String()].body) != string(body) {
			missing = append(missing, d.String())
		}
	}
	return missing
}

// bothWays copies between two registries and within one.
func bothWays(t *testing.T, run func(t *testing.T, from, to *fakeRegistry)) {
	t.Run("to another host", func(t *testing.T) { run(t, newFake(t), newFake(t)) })
	t.Run("on one host", func(t *testing.T) {
		f := newFake(t)
		run(t, f, f)
	})
}

func TestCopy(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to *fakeRegistry) {
		have := newStore()
		image, other := have.image(amd64, 3<<20, 1000), have.image(arm64, 20)
		image.Platform, other.Platform = &amd64, &arm64
		desc := have.nest(image, other, have.nest(have.image(armV7, 5)), have.attestation(image))
		from.seed("a/app", "v1", have, desc)
		c := newClient(t, Options{})
		got, err := c.Copy(t.Context(), CopyRequest{From: from.repo("a/app"), Reference: "v1", To: to.repo("b/app"), Tag: "v2"})
		if err != nil || got.Digest != desc.Digest {
			t.Fatalf("%v %v", got, err)
		}
		if missing := to.holds("b/app", have.blobs); len(missing) > 0 || digest.FromBytes(to.manifests["b/app v2"].body) != desc.Digest {
			t.Errorf("missing: %v", missing)
		}
		fetched := from.count("GET /v2/a/app/blobs/")
		if mounted := c.noted(NoteMounted); mounted != (from == to) || mounted && fetched > 0 {
			t.Errorf("mounted: %v, with %d downloads", mounted, fetched)
		}
		before := len(to.log)
		if _, err := newClient(t, Options{}).Copy(t.Context(), CopyRequest{From: from.repo("a/app"), Reference: desc.Digest.String(), To: to.repo("b/app"), Tag: "v2"}); err != nil {
			t.Fatal(err)
		}
		for _, line := range to.log[before:] {
			if strings.HasPrefix(line, "P") {
				t.Errorf("the second copy: %s", line)
			}
		}
	})
}

// TestCopyWithoutMounts reads many blobs from the host that it writes them to, at the same time.
func TestCopyWithoutMounts(t *testing.T) {
	f, have := newFake(t), newStore()
	f.noMount = true
	sizes := make([]int, 60)
	for i := range sizes {
		sizes[i] = 100<<10 + i
	}
	f.seed("a", "v1", have, have.image(amd64, sizes...))
	c := newClient(t, Options{Parallel: 20})
	if _, err := c.Copy(t.Context(), CopyRequest{From: f.repo("a"), Reference: "v1", To: f.repo("b"), Tag: "v1"}); err != nil {
		t.Fatal(err)
	}
	if missing := f.holds("b", have.blobs); len(missing) > 0 {
		t.Errorf("missing: %v", missing)
	}
	before := f.count("HEAD /v2/b/blobs/")
	if _, err := c.Copy(t.Context(), CopyRequest{From: f.repo("a"), Reference: "v1", To: f.repo("b"), Tag: "v2"}); err != nil {
		t.Fatal(err)
	}
	if n := f.count("HEAD /v2/b/blobs/") - before; n > 0 {
		t.Errorf("%d blobs were asked for again", n)
	}
}

func TestCopyPlatforms(t *testing.T) {
	have := newStore()
	image, other, third := have.image(amd64, 1), have.image(arm64, 2), have.image(armV7, 3)
	image.Platform, other.Platform, third.Platform = &amd64, &arm64, &armV7
	note := have.attestation(image)
	index := have.nest(image, other, third, note)
	from := newFake(t)
	from.seed("app", "v1", have, index)
	from.seed("app", "amd64", have, image)
	for _, test := range []struct {
		tag       string
		platforms []ocispec.Platform
		want      string // names of what is at the destination, or the error
	}{
		{"v1", nil, "index image other third note"},
		{"v1", only(amd64), "image"},
		{"v1", []ocispec.Platform{arm64, amd64}, "image other note"},
		{"v1", []ocispec.Platform{arm64, amd64, armV7}, "index image other third note"},
		{"v1", only(ocispec.Platform{OS: "linux", Architecture: "s390x"}), "there is no image for linux/s390x; available: linux/amd64, linux/arm64, linux/arm/v7"},
		{"amd64", only(amd64), "image"},
		{"amd64", only(arm64), "the image is for linux/amd64, not for linux/arm64"},
	} {
		to := newFake(t)
		got, err := newClient(t, Options{}).Copy(t.Context(), CopyRequest{From: from.repo("app"), Reference: test.tag, To: to.repo("app"), Tag: "x", Platforms: test.platforms})
		if err != nil {
			if !strings.Contains(asError(t, err).Error(), test.want) {
				t.Errorf("%v: %v", test.platforms, err)
			}
			continue
		}
		var names []string
		for _, d := range []struct {
			name string
			desc ocispec.Descriptor
		}{{"index", index}, {"image", image}, {"other", other}, {"third", third}, {"note", note}} {
			if _, ok := to.manifests["app "+d.desc.Digest.String()]; ok {
				names = append(names, d.name)
			}
		}
		if strings.Join(names, " ") != test.want || digest.FromBytes(to.manifests["app x"].body) != got.Digest {
			t.Errorf("%v: got %v, want %s", test.platforms, names, test.want)
		}
	}
}

// TestCopyPlatformsOfNestedIndexes copies some images out of indexes in an index, of which one does not tell its platforms.
func TestCopyPlatformsOfNestedIndexes(t *testing.T) {
	have := newStore()
	image, other, third := have.image(amd64, 1), have.image(arm64, 2), have.image(armV7, 3)
	silent := have.image(ocispec.Platform{OS: "linux", Architecture: "riscv64"}, 4)
	image.Platform, other.Platform, third.Platform = &amd64, &arm64, &armV7
	note := have.attestation(other)
	inner := have.nest(other, third, note)
	inner.Annotations = map[string]string{"kept": "yes"}
	index := have.nest(image, inner, have.nest(silent))
	from := newFake(t)
	from.seed("app", "v1", have, index)
	for _, test := range []struct {
		platforms []ocispec.Platform
		want      string // the images that are at the destination, or the error
	}{
		{only(arm64), "other"},
		{only(ocispec.Platform{OS: "linux", Architecture: "riscv64"}), "silent"},
		{[]ocispec.Platform{arm64, amd64}, "image other note"},
		{[]ocispec.Platform{armV7, arm64, {OS: "linux", Architecture: "riscv64"}}, "other third note silent"},
		{[]ocispec.Platform{amd64, arm64, armV7, {OS: "linux", Architecture: "riscv64"}}, "image other third note silent"},
		{[]ocispec.Platform{amd64, {OS: "linux", Architecture: "s390x"}}, "there is no image for linux/s390x; available: linux/amd64, linux/arm64, linux/arm/v7, linux/riscv64"},
	} {
		to := newFake(t)
		got, err := newClient(t, Options{}).Copy(t.Context(), CopyRequest{From: from.repo("app"), Reference: "v1", To: to.repo("app"), Tag: "x", Platforms: test.platforms})
		if err != nil {
			if !strings.Contains(asError(t, err).Error(), test.want) {
				t.Errorf("%v: %v", test.platforms, err)
			}
			continue
		}
		var names []string
		for _, d := range []struct {
			name string
			desc ocispec.Descriptor
		}{{"image", image}, {"other", other}, {"third", third}, {"note", note}, {"silent", silent}} {
			if _, ok := to.manifests["app "+d.desc.Digest.String()]; ok {
				names = append(names, d.name)
			}
		}
		if strings.Join(names, " ") != test.want {
			t.Errorf("%v: got %v, want %s", test.platforms, names, test.want)
		}
		into := newStore()
		if _, err := newClient(t, Options{}).Pull(t.Context(), PullRequest{Repo: to.repo("app"), Reference: "x", All: true}, into); err != nil {
			t.Errorf("%v: %v", test.platforms, err)
		}
		if len(test.platforms) == 4 && got.Digest != index.Digest {
			t.Errorf("all platforms: got %s, which is not the index", got.Digest)
		}
		if len(test.platforms) == 2 && !strings.Contains(string(to.manifests["app x"].body), `"kept":"yes"`) {
			t.Errorf("the entry of an index has lost its annotations: %s", to.manifests["app x"].body)
		}
	}
}

func TestCopyReferrers(t *testing.T) {
	for _, knows := range []bool{true, false} {
		from, to, have := newFake(t), newFake(t), newStore()
		from.referrers, to.referrers = knows, knows
		image := have.image(amd64, 10)
		image.Platform = &amd64
		index := have.nest(image)
		notes := []ocispec.Descriptor{have.note(index, "of the index"), have.note(image, "of the image")}
		notes = append(notes, have.note(notes[0], "of the note"))
		c := newClient(t, Options{})
		for i, desc := range append([]ocispec.Descriptor{index}, notes...) {
			tag := ""
			if i == 0 {
				tag = "v1"
			}
			if _, err := c.Push(t.Context(), PushRequest{Repo: from.repo("app"), Reference: tag, Descriptor: desc}, have); err != nil {
				t.Fatal(err)
			}
		}
		r := CopyRequest{From: from.repo("app"), Reference: "v1", To: to.repo("copy"), Tag: "v1"}
		got, err := c.Copy(t.Context(), r)
		if err != nil || got.Referrers != 0 || len(to.holds("copy", have.blobs)) == 0 {
			t.Errorf("without: %v %v", got, err)
		}
		r.Referrers = true
		got, err = c.Copy(t.Context(), r)
		if err != nil || got.Referrers != 3 {
			t.Errorf("with: %v %v", got, err)
		}
		if missing := to.holds("copy", have.blobs); len(missing) > 0 {
			t.Errorf("missing: %v", missing)
		}
		for _, subject := range []ocispec.Descriptor{index, image, notes[0]} {
			if list, err := c.Referrers(t.Context(), to.repo("copy"), subject.Digest); err != nil || len(list) != 1 {
				t.Errorf("%v %v", list, err)
			}
		}
	}
}

// TestCopyFails ends copies early: nothing is tagged then, and the error tells the side.
func TestCopyFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		setup func(from, to *fakeRegistry)
		want  string // FROM and TO stand for the hosts
	}{
		{"damaged at the source", func(from, _ *fakeRegistry) { from.fault("GET /v2/app/blobs/", -1, flip) }, "FROM"},
		{"not at the source", func(from, _ *fakeRegistry) { from.fault("GET /v2/app/blobs/", -1, status(404)) }, "FROM/app"},
		{"no such tag", func(from, _ *fakeRegistry) { from.manifests = map[string]stored{} }, "copy FROM/app:v1: manifest unknown"},
		{"not allowed at the destination", func(_, to *fakeRegistry) { to.auth, to.password = "basic", "x" }, "run `ocibuild login TO`"},
		{"cut at the source for a while", func(from, _ *fakeRegistry) { from.fault("GET /v2/app/blobs/", 3, cut(1000)) }, ""},
		{"trouble at the destination for a while", func(_, to *fakeRegistry) { to.fault("PUT /v2/copy/blobs", 2, status(503)) }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			from, to, have := newFake(t), newFake(t), newStore()
			desc := have.image(amd64, 2<<20)
			from.seed("app", "v1", have, desc)
			test.setup(from, to)
			_, err := newClient(t, Options{}).Copy(t.Context(), CopyRequest{From: from.repo("app"), Reference: "v1", To: to.repo("copy"), Tag: "v1"})
			if test.want == "" {
				if err != nil || len(to.holds("copy", have.blobs)) > 0 {
					t.Errorf("got %v", err)
				}
				return
			}
			want := strings.NewReplacer("FROM", from.host(), "TO", to.host()).Replace(test.want)
			if e := asError(t, err); !strings.Contains(e.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			if len(to.manifests) > 0 {
				t.Error("something was tagged")
			}
		})
	}
}

func TestDelete(t *testing.T) {
	have := newStore()
	first, second := have.image(amd64, 1), have.image(amd64, 2, 3)
	for _, test := range []struct {
		deletes   string
		reference string
		all       bool
		want      string // the tags that are left, or the error
	}{
		{"tags", "one", false, "alias two"},
		{"tags", "two", false, "alias one"},
		{"tags", first.Digest.String(), false, "two"},
		{"tags", "none", false, "MANIFEST_UNKNOWN"},
		{"digests", "two", false, "alias one"},
		{"digests", "one", false, "the registry cannot delete a tag alone, and " + first.Digest.String() + " is also tagged alias; --force deletes them all"},
		{"digests", "one", true, "two"},
		{"digests", first.Digest.String(), false, "two"},
		{"digests", "none", false, "MANIFEST_UNKNOWN"},
		{"", "two", false, "REGISTRY_STORAGE_DELETE_ENABLED"},
		{"", first.Digest.String(), false, "REGISTRY_STORAGE_DELETE_ENABLED"},
	} {
		t.Run(fmt.Sprint(test.deletes, " ", test.reference, " ", test.all), func(t *testing.T) {
			f := newFake(t)
			f.deletes = test.deletes
			f.seed("app", "one", have, first)
			f.seed("app", "alias", have, first)
			f.seed("app", "two", have, second)
			c := newClient(t, Options{})
			_, err := c.Delete(t.Context(), f.repo("app"), test.reference, test.all)
			left, _ := collect(c.Tags(t.Context(), f.repo("app")))
			if err != nil {
				if !strings.Contains(asError(t, err).Error(), test.want) || left != "alias one two" {
					t.Errorf("%v, %s left", err, left)
				}
				return
			}
			if left != test.want {
				t.Errorf("left: %s, want %s", left, test.want)
			}
		})
	}
}

// TestDeleteReferrer takes an artifact out of the list that clients keep.
func TestDeleteReferrer(t *testing.T) {
	f, have := newFake(t), newStore()
	f.deletes = "digests"
	image := have.image(amd64, 10)
	f.seed("app", "v1", have, image)
	c := newClient(t, Options{})
	notes := []ocispec.Descriptor{have.note(image, "one"), have.note(image, "two")}
	for _, note := range notes {
		if _, err := c.Push(t.Context(), PushRequest{Repo: f.repo("app"), Descriptor: note}, have); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Delete(t.Context(), f.repo("app"), notes[0].Digest.String(), false); err != nil {
		t.Fatal(err)
	}
	list, err := c.Referrers(t.Context(), f.repo("app"), image.Digest)
	if err != nil || len(list) != 1 || list[0].Digest != notes[1].Digest {
		t.Errorf("%v %v", list, err)
	}
}

func TestExists(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 10)
	f.seed("app", "v1", have, desc)
	c := newClient(t, Options{})
	for reference, want := range map[string]bool{"v1": true, desc.Digest.String(): true, "v2": false} {
		if got, err := c.Exists(t.Context(), f.repo("app"), reference); err != nil || got != want {
			t.Errorf("%s: %v %v", reference, got, err)
		}
	}
	f.fault("/v2/app", -1, status(http.StatusForbidden))
	if _, err := c.Exists(t.Context(), f.repo("app"), "v1"); err == nil {
		t.Error("a refusal is taken for an answer")
	}
}

// TestDeleteAtRegistries deletes at real ones, which may not be set up for it. Distribution 3 deletes tags alone.
func TestDeleteAtRegistries(t *testing.T) {
	eachRegistry(t, func(t *testing.T, impl implementation) {
		ctx, have := context.Background(), newStore()
		desc := have.image(amd64, 10)
		c := newClient(t, Options{})
		repo := Repository{Host: impl.start(t, "", ""), Name: "app"}
		if _, err := c.Push(ctx, PushRequest{Repo: repo, Reference: "v1", Descriptor: desc}, have); err != nil {
			t.Fatal(err)
		}
		for _, reference := range []string{desc.Digest.String(), "v1"} {
			_, err := c.Delete(ctx, repo, reference, false)
			if reference == "v1" && impl.name != "docker-registry" && err == nil {
				continue // it deletes tags whatever is set
			}
			if e := asError(t, err); e.Status != http.StatusMethodNotAllowed || !strings.Contains(e.Hint, "REGISTRY_STORAGE_DELETE_ENABLED") {
				t.Errorf("%s: %v", reference, err)
			}
		}
		t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "true")
		repo.Host = impl.start(t, "", "")
		other := Repository{Host: repo.Host, Name: "copy"}
		for _, tag := range []string{"v1", "alias"} {
			if _, err := c.Push(ctx, PushRequest{Repo: repo, Reference: tag, Descriptor: desc}, have); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Copy(ctx, CopyRequest{From: repo, Reference: "v1", To: other, Tag: "v1"}); err != nil {
			t.Fatal(err)
		}
		var shared *TagsSharedError
		got, err := c.Delete(ctx, repo, "alias", false)
		switch alone := impl.name != "docker-registry"; {
		case alone && (err != nil || got != Deleted{Tag: "alias"}):
			t.Errorf("%v %v", got, err)
		case !alone && (!errors.As(err, &shared) || len(shared.Tags) != 1 || shared.Tags[0] != "v1"):
			t.Errorf("%v %v", got, err)
		}
		if got, err := c.Delete(ctx, repo, "v1", true); err != nil || got.Tag != "v1" {
			t.Errorf("%v %v", got, err)
		}
		for _, tag := range []string{"v1", "alias"} {
			if there, err := c.Exists(ctx, repo, tag); err != nil || there {
				t.Errorf("%s: %v %v", tag, there, err)
			}
		}
		if there, err := c.Exists(ctx, other, "v1"); err != nil || !there {
			t.Errorf("the copy: %v %v", there, err)
		}
		if _, err := c.Delete(ctx, other, desc.Digest.String(), false); err != nil {
			t.Error(err)
		}
		if there, err := c.Exists(ctx, other, "v1"); err != nil || there {
			t.Errorf("the copy, once its manifest is gone: %v %v", there, err)
		}
	})
}
