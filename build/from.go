package build

import (
	"errors"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// from is an expanded FROM line: an earlier stage, scratch, an image, or a
// named context.
type from struct {
	stage int // -1 if not a stage
	image string
	// context is what the base names. replaced says that the name is the
	// stage's own, and that the context takes the place of the stage.
	context  *Context
	replaced bool
	platform ocispec.Platform
}

// base is the name that PlanOptions.Triggers knows the base by.
func (f from) base() string {
	if f.context != nil {
		return f.context.base()
	}
	return f.image
}

// from evaluates a FROM line; names holds the stages above it.
func (p *planner) from(st *parser.Stage, names map[string]int) (from, error) {
	f := from{stage: -1, platform: p.o.Platform}
	x := parser.Expander{Escape: p.df.Escape}
	var asked noted
	base, err := x.Word(st.From.Image, asked.lookup(p.globals))
	if err != nil {
		return f, p.fail(st.From.Range(), "", "FROM %s: %v", st.From.Image, err)
	}
	if base == "" {
		return f, p.fail(st.From.Range(), p.argumentHint(asked.missed), "base name (%s) should not be blank", st.From.Image)
	}
	i, isStage := names[base]
	if st.From.Platform != "" {
		// Of what is no image the platform is not used, so it need not exist.
		if f.platform, err = p.platform(st.From, x, isStage || base == scratchName); err != nil {
			return f, err
		}
	}
	if st.Name != "" {
		if f.context, err = p.context(st.Name, f.platform, st.From.Range()); err != nil || f.context != nil {
			f.replaced = true
			return f, err
		}
	}
	if isStage { // whose platform it is then
		f.stage, f.platform = i, p.froms[i].platform
		return f, nil
	}
	if base == scratchName {
		f.platform = p.o.Platform
		return f, nil
	}
	if f.image, err = p.imageName(base, st.From.Range(), asked.missed...); err != nil {
		return f, err
	}
	f.context, err = p.context(base, f.platform, st.From.Range())
	return f, err
}

// platform evaluates the --platform of a FROM line. With anyArch it may name an
// architecture that nobody knows.
func (p *planner) platform(f *parser.From, x parser.Expander, anyArch bool) (ocispec.Platform, error) {
	var asked noted
	v, err := x.Word(f.Platform, asked.lookup(p.globals))
	if err != nil {
		return ocispec.Platform{}, p.fail(f.Range(), "", "--platform=%s: %v", f.Platform, err)
	}
	hint := p.argumentHint(asked.missed)
	if v == "" {
		return ocispec.Platform{}, p.fail(f.Range(), hint, "empty platform value from expression %s", f.Platform)
	}
	pl, err := ParsePlatform(v)
	if v == "local" {
		err = errors.New("a Dockerfile does not know this word of --platform on the command line")
	}
	if anyArch && errors.Is(err, errArchitecture) && strings.Contains(v, "/") {
		return pl, nil
	}
	if hint == "" {
		hint = architectureHint(v)
	}
	if err != nil {
		return ocispec.Platform{}, p.fail(f.Range(), hint, "--platform=%s: %v", f.Platform, err)
	}
	return pl, nil
}

// imageName gives the full reference of an image that the Dockerfile names.
// missed are the variables of it that have no value.
func (p *planner) imageName(name string, r parser.Range, missed ...string) (string, error) {
	ref, err := image.ParseRef(name)
	if err != nil {
		hint, err := p.imageHint(name, err, missed)
		return "", p.fail(r, hint, "%q is neither a stage nor an image: %v", name, err)
	}
	return ref.WithDefaultTag().String(), nil
}
