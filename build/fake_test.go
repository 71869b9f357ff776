package build

import (
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
)

// fakeTree is a tree in memory. Keys are paths; a value "dir MODE UID:GID" is
// a directory, "-> x" a link, anything else a file's bytes.
type fakeTree map[string]string

func (f fakeTree) lookup(p string) (*layer.Entry, error) {
	if p == "" {
		return &layer.Entry{Type: typeDir, Mode: 0o755}, nil
	}
	v, ok := f[p]
	if !ok {
		for k := range f {
			if strings.HasPrefix(k, p+"/") {
				return &layer.Entry{Name: p, Type: typeDir, Mode: 0o755}, nil
			}
		}
		return nil, fs.ErrNotExist
	}
	if v == "dir" {
		return &layer.Entry{Name: p, Type: typeDir, Mode: 0o755}, nil
	}
	if v == "private dir" {
		return &layer.Entry{Name: p, Type: typeDir, Mode: 0o700, UID: 7, GID: 8}, nil
	}
	if target, ok := strings.CutPrefix(v, "-> "); ok {
		return &layer.Entry{Name: p, Type: typeSymlink, Mode: 0o777, Linkname: target}, nil
	}
	return &layer.Entry{Name: p, Type: typeReg, Mode: 0o640, UID: 3, GID: 4, Size: int64(len(v)), Digest: digest.FromString(v)}, nil
}

func (f fakeTree) names(dir string) ([]string, error) {
	var out []string
	for k := range f {
		if rest, ok := strings.CutPrefix(k, dir+"/"); ok || dir == "" {
			if dir == "" {
				rest = k
			}
			name, _, _ := strings.Cut(rest, "/")
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

func (f fakeTree) known(string, *layer.Entry) (digest.Digest, bool) { return "", false }

func (f fakeTree) digest(_ context.Context, p string, _ *layer.Entry) (digest.Digest, error) {
	return digest.FromString(f[p]), nil
}

func (f fakeTree) open(_ context.Context, p string, _ *layer.Entry) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f[p])), nil
}

func (f fakeTree) linkID(p string, _ *layer.Entry) string {
	if strings.Contains(path.Base(p), "hard") {
		return f[p]
	}
	return ""
}

// selectSources finds what sources in one tree stand for.
func selectSources(ctx context.Context, t tree, sources []source) (*selection, error) {
	sel := &selection{}
	for _, src := range sources {
		found, err := selectSource(ctx, t, src)
		if err != nil {
			return nil, err
		}
		sel.matches = append(sel.matches, found...)
	}
	return sel, nil
}

// dockerfile parses a Dockerfile that must be right.
func dockerfile(t *testing.T, text string) *parser.Dockerfile {
	t.Helper()
	df, err := parser.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return df
}

func amd64() PlanOptions {
	p, _ := ParsePlatform("linux/amd64")
	return PlanOptions{Platform: p, BuildPlatform: p}
}
