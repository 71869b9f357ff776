package registry

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bundle stores an index with everything that an index can hold: images for two platforms, one of them in a nested index beside
// another, an attestation and an artifact.
func bundle(s *memStore) ocispec.Descriptor {
	a, b, c := s.image(amd64, 100), s.image(arm64, 200), s.image(armV7, 300)
	a.Platform, b.Platform, c.Platform = &amd64, &arm64, &armV7
	return s.nest(a, s.attestation(a), s.nest(b), s.nest(c), s.artifact(a))
}

func TestPullSeveralPlatforms(t *testing.T) {
	f, have := newFake(t), newStore()
	f.seed("multi", "v1", have, bundle(have))
	for _, test := range []struct {
		name    string
		request PullRequest
		layers  string // the architectures whose layers are there
		all     bool
	}{
		{"one", PullRequest{Platforms: only(amd64)}, "amd640", false},
		{"one in a nested index", PullRequest{Platforms: only(arm64)}, "arm640", false},
		{"two", PullRequest{Platforms: []ocispec.Platform{amd64, armV7}}, "amd640 armv70", false},
		{"one twice", PullRequest{Platforms: []ocispec.Platform{amd64, amd64}}, "amd640", false},
		{"all", PullRequest{All: true}, "amd640 arm640 armv70", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			into := newStore()
			test.request.Repo, test.request.Reference = f.repo("multi"), "v1"
			if _, err := newClient(t, Options{}).Pull(context.Background(), test.request, into); err != nil {
				t.Fatal(err)
			}
			for name, size := range map[string]int{"amd640": 100, "arm640": 200, "armv70": 300} {
				_, there := into.blobs[digest.FromBytes(content(name, size))]
				if want := strings.Contains(test.layers, name); there != want {
					t.Errorf("layer %s: there %v, want %v", name, there, want)
				}
			}
			if whole := maps.EqualFunc(have.blobs, into.blobs, bytes.Equal); whole != test.all {
				t.Errorf("whole: %v, want %v", whole, test.all)
			}
		})
	}
}

func TestPullOnePlatformThenTheOther(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.index(amd64, arm64)
	f.seed("multi", "v1", have, desc)
	c, into := newClient(t, Options{}), newStore()
	for _, p := range []ocispec.Platform{amd64, arm64} {
		got, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("multi"), Reference: "v1", Platforms: only(p)}, into)
		if err != nil || got.Digest != desc.Digest {
			t.Fatalf("%v, %v", got, err)
		}
	}
	if !maps.EqualFunc(have.blobs, into.blobs, bytes.Equal) {
		t.Error("the index is not complete")
	}
}

func TestPullSeveralRefuses(t *testing.T) {
	f, have := newFake(t), newStore()
	f.seed("multi", "v1", have, bundle(have))
	into := newStore()
	_, err := newClient(t, Options{}).Pull(context.Background(), PullRequest{
		Repo: f.repo("multi"), Reference: "v1", Platforms: []ocispec.Platform{amd64, {OS: "linux", Architecture: "s390x"}},
	}, into)
	e := asError(t, err)
	if !strings.Contains(e.Message, "linux/s390x") || !strings.Contains(e.Hint, "linux/amd64") || !strings.Contains(e.Hint, "linux/arm64") {
		t.Errorf("%q, hint %q", e.Message, e.Hint)
	}
}

func TestPushWholeRoundTrip(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := bundle(have)
	if _, err := newClient(t, Options{}).Push(context.Background(), PushRequest{Repo: f.repo("multi"), Reference: "v1", Descriptor: desc, Whole: true}, have); err != nil {
		t.Fatal(err)
	}
	into := newStore()
	got, err := newClient(t, Options{}).Pull(context.Background(), PullRequest{Repo: f.repo("multi"), Reference: "v1", All: true}, into)
	if err != nil || got.Digest != desc.Digest || !maps.EqualFunc(have.blobs, into.blobs, bytes.Equal) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestPushWholeRefuses(t *testing.T) {
	f, have := newFake(t), newStore()
	a, gone := have.image(amd64, 100), newStore().image(arm64, 100)
	a.Platform, gone.Platform = &amd64, &arm64
	desc := have.nest(a, gone)
	_, err := newClient(t, Options{}).Push(context.Background(), PushRequest{Repo: f.repo("multi"), Reference: "v1", Descriptor: desc, Whole: true}, have)
	if e := asError(t, err); !strings.Contains(e.Message, "it lacks linux/arm64") {
		t.Errorf("%q", e.Message)
	}
	if f.count("PUT /v2/multi/manifests/") != 0 {
		t.Error("something was pushed")
	}
}

func TestPushNestedIndexInPart(t *testing.T) {
	f, have := newFake(t), newStore()
	a, b, gone := have.image(amd64, 100), have.image(arm64, 100), newStore().image(armV7, 100)
	a.Platform, b.Platform, gone.Platform = &amd64, &arm64, &armV7
	c := newClient(t, Options{})
	pushed, err := c.Push(context.Background(), PushRequest{
		Repo: f.repo("multi"), Reference: "v1", Descriptor: have.nest(a, have.nest(b), have.nest(gone)),
	}, have)
	if err != nil {
		t.Fatal(err)
	}
	into := newStore()
	if _, err := newClient(t, Options{}).Pull(context.Background(), PullRequest{Repo: f.repo("multi"), Reference: "v1", All: true}, into); err != nil {
		t.Fatal(err)
	}
	if !into.Use(pushed.Digest) || !into.Use(a.Digest) || !into.Use(b.Digest) || into.Use(gone.Digest) || !c.noted("is not complete here") {
		t.Errorf("pushed %v, notes %v", pushed, c.notes)
	}
}
