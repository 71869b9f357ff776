package image

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestMutate(t *testing.T) {
	s := newStore(t)
	desc := twoLayers(t, s, "app:v1")
	before := mustHave(t, s, "app:v1")
	m := Mutation{
		Config: func(c *Config) error {
			c.Config.SetEnv("A", "1")
			c.Config.SetLabel("a", "2")
			c.Author = "me"
			return nil
		},
		Annotations: map[string]string{"note": "x"},
	}
	made, err := s.Mutate(t.Context(), desc, m)
	if err != nil {
		t.Fatal(err)
	}
	validate(t, s, made)
	img, err := s.Select(t.Context(), made, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := img.Config.Config.Getenv("A"); v != "1" || img.Config.Config.Labels["a"] != "2" || img.Config.Author != "me" || img.Manifest.Annotations["note"] != "x" {
		t.Errorf("%+v", img)
	}
	if diff := cmp.Diff(before.Layers, img.Layers); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before.Config.History, img.Config.History); diff != "" {
		t.Error(diff)
	}
	if again, err := s.Mutate(t.Context(), desc, m); err != nil || again.Digest != made.Digest {
		t.Errorf("another digest the second time: %v, %v", again, err)
	}
	// The original is as it was.
	if v, ok := mustHave(t, s, "app:v1").Config.Config.Getenv("A"); ok {
		t.Errorf("A=%s", v)
	}
	cleared, err := s.Mutate(t.Context(), made, Mutation{Annotations: map[string]string{"note": ""}})
	if err != nil {
		t.Fatal(err)
	}
	if img, err = s.Select(t.Context(), cleared, nil); err != nil || img.Manifest.Annotations != nil {
		t.Errorf("%v, %v", img.Manifest.Annotations, err)
	}
	oops := errors.New("oops")
	if _, err := s.Mutate(t.Context(), desc, Mutation{Config: func(*Config) error { return oops }}); !errors.Is(err, oops) {
		t.Errorf("%v", err)
	}
}

