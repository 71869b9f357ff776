package build

import (
	"context"

	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// wants are the results of the build.
func (r *run) wants() []Want {
	if len(r.req.Results) > 0 {
		return r.req.Results
	}
	return []Want{{Target: r.req.Plan.Target, Platforms: []ocispec.Platform{r.req.Plan.Platform}, Tags: r.req.Tags}}
}

func (r *run) wanted() []Wanted {
	return Wanteds(r.wants())
}

// Wanteds is what a plan has to give for the results of a build, in their order.
func Wanteds(wants []Want) []Wanted {
	var out []Wanted
	for _, w := range wants {
		for _, p := range w.Platforms {
			out = append(out, Wanted{Target: w.Target, Platform: p})
		}
	}
	return out
}

// result stores all images and then names them, so that a name is only given
// when everything is there.
func (r *run) result(ctx context.Context, targets []*State) (*Result, error) {
	var made []Made
	steps := r.graph.Targets
	for _, w := range r.wants() {
		m, err := r.keepResult(ctx, w, targets[:len(w.Platforms)], steps)
		if err != nil {
			return nil, err
		}
		made = append(made, m)
		targets, steps = targets[len(w.Platforms):], steps[len(w.Platforms):]
		if !r.req.LeaveLayers {
			if err := r.b.Store.Complete(ctx, m.Image); err != nil {
				return nil, err
			}
		}
	}
	for _, m := range made {
		if err := r.b.Store.TagAll(ctx, m.Tags, m.Image); err != nil {
			return nil, err
		}
	}
	last := len(made) - 1
	return &Result{
		Made: made[last], Others: made[:last],
		Steps: len(r.graph.Steps), Cached: r.cached, Ran: r.ran, Warnings: r.warnings,
	}, nil
}

// keepResult stores the image of a result, or its images and their index. steps
// are those that gave the targets.
func (r *run) keepResult(ctx context.Context, w Want, targets []*State, steps []*Step) (Made, error) {
	m := Made{Target: w.Target, Tags: w.Tags, State: targets[0]}
	for i, st := range targets {
		f := finish{labels: r.req.Labels, platform: w.Platforms[i], chosen: w.Chosen, epoch: steps[i].epoch}
		desc, img, err := r.assemble(ctx, st, f)
		if err != nil {
			return Made{}, err
		}
		m.Image, m.ID = desc, img.ID()
		// What was asked for, as BuildKit has it, also where a base image is for
		// another platform.
		desc.Platform = &w.Platforms[i]
		m.Platforms = append(m.Platforms, desc)
	}
	if len(targets) == 1 && !w.Index {
		return m, nil
	}
	var err error
	m.Image, err = r.b.Store.AssembleIndex(ctx, m.Platforms, nil)
	m.ID = m.Image.Digest
	return m, err
}

// assemble stores the image of a target.
func (r *run) assemble(ctx context.Context, target *State, f finish) (ocispec.Descriptor, *image.Image, error) {
	layers, err := target.layers(ctx)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	config := f.config(target)
	if err := r.checkConfig(&config); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc, err := r.b.Store.Assemble(ctx, config, layers)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	img, err := r.b.Store.Image(ctx, desc, nil)
	return desc, img, err
}
