package image

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/image/imagetest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mustMatch checks a document against a schema of the specification.
func mustMatch(t *testing.T, schema string, text []byte) {
	t.Helper()
	err := imagetest.Match(schema, text)
	if errors.Is(err, imagetest.ErrNoSchemas) {
		t.Skip(err)
	}
	if err != nil {
		t.Error(err)
	}
}

// validate checks an image, the table and the layout against the schemas.
func validate(t *testing.T, s *Store, desc ocispec.Descriptor) {
	t.Helper()
	img, err := s.Image(t.Context(), desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	for file, d := range map[string]ocispec.Descriptor{
		imagetest.ManifestSchema: img.Descriptor,
		imagetest.ConfigSchema:   img.Manifest.Config,
	} {
		text, err := s.ReadBlob(t.Context(), d, maxConfig)
		if err != nil {
			t.Fatal(err)
		}
		mustMatch(t, file, text)
	}
	index, err := s.readIndex()
	if err != nil {
		t.Fatal(err)
	}
	mustMatch(t, imagetest.IndexSchema, encodeIndex(index))
	layout, _ := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	mustMatch(t, imagetest.LayoutSchema, layout)
}

func TestImagesMatchTheSpecification(t *testing.T) {
	s := newStore(t)
	validate(t, s, mustBuild(t, s, "app:v1", file{"a", "1"}, file{"b", "2"}))
	portable, err := s.Portable(t.Context(), mustBuild(t, s, "app:v2", file{"a", "1"}), testGzip())
	if err != nil {
		t.Fatal(err)
	}
	validate(t, s, portable)
}

// The schema wants a layer in every manifest. An image FROM scratch with
// nothing but labels has none, and programs take it with an empty list.
func TestImageWithoutLayers(t *testing.T) {
	s := newStore(t)
	cfg := Config{Platform: HostPlatform()}
	cfg.Config.Labels = map[string]string{"a": "b"}
	desc, err := s.Assemble(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), mustRef(t, "empty:v1"), desc); err != nil {
		t.Fatal(err)
	}
	img := mustHave(t, s, "empty:v1")
	text, err := s.ReadBlob(t.Context(), img.Manifest.Config, maxConfig)
	if err != nil {
		t.Fatal(err)
	}
	mustMatch(t, imagetest.ConfigSchema, text)
	if out := skopeo(t, "inspect", "oci:"+s.Root()+":empty:v1"); !strings.Contains(out, `"a": "b"`) {
		t.Error(out)
	}
}
