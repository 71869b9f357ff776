package build

import (
	"context"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"golang.org/x/sync/errgroup"
)

// use is what a build does with the layers of a base image, the least first.
type use int

const (
	unused   use = iota
	kept         // an image that is kept here has them
	looked       // a step looks at the names in them
	unpacked     // a command runs on them
)

// certainUse is what is certain to be done with a base, and the step that does it.
type certainUse struct {
	use use
	by  *Step
}

// ahead fetches the layers of bases, and unpacks them, that the build is
// certain to need, while other steps work and files of the context are hashed.
// What may yet turn out to be cached, and then reads nothing, has to ask itself.
func (r *run) ahead(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for base, u := range r.certainUses() {
		g.Go(func() error {
			err := r.prepare(ctx, r.bases[base.ID].Layers, u.use)
			if err != nil {
				err = r.stepError(u.by, err)
			}
			return err
		})
	}
	return g.Wait()
}

// prepare makes layers be here as a use of them wants it.
func (r *run) prepare(ctx context.Context, layers []image.Layer, u use) error {
	switch u {
	case unpacked:
		_, err := r.bytes.snapshots(ctx, layers)
		return err
	case looked:
		_, err := r.bytes.contents(ctx, layers)
		return err
	case kept:
		return r.b.Store.NeedLayers(ctx, layers)
	}
	return nil
}

// certainUses finds what the build does with its bases whatever the cache holds.
func (r *run) certainUses() map[*Step]certainUse {
	uses := map[*Step]certainUse{}
	if r.b.Detours.OnDemand {
		return uses
	}
	note := func(at, by *Step, u use) {
		if base := r.baseOf(at); base != nil && uses[base].use < u {
			uses[base] = certainUse{u, by}
		}
	}
	for _, s := range r.graph.Steps {
		if s.Parent == nil && !r.req.LeaveLayers && r.graph.inResult(s) {
			note(s, s, kept)
		}
		below, source := r.reads(s)
		if below == unused && source == unused || !r.certain(s) {
			continue
		}
		note(s.Parent, s, below)
		for _, from := range s.Sources {
			note(from, s, source)
		}
	}
	return uses
}

// reads says what a step does with what is below it, and with what --from names,
// when it does its work. A WORKDIR may be the root, and then does nothing.
func (r *run) reads(s *Step) (below, source use) {
	switch in := s.Instr.(type) {
	case *parser.Run:
		if r.b.Executor != nil { // else it is refused
			return unpacked, unused
		}
	case *parser.Copy:
		if in.Link {
			return unused, looked
		}
		return looked, looked
	case *parser.Add:
		if !in.Link {
			return looked, unused
		}
	}
	return unused, unused
}

// certain reports whether a step will do its work: no cache can hold what it gives.
func (r *run) certain(s *Step) bool {
	return r.uncached(s) || !r.graph.twin(s) && !r.b.Cache.HasName(stepName(s))
}

// baseOf is the step that brought in the image which s stands on, or nil.
func (r *run) baseOf(s *Step) *Step {
	for s != nil && s.Parent != nil {
		s = s.Parent
	}
	if s == nil || r.bases[s.ID] == nil {
		return nil
	}
	return s
}
