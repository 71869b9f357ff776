package conformance

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/txtar"
)

// Case is a Dockerfile, its context, and what is made of them.
type Case struct {
	Name  string
	Needs []string
	// Args are the flags of the build.
	Args []string
	// Files are the sections, less those that are fields here.
	files map[string]string

	file string
	text *txtar.Archive
}

// ReadCase reads a case's file.
func ReadCase(file string) (*Case, error) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		return nil, err
	}
	c := &Case{Name: strings.TrimSuffix(filepath.Base(file), ".txtar"), files: map[string]string{}, file: file, text: a}
	for line := range strings.Lines(string(a.Comment)) {
		if needs, ok := strings.CutPrefix(strings.TrimLeft(line, "# "), "needs:"); ok {
			c.Needs = strings.Fields(needs)
		}
	}
	for _, f := range a.Files {
		if _, ok := c.files[f.Name]; ok {
			return nil, fmt.Errorf("%s: section %s is there twice", file, f.Name)
		}
		if !section.MatchString(f.Name) {
			return nil, fmt.Errorf("%s: section %s means nothing", file, f.Name)
		}
		c.files[f.Name] = string(f.Data)
	}
	c.Args = lines(c.files["args"])
	for _, a := range c.Args {
		if !flag.MatchString(a) {
			return nil, fmt.Errorf("%s: flag %s is not one of %s", file, a, flag)
		}
	}
	return c, nil
}

var (
	section = regexp.MustCompile(`^(Dockerfile|ctx\.tree|ctx/.+|images/[^/]+\.(tree|json)|args|want|config|history|error)$`)
	flag    = regexp.MustCompile(`^--(build-arg|target|file|label|platform)=`)
)

func lines(text string) []string {
	if text = strings.Trim(text, "\n"); text != "" {
		return strings.Split(text, "\n")
	}
	return nil
}

// Fails reports whether the build must fail; every line of messages is in
// what ocibuild says then.
func (c *Case) Fails() (messages []string, fails bool) {
	text, fails := c.files["error"]
	return lines(text), fails
}

// Open reports whether the case leaves it to other builders to say what is right.
func (c *Case) Open() bool {
	_, want := c.files["want"]
	_, fails := c.files["error"]
	return !want && !fails
}

// Fixture is a case on disk.
type Fixture struct {
	*Case
	// Args are the flags of the build, less --file.
	Args []string
	// Context is the directory of the context, and Dockerfile the file, which
	// stands beside it but where --file names one of the context's.
	Context, Dockerfile string
	Images              []BaseImage
	// Base is the tree of the image that Want leaves out.
	Base Tree

	dir string
}

// BaseImage is an image that the Dockerfile may name: an OCI layout in Dir.
type BaseImage struct {
	Name, Dir string
	Digest    digest.Digest
	Archive   string // the same as a file
}

// Missing tells why a case cannot be made here; it is in the error of Make.
var Missing = errNeeds //nolint:errname // it reads as a reason