func TestSquash(t *testing.T) {
	s := newStore(t)
	desc := twoLayers(t, s, "app:v1")
	made, err := s.Mutate(t.Context(), desc, Mutation{Squash: true, TOCs: memoryTOCs{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), mustRef(t, "app:squashed"), made); err != nil {
		t.Fatal(err)
	}
	img := mustHave(t, s, "app:squashed")
	if len(img.Layers) != 1 || len(img.Config.History) != 3 || countLayers(img.Config.History) != 1 {
		t.Errorf("%+v", img.Config.History)
	}
	a, b := openFiles(t, s, "app:v1", memoryTOCs{}), openFiles(t, s, "app:squashed", memoryTOCs{})
	if changes := Diff(a, b, DiffOptions{Times: true}); len(changes) > 0 {
		t.Errorf("%+v", changes)
	}
	if v, err := s.Verify(t.Context(), made, nil); err != nil || len(v.Faults) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestMutateIndex(t *testing.T) {
	s := newStore(t)
	index, images := bundle(t, s, "multi:v1")
	label := Mutation{Config: func(c *Config) error { c.Config.SetLabel("new", FormatPlatform(c.Platform)); return nil }}
	made, err := s.Mutate(t.Context(), index, label)
	if err != nil {
		t.Fatal(err)
	}
	m := s.openMemo()
	summary := m.summarise(t.Context(), made)
	if summary.Err != nil || len(summary.Images()) != 3 {
		t.Fatalf("%+v", summary)
	}
	for _, i := range summary.Members {
		switch i.Kind {
		case KindAttestation:
			t.Error("an attestation of another image is left")
		case KindImage:
			if i.Labels()["new"] != FormatPlatform(i.Platform) {
				t.Errorf("%+v", i.Labels())
			}
		}
	}
	lose(t, s, images[1])
	var none *PlatformError
	if _, err := s.Mutate(t.Context(), index, label); !errors.As(err, &none) || !none.Absent {
		t.Errorf("%v", err)
	}
	var other *NotImageError
	if _, err := s.Mutate(t.Context(), putArtifact(t, s, index), label); !errors.As(err, &other) {
		t.Errorf("%v", err)
	}
}

// onTop makes an image of the layers of base and more.
func onTop(t *testing.T, s *Store, base *Image, change func(*Config), bodies ...string) ocispec.Descriptor {
	t.Helper()
	layers := append([]Layer(nil), base.Layers...)
	cfg := base.Config
	cfg.History = append([]ocispec.History(nil), cfg.History...)
	for i, body := range bodies {
		l, err := addLayer(s, tarOf(t, file{fmt.Sprintf("top%d", i), body}))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
		cfg.History = append(cfg.History, ocispec.History{CreatedBy: "COPY " + body})
	}
	if change != nil {
		change(&cfg)
	}
	desc, err := s.Assemble(t.Context(), cfg, layers)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

// makeBase makes a base image that differs from others by a word.
func makeBase(t *testing.T, s *Store, word string, env ...string) (*Image, ocispec.Descriptor) {
	t.Helper()
	cfg := Config{Platform: HostPlatform(), Author: word}
	cfg.Config.Env = append([]string{"PATH=/" + word}, env...)
	cfg.Config.Cmd, cfg.Config.User = []string{word}, word
	cfg.Config.Labels = map[string]string{"base": word, word: "only here", "mine": "base's"}
	var layers []Layer
	for i := range len(word) - 1 { // bases may have any number of layers
		l, err := addLayer(s, tarOf(t, file{fmt.Sprintf("base%d", i), word}))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
		cfg.History = append(cfg.History, ocispec.History{CreatedBy: fmt.Sprintf("base %s %d", word, i)})
	}
	cfg.History = append(cfg.History, ocispec.History{CreatedBy: "CMD " + word, EmptyLayer: true})
	desc, err := s.Assemble(t.Context(), cfg, layers)
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Image(t.Context(), desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img, desc
}

func TestRebase(t *testing.T) {
	s := newStore(t)
	old, oldDesc := makeBase(t, s, "old", "GONE=1", "BOTH=old", "MINE=old")
	_, freshDesc := makeBase(t, s, "fresh", "BOTH=fresh", "NEW=1", "MINE=fresh")
	app := onTop(t, s, old, func(c *Config) {
		c.Config.SetEnv("MINE", "app")
		c.Config.SetEnv("APP", "1")
		c.Config.User = "app"
		c.Config.Labels = map[string]string{"base": "old", "old": "only here", "mine": "app's", "app": "1"}
	}, "one", "two")
	made, err := s.Rebase(t.Context(), app, Base{Descriptor: oldDesc}, Base{Descriptor: freshDesc, Name: "docker.io/library/fresh:v1"})
	if err != nil {
		t.Fatal(err)
	}
	validate(t, s, made)
	if v, err := s.Verify(t.Context(), made, nil); err != nil || len(v.Faults) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	img, err := s.Select(t.Context(), made, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := img.Config.Config
	if got := strings.Join(c.Env, " "); got != "PATH=/fresh BOTH=fresh NEW=1 MINE=app APP=1" {
		t.Error(got)
	}
	if c.User != "app" || c.Cmd[0] != "fresh" || img.Config.Author != "fresh" {
		t.Errorf("%+v", c)
	}
	want := map[string]string{"base": "fresh", "fresh": "only here", "mine": "app's", "app": "1"}
	if diff := cmp.Diff(want, c.Labels); diff != "" {
		t.Error(diff)
	}
	var history []string
	for _, h := range img.Config.History {
		history = append(history, h.CreatedBy)
	}
	if got := strings.Join(history, ", "); got != "base fresh 0, base fresh 1, base fresh 2, base fresh 3, CMD fresh, COPY one, COPY two" {
		t.Error(got)
	}
	if a := img.Manifest.Annotations; a[ocispec.AnnotationBaseImageDigest] != freshDesc.Digest.String() || a[ocispec.AnnotationBaseImageName] != "docker.io/library/fresh:v1" {
		t.Errorf("%v", a)
	}
	// There and back again: the same layers and the same config.
	back, err := s.Rebase(t.Context(), made, Base{Descriptor: freshDesc}, Base{Descriptor: oldDesc})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Select(t.Context(), app, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Select(t.Context(), back, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Layers, again.Layers); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(first.Config.History, again.Config.History); diff != "" {
		t.Error(diff)
	}
}

func TestRebaseRefuses(t *testing.T) {
	s := newStore(t)
	old, oldDesc := makeBase(t, s, "old")
	_, freshDesc := makeBase(t, s, "fresh")
	app := onTop(t, s, old, nil, "one")
	var not *NotBaseError
	if _, err := s.Rebase(t.Context(), app, Base{Descriptor: freshDesc}, Base{Descriptor: oldDesc}); !errors.As(err, &not) || not.Layer != 0 {
		t.Errorf("%v", err)
	}
	deeper := onTop(t, s, old, nil, "one", "two")
	if _, err := s.Rebase(t.Context(), app, Base{Descriptor: deeper}, Base{Descriptor: freshDesc}); !errors.As(err, &not) || not.Layer != 3 {
		t.Errorf("%v", err)
	}
	a, _ := foreign()
	foreignIndex, _ := indexOf(t, s, a)
	var none *PlatformError
	if _, err := s.Rebase(t.Context(), app, Base{Descriptor: oldDesc}, Base{Descriptor: foreignIndex}); !errors.As(err, &none) {
		t.Errorf("%v", err)
	}
}
