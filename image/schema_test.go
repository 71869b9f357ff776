package image

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemaIDs are the addresses by which the specification's schemas name each
// other.
var schemaIDs = map[string][]string{
	"config-schema.json":         {"https://opencontainers.org/schema/image/config"},
	"content-descriptor.json":    {"https://opencontainers.org/schema/descriptor", "https://opencontainers.org/schema/image/content-descriptor.json"},
	"defs-descriptor.json":       {"https://opencontainers.org/schema/image/descriptor/mediaType", "https://opencontainers.org/schema/defs-descriptor.json", "https://opencontainers.org/schema/image/defs-descriptor.json"},
	"defs.json":                  {"https://opencontainers.org/schema/defs.json", "https://opencontainers.org/schema/image/defs.json", "https://opencontainers.org/schema/image/descriptor/defs.json"},
	"image-index-schema.json":    {"https://opencontainers.org/schema/image/index"},
	"image-layout-schema.json":   {"https://opencontainers.org/schema/image/layout"},
	"image-manifest-schema.json": {"https://opencontainers.org/schema/image/manifest"},
}

// schemaDir is where the module that holds the specification is.
func schemaDir(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/opencontainers/image-spec").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		t.Skipf("the image specification's module is not at hand: %v", err)
	}
	return filepath.Join(dir, "schema")
}

func compileSchema(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	dir := schemaDir(t)
	c := jsonschema.NewCompiler()
	loader := jsonschema.FileLoader{}
	for name, ids := range schemaIDs {
		doc, err := loader.Load("file://" + filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if err := c.AddResource(id, doc); err != nil {
				t.Fatal(err)
			}
		}
	}
	schema, err := c.Compile(schemaIDs[file][0])
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func mustMatch(t *testing.T, file string, text []byte) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := compileSchema(t, file).Validate(doc); err != nil {
		t.Errorf("%v\n%s", err, text)
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
		"image-manifest-schema.json": img.Descriptor,
		"config-schema.json":         img.Manifest.Config,
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
	mustMatch(t, "image-index-schema.json", encodeIndex(index))
	layout, _ := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	mustMatch(t, "image-layout-schema.json", layout)
}

func TestImagesMatchTheSpecification(t *testing.T) {
	s := newStore(t)
	validate(t, s, mustBuild(t, s, "app:v1", file{"a", "1"}, file{"b", "2"}))
	portable, err := s.Portable(t.Context(), mustBuild(t, s, "app:v2", file{"a", "1"}), PortableOptions{testGzip()})
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
	mustMatch(t, "config-schema.json", text)
	if out := skopeo(t, "inspect", "oci:"+s.Root()+":empty:v1"); !strings.Contains(out, `"a": "b"`) {
		t.Error(out)
	}
}
