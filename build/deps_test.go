package build

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the import path of this module.
const module = "github.com/ocibuild/ocibuild/"

// lattice is a statement of policy: which of our packages each package may
// import, and which foreign modules it is the place for. Do not change it to
// make a build pass; move the code.
var lattice = map[string]struct{ ours, foreign []string }{
	"parser":            {nil, []string{"github.com/moby/buildkit/frontend/dockerfile/parser", "github.com/moby/patternmatcher", "github.com/moby/patternmatcher/ignorefile"}},
	"image/rootfs":      {nil, []string{"golang.org/x/sys/unix"}},
	"image/usage":       {nil, []string{"golang.org/x/sys/unix"}},
	"image/layer":       {[]string{"image/rootfs"}, []string{"github.com/klauspost/compress", "github.com/ulikunitz/xz", "github.com/opencontainers/go-digest", "golang.org/x/sys/unix", "golang.org/x/sync"}},
	"build/conformance": {nil, []string{"github.com/klauspost/compress", "github.com/ulikunitz/xz", "github.com/opencontainers", "github.com/rogpeppe/go-internal/txtar", "golang.org/x/sys/unix"}}, // for tests
	"image/imagetest":   {nil, []string{"github.com/opencontainers", "github.com/santhosh-tekuri/jsonschema/v6"}},                                                                                   // for tests
	"image":             {[]string{"image/layer", "image/usage"}, []string{"github.com/opencontainers", "golang.org/x/sys/unix", "golang.org/x/sync"}},
	"cache":             {[]string{"image/usage"}, []string{"github.com/opencontainers", "golang.org/x/sys/unix"}},
	"executor":          {[]string{"image/rootfs", "image/usage", "executor/seccomp"}, []string{"github.com/opencontainers/runtime-spec", "golang.org/x/sys/unix"}},
	"executor/seccomp":  {nil, []string{"github.com/opencontainers/runtime-spec", "golang.org/x/sys/unix"}},
	"executor/cdi":      {nil, []string{"github.com/opencontainers/runtime-spec", "go.yaml.in/yaml/v3", "golang.org/x/sys/unix"}},
	"registry/hosts":    {nil, []string{"github.com/pelletier/go-toml/v2"}},
	"registry/retry":    {nil, nil},
	"registry":          {[]string{"registry/hosts", "registry/retry"}, []string{"oras.land/oras-go/v2", "github.com/opencontainers", "golang.org/x/sync"}},
	"build":             {[]string{"parser", "image", "image/layer", "image/rootfs", "cache", "executor", "executor/cdi"}, []string{"github.com/opencontainers", "golang.org/x/sync", "golang.org/x/sys/unix"}},
	"build/bench":       {nil, nil}, // benchmarks alone
	"build/remote":      {[]string{"parser", "image/usage", "registry/retry"}, []string{"github.com/opencontainers/go-digest", "golang.org/x/sys/unix"}},
	"build/space":       {[]string{"build/remote", "image", "image/layer", "image/usage", "cache", "executor"}, []string{"github.com/opencontainers", "golang.org/x/sync", "golang.org/x/sys/unix"}},
	"build/sshagent":    {nil, []string{"golang.org/x/crypto/ssh"}},
	"cmd/ocibuild":      {[]string{"build/remote", "build/space", "build/sshagent", "parser", "image", "image/layer", "cache", "executor", "registry", "build"}, []string{"github.com/spf13/pflag", "github.com/opencontainers", "golang.org/x/term", "golang.org/x/sys/unix", "golang.org/x/sync"}},
}

func TestImportLattice(t *testing.T) {
	for dir, allowed := range lattice {
		for file, imports := range importsOf(t, filepath.Join("..", dir)) {
			for _, imp := range imports {
				if ours, ok := strings.CutPrefix(imp, module); ok {
					if !slices.Contains(allowed.ours, ours) {
						t.Errorf("%s imports %s, which %s must not", file, ours, dir)
					}
					continue
				}
				if !strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
					continue // the standard library
				}
				if !slices.ContainsFunc(allowed.foreign, func(a string) bool { return imp == a || strings.HasPrefix(imp, a+"/") }) {
					t.Errorf("%s imports %s, for which %s is not the place", file, imp, dir)
				}
			}
		}
	}
}

// importsOf lists what the non-test files of a directory import.
func importsOf(t *testing.T, dir string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s (%v)", dir, err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		ast, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range ast.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			out[f] = append(out[f], p)
		}
	}
	return out
}

// TestLatticeIsComplete fails when a package is added without a place.
func TestLatticeIsComplete(t *testing.T) {
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel("..", p)
		if strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" || d.Name() == "examples" {
			return fs.SkipDir
		}
		files, _ := filepath.Glob(filepath.Join(p, "*.go"))
		files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.go") })
		if _, ok := lattice[rel]; !ok && len(files) > 0 && rel != "." {
			t.Errorf("%s has Go files and no place in the lattice", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReadmeHasTheLattice compares the README's table of packages.
func TestReadmeHasTheLattice(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| \\[`([a-z/]+)`\\].*\\| ?([^|]*) \\|$").FindAllStringSubmatch(string(text), -1) {
		imports := strings.Split(strings.TrimSpace(row[2]), ", ")
		slices.Sort(imports)
		told[row[1]] = strings.Join(imports, ", ")
	}
	for dir, allowed := range lattice {
		want := strings.Join(slices.Sorted(slices.Values(allowed.ours)), ", ")
		if got, ok := told[dir]; !ok || got != want {
			t.Errorf("the README says that %s imports %q, want %q", dir, got, want)
		}
	}
	if len(told) != len(lattice) {
		t.Errorf("the README has %d packages, want %d", len(told), len(lattice))
	}
}
