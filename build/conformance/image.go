package conformance

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is what a builder has made: the merged tree, and the config without
// what no two builds share.
type Image struct {
	Tree Tree
	// Config is the config's inner part, with what there is to say of the outer one,
	// less what is empty.
	Config  map[string]any
	History []string
}

// config is what is compared of an image's config. Unknown fields of it matter too.
type config struct {
	Config  json.RawMessage   `json:"config"`
	History []ocispec.History `json:"history"`

	outer map[string]any
}

// ReadLayout reads the image of a name in the OCI layout in dir; no name means
// the only one that is there.
func ReadLayout(dir, name string) (*Image, error) {
	var index ocispec.Index
	if err := readJSON(filepath.Join(dir, "index.json"), &index); err != nil {
		return nil, err
	}
	blob := func(d digest.Digest) string { return filepath.Join(dir, "blobs", "sha256", d.Encoded()) }
	for _, m := range index.Manifests {
		if name == m.Annotations[ocispec.AnnotationRefName] || name == "" && len(index.Manifests) == 1 {
			return readManifest(blob(m.Digest), blob)
		}
	}
	return nil, fmt.Errorf("%s has no image %s", dir, name)
}

// readDir reads an image in the form of the dir: transport.
func readDir(dir string) (*Image, error) {
	blob := func(d digest.Digest) string { return filepath.Join(dir, d.Encoded()) }
	return readManifest(filepath.Join(dir, "manifest.json"), blob)
}

