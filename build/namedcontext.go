package build

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Context is a named context: what a Dockerfile's FROM and --from find under
// its name. One of the fields after Name says what that is.
type Context struct {
	// Name is the name as it was given.
	Name string
	// Image is an image's reference.
	Image string
	// Stored is an image, or an index, that is in the store.
	Stored ocispec.Descriptor
	// Dir is a directory; Ignore holds the rules of its .dockerignore file.
	Dir    string
	Ignore *parser.Ignore
	// Fetched is a checkout, or a file of the web.
	Fetched *Fetched
	// Source is how the user wrote it.
	Source string
}

// String is what progress shows of the context.
func (c *Context) String() string { return "load " + c.Source }

// files reports whether the context is no image.
func (c *Context) files() bool { return c.Image == "" && !c.stored() }

// base is the name of the image that the context is, or "".
func (c *Context) base() string {
	if c.stored() {
		return "context " + c.Name
	}
	return c.Image
}

func (c *Context) stored() bool { return c != nil && c.Stored.Digest != "" }

// ContextName gives the name under which a Dockerfile finds a context: that of
// an image in its short form, without the tag latest. It may be followed by
// "::" and a platform, for which alone the context then stands.
func ContextName(text string) (string, error) {
	name, platform, only := strings.Cut(text, "::")
	ref, err := image.ParseRef(name)
	if err != nil {
		return "", fmt.Errorf("invalid context name %s: %w", name, err)
	}
	name = strings.TrimSuffix(ref.Familiar(), ":latest")
	if strings.EqualFold(name, scratchName) || strings.EqualFold(name, "context") {
		return "", fmt.Errorf("%s is a reserved name", name)
	}
	if !only {
		return name, nil
	}
	p, err := ParsePlatform(platform)
	if err != nil {
		return "", err
	}
	return name + "::" + image.FormatPlatform(p), nil
}

// context finds the context that a name stands for, or nil.
func (p *planner) context(name string, platform ocispec.Platform, at parser.Range) (*Context, error) {
	if len(p.o.Contexts) == 0 {
		return nil, nil
	}
	name, err := ContextName(name)
	if err != nil {
		return nil, nil //nolint:nilerr // no context can have such a name
	}
	c := p.o.Contexts[name+"::"+image.FormatPlatform(image.NormalPlatform(platform))]
	if c == nil {
		c = p.o.Contexts[name]
	}
	if c != nil && c.Image != "" {
		if _, err := image.ParseRef(c.Image); err != nil {
			return nil, p.fail(at, "", "context %s: %v", c.Name, err)
		}
	}
	return c, nil
}

// bring gives the step that brings in a context.
func (p *planner) bring(c *Context, platform ocispec.Platform, at parser.Range) *Step {
	s := &Step{Context: c, Platform: platform, place: at}
	if c.Image != "" {
		s.Context, s.Base = nil, c.Image
	}
	return p.add(s)
}

// filesystem gives the step that a stage can go on from: s itself, unless it
// brings in files that are no layer. These are copied into a root filesystem.
func (p *planner) filesystem(s *Step, st *parser.Stage, platform ocispec.Platform) (*Step, error) {
	if s.Context == nil || !s.Context.files() {
		return s, nil
	}
	in, err := parser.ParseTrigger("", "COPY --from=context . /")
	if err != nil {
		return nil, err
	}
	start := p.add(&Step{Stage: st, Instr: st.From, Platform: platform})
	return p.add(&Step{Stage: st, Instr: in, Parent: start, Sources: []*Step{s}, Platform: platform, Trigger: true}), nil
}

// contextState is the State of a context that is files.
func (r *run) contextState(ctx context.Context, s *Step) (*State, error) {
	t, err := r.openNamed(ctx, s.Context)
	if err != nil {
		return nil, err
	}
	return &State{files: t}, nil
}

// openNamed opens a context that is files, once.
func (r *run) openNamed(ctx context.Context, c *Context) (tree, error) {
	r.mu.Lock()
	t, ok := r.named[c]
	r.mu.Unlock()
	if ok {
		return t, nil
	}
	var err error
	switch {
	case c.Fetched != nil:
		t, err = r.fetchedTree(ctx, c.Fetched, c.Ignore)
	case c.Dir != "":
		t, err = r.openDir(c.Dir, c.Ignore)
	default:
		err = errors.New("it has no files")
	}
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", c.Name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.named[c] = t
	return t, nil
}

// source gives what a step reads beside its own stage: the files of a context,
// or a stage. A nil step is the build's own context.
func (r *run) source(s *Step) (tree, *State) {
	if s == nil {
		return r.context, nil
	}
	st := r.stateOf(s)
	if st.files != nil {
		return st.files, nil
	}
	return nil, st
}