// Make makes the case's files in dir, which is empty.
func (c *Case) Make(dir string) (*Fixture, error) {
	for _, need := range c.Needs {
		if _, err := exec.LookPath(need); err != nil && need != "root" && need != "ids" {
			return nil, fmt.Errorf("%s: %w", need, errNeeds)
		}
	}
	f := &Fixture{Case: c, dir: dir, Context: filepath.Join(dir, "ctx"), Dockerfile: filepath.Join(dir, "Dockerfile")}
	if err := os.Mkdir(f.Context, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(f.Dockerfile, []byte(c.files["Dockerfile"]), 0o644); err != nil {
		return nil, err
	}
	f.Args = slices.DeleteFunc(slices.Clone(c.Args), func(a string) bool {
		name, ok := strings.CutPrefix(a, "--file=")
		if ok {
			f.Dockerfile = filepath.Join(f.Context, name)
		}
		return ok
	})
	return f, errors.Join(f.makeContext(), f.makeImages())
}

func (f *Fixture) makeContext() error {
	for _, file := range f.text.Files {
		name, ok := strings.CutPrefix(file.Name, "ctx/")
		if !ok {
			continue
		}
		name, data, err := contextFile(name, file.Data)
		if err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
		if err := (Tree{{Path: name, Type: "file", Mode: 0o644, Data: data}}).WriteDir(f.Context); err != nil {
			return err
		}
	}
	t, err := ParseTree(f.files["ctx.tree"])
	if err != nil {
		return fmt.Errorf("ctx.tree: %w", err)
	}
	return t.WriteDir(f.Context)
}

// contextFile makes a file of what a section says.
func contextFile(name string, text []byte) (string, []byte, error) {
	if base, ok := strings.CutSuffix(name, ".base64"); ok {
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		return base, data, err
	}
	base, ok := strings.CutSuffix(name, ".tree")
	if !ok {
		return name, text, nil
	}
	t, err := ParseTree(string(text))
	if err != nil {
		return "", nil, err
	}
	data, err := t.archive(base)
	return base, data, err
}

var (
	fromBase = regexp.MustCompile(`(?im)^from +(--\S+ +)*base\b|\bfrom=base\b`)
	ownBase  = regexp.MustCompile(`(?im)^from .* as base\b`)
)

func (f *Fixture) makeImages() error {
	_, own := f.files["images/base.tree"]
	text := f.files["Dockerfile"] + f.files["ctx/Dockerfile"]
	if !own && fromBase.MatchString(text) && !ownBase.MatchString(text) {
		t, config, err := Base()
		if err != nil {
			return err
		}
		if text := f.files["images/base.json"]; text != "" {
			config = text
		}
		if err := f.makeImage("base", t, config); err != nil {
			return err
		}
	}
	for _, file := range f.text.Files {
		name, ok := strings.CutPrefix(file.Name, "images/")
		name, isTree := strings.CutSuffix(name, ".tree")
		if !ok || !isTree {
			continue
		}
		t, err := ParseTree(string(file.Data))
		if err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
		if err := f.makeImage(name, t, f.files["images/"+name+".json"]); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fixture) makeImage(name string, t Tree, config string) error {
	img := BaseImage{Name: name, Dir: filepath.Join(f.dir, "image-"+name)}
	img.Archive = img.Dir + ".tar"
	var err error
	if img.Digest, err = writeLayout(img.Dir, name, t, config); err != nil {
		return err
	}
	if err := archiveDir(img.Dir, img.Archive); err != nil {
		return err
	}
	if name == "base" || f.Base == nil {
		read, err := ReadLayout(img.Dir, "")
		if err != nil {
			return err
		}
		f.Base = read.Tree
	}
	f.Images = append(f.Images, img)
	return nil
}

// Sections gives the image as a case's sections have it. The loose ones are
// what can be compared with builders that keep less than BuildKit.
func (f *Fixture) Sections(img *Image) map[string][]string {
	return map[string][]string{
		"want": f.since(img.Tree), "loose want": f.since(img.Tree.loose()),
		"config": configLines(img.Config), "loose config": looseLines(img.Config),
		"history": img.History,
	}
}

// since leaves the base out of a tree, unless it is not built on it at all.
func (f *Fixture) since(t Tree) []string {
	want := t.Since(f.Base)
	gone := 0
	for _, l := range want {
		if strings.HasSuffix(l, " gone") {
			gone++
		}
	}
	if gone == len(f.Base) {
		return t.Since(nil)
	}
	return want
}

// Check compares an image with what the case wants.
func (f *Fixture) Check(img *Image) error {
	var errs []error
	have := f.Sections(img)
	for _, name := range []string{"want", "config", "history"} {
		text, ok := f.files[name]
		if !ok {
			continue
		}
		if d := Diff(lines(text), have[name]); d != "" {
			errs = append(errs, fmt.Errorf("%s differs (- is wanted, + is there):\n%s", name, d))
		}
	}
	return errors.Join(errs...)
}

// Compare tells how an image differs from another builder's.
func (f *Fixture) Compare(want, got *Image, sections ...string) string {
	var b strings.Builder
	w, g := f.Sections(want), f.Sections(got)
	for _, name := range sections {
		if d := Diff(w[name], g[name]); d != "" {
			fmt.Fprintf(&b, "%s:\n%s", name, d)
		}
	}
	return b.String()
}

// Rewrite puts what img has in place of the sections that the case has, and
// of want in any case.
func (f *Fixture) Rewrite(img *Image) error {
	have := f.Sections(img)
	if _, ok := f.files["want"]; !ok {
		f.text.Files = append(f.text.Files, txtar.File{Name: "want"})
	}
	f.text.Files = slices.DeleteFunc(f.text.Files, func(s txtar.File) bool { return s.Name == "error" })
	for i, s := range f.text.Files {
		if text, ok := have[s.Name]; ok {
			f.text.Files[i].Data = []byte(strings.Join(append(text, ""), "\n"))
		}
	}
	return os.WriteFile(f.file, txtar.Format(f.text), 0o644)
}