// readManifest reads an image from its manifest on, or the only image of an index.
func readManifest(name string, blob func(digest.Digest) string) (*Image, error) {
	var m struct {
		ocispec.Manifest
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := readJSON(name, &m); err != nil {
		return nil, err
	}
	switch len(m.Manifests) {
	case 0:
	case 1:
		return readManifest(blob(m.Manifests[0].Digest), blob)
	default:
		return nil, fmt.Errorf("%s is an index of several images", name)
	}
	var c config
	if err := readJSON(blob(m.Config.Digest), &c); err != nil {
		return nil, err
	}
	if err := readJSON(blob(m.Config.Digest), &c.outer); err != nil {
		return nil, err
	}
	img := &Image{History: historyLines(c.History)}
	var err error
	if img.Config, err = configFields(c); err != nil {
		return nil, err
	}
	v := newView()
	for i, l := range m.Layers {
		if err := v.apply(blob(l.Digest)); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	img.Tree = v.tree()
	return img, nil
}

func readJSON(name string, v any) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// configFields gives what there is to say of a config.
func configFields(c config) (map[string]any, error) {
	fields := map[string]any{}
	if err := json.Unmarshal(c.Config, &fields); err != nil && len(c.Config) > 0 {
		return nil, err
	}
	maps.Copy(fields, c.outerFields())
	maps.DeleteFunc(fields, func(_ string, v any) bool { return v == nil || v == "" || v == false })
	return fields, nil
}

// outerFields gives the fields that stand beside the inner part, less what every
// image of this machine has. They begin with a lower case letter.
func (c config) outerFields() map[string]any {
	fields := maps.Clone(c.outer)
	for _, name := range []string{"config", "history", "rootfs"} {
		delete(fields, name)
	}
	for name, usual := range map[string]string{"architecture": runtime.GOARCH, "os": "linux"} {
		if fields[name] == usual {
			delete(fields, name)
		}
	}
	text, _ := fields["created"].(string)
	if created, err := time.Parse(time.RFC3339, text); err != nil || created.Year() >= ours {
		delete(fields, "created")
	}
	return fields
}

// configLines gives the lines of a config's JSON.
func configLines(fields map[string]any) []string {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(fields); err != nil {
		panic("internal error: " + err.Error())
	}
	return strings.Split(strings.TrimSpace(buf.String()), "\n")
}

// looseLines are the lines of what builders of another family share with
// BuildKit's: no empty values, nothing that only one of them writes, and of what
// stands beside the inner config, the author alone.
func looseLines(fields map[string]any) []string {
	loose := maps.Clone(fields)
	maps.DeleteFunc(loose, func(k string, v any) bool {
		if k[0] >= 'a' && k != "author" {
			return true
		}
		switch v := v.(type) {
		case []any:
			return len(v) == 0
		case map[string]any:
			delete(v, "io.buildah.version")
			return len(v) == 0
		case string:
			return k == "Hostname" || k == "Image" || k == "WorkingDir" && v == "/"
		}
		return k == "ArgsEscaped"
	})
	return configLines(loose)
}

func historyLines(list []ocispec.History) []string {
	var out []string
	for _, h := range list {
		sign := "+ "
		if h.EmptyLayer {
			sign = "- "
		}
		line := sign + strings.Trim(fmt.Sprintf("%q", h.CreatedBy), `"`)
		if h.Author != "" {
			line += " by " + h.Author
		}
		if h.Created != nil && h.Created.Year() < ours {
			line += fmt.Sprintf(" @%d", h.Created.Unix())
		}
		if h.Comment != "" && h.Comment != "buildkit.dockerfile.v0" {
			line += " (" + h.Comment + ")"
		}
		out = append(out, line)
	}
	return out
}

// view merges layers into one tree. It knows of layers what the image
// specification says, and shares no code with what it checks.
type view struct{ nodes map[string]*node }

// node is a file; hard links share it.
type node struct{ Entry }

func newView() *view { return &view{map[string]*node{}} }

func (v *view) apply(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader = bufio.NewReader(f)
	if magic, _ := r.(*bufio.Reader).Peek(2); string(magic) == "\x1f\x8b" {
		if r, err = gzip.NewReader(r); err != nil {
			return err
		}
	}
	added := map[string]bool{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := v.member(h, tr, added); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// member applies one member; added are the paths that its layer has so far.
func (v *view) member(h *tar.Header, r io.Reader, added map[string]bool) error {
	p := path.Join("/", h.Name)
	dir, base := path.Split(p)
	if base == ".wh..wh..opq" {
		v.removeBelow(path.Clean(dir), added)
		return nil
	}
	if gone, ok := strings.CutPrefix(base, ".wh."); ok {
		v.remove(path.Join(dir, gone))
		return nil
	}
	if err := v.parents(path.Clean(dir), added); err != nil {
		return err
	}
	added[p] = true
	if h.Typeflag == tar.TypeLink {
		n := v.nodes[path.Join("/", h.Linkname)]
		if n == nil || n.Type == "dir" {
			return fmt.Errorf("link to %s, which is not there", h.Linkname)
		}
		v.remove(p)
		v.nodes[p] = n
		return nil
	}
	n, err := newNode(h, r)
	if err != nil {
		return err
	}
	if have := v.nodes[p]; have != nil && have.Type != "dir" || n.Type != "dir" {
		v.remove(p)
	}
	v.nodes[p] = n
	return nil
}

func newNode(h *tar.Header, r io.Reader) (*node, error) {
	n := &node{Entry{
		Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid, Target: h.Linkname,
		Major: h.Devmajor, Minor: h.Devminor, Time: h.ModTime,
	}}
	for name, t := range tarTypes {
		if t == h.Typeflag {
			n.Type = name
		}
	}
	for k, value := range h.PAXRecords {
		if k, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if n.Xattrs == nil {
				n.Xattrs = map[string]string{}
			}
			n.Xattrs[k] = value
		}
	}
	if n.Type == "" {
		return nil, fmt.Errorf("members of type %q are unknown", h.Typeflag)
	}
	var err error
	if n.Type == "file" {
		n.Data, err = io.ReadAll(r)
	}
	return n, err
}

// parents makes the directories that a layer does not mention.
func (v *view) parents(dir string, added map[string]bool) error {
	if dir == "/" {
		return nil
	}
	if err := v.parents(path.Dir(dir), added); err != nil {
		return err
	}
	n := v.nodes[dir]
	if n != nil && n.Type != "dir" {
		return fmt.Errorf("%s is no directory", dir)
	}
	if n == nil {
		v.nodes[dir] = &node{Entry{Type: "dir", Mode: 0o755}}
	}
	added[dir] = true
	return nil
}

func (v *view) remove(p string) {
	delete(v.nodes, p)
	v.removeBelow(p, nil)
}

func (v *view) removeBelow(dir string, but map[string]bool) {
	maps.DeleteFunc(v.nodes, func(p string, _ *node) bool {
		return strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") && p != dir && !but[p]
	})
}

// tree lists the view; of the paths that share a file the first has what there
// is to say, and the others name it.
func (v *view) tree() Tree {
	first := map[*node]string{}
	var t Tree
	for _, p := range slices.Sorted(maps.Keys(v.nodes)) {
		n := v.nodes[p]
		e := n.Entry
		e.Path = p
		if f, ok := first[n]; ok {
			e.Same = f
		} else {
			first[n] = p
		}
		t = append(t, e)
	}
	return t
}
