package imagetest

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// ErrNoSchemas is in the error of Match where the module that holds the
// specification is not at hand.
var ErrNoSchemas = errors.New("the image specification's module is not at hand")

// The schemas, by file name.
const (
	ConfigSchema   = "config-schema.json"
	IndexSchema    = "image-index-schema.json"
	LayoutSchema   = "image-layout-schema.json"
	ManifestSchema = "image-manifest-schema.json"
)

// schemaIDs are the addresses by which the specification's schemas name each other.
var schemaIDs = map[string][]string{
	ConfigSchema:              {"https://opencontainers.org/schema/image/config"},
	"content-descriptor.json": {"https://opencontainers.org/schema/descriptor", "https://opencontainers.org/schema/image/content-descriptor.json"},
	"defs-descriptor.json":    {"https://opencontainers.org/schema/image/descriptor/mediaType", "https://opencontainers.org/schema/defs-descriptor.json", "https://opencontainers.org/schema/image/defs-descriptor.json"},
	"defs.json":               {"https://opencontainers.org/schema/defs.json", "https://opencontainers.org/schema/image/defs.json", "https://opencontainers.org/schema/image/descriptor/defs.json"},
	IndexSchema:               {"https://opencontainers.org/schema/image/index"},
	LayoutSchema:              {"https://opencontainers.org/schema/image/layout"},
	ManifestSchema:            {"https://opencontainers.org/schema/image/manifest"},
}

// compiled holds the four schemas, read once.
var compiled = sync.OnceValues(compileAll)

func compileAll() (map[string]*jsonschema.Schema, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/opencontainers/image-spec").Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		return nil, ErrNoSchemas
	}
	c := jsonschema.NewCompiler()
	for name, ids := range schemaIDs {
		doc, err := jsonschema.FileLoader{}.Load("file://" + filepath.Join(dir, "schema", name))
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if err := c.AddResource(id, doc); err != nil {
				return nil, err
			}
		}
	}
	schemas := map[string]*jsonschema.Schema{}
	for _, name := range []string{ConfigSchema, IndexSchema, LayoutSchema, ManifestSchema} {
		if schemas[name], err = c.Compile(schemaIDs[name][0]); err != nil {
			return nil, err
		}
	}
	return schemas, nil
}

// Match checks a document against one of the schemas.
func Match(schema string, text []byte) error {
	all, err := compiled()
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	if err := all[schema].Validate(doc); err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}
