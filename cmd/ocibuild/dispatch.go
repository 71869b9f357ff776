package main

import (
	"context"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dispatch pushes what a build makes: the layers while it goes on, the manifests when it has ended well. Without anything to push it
// does nothing.
type dispatch struct {
	// ctx is the build's: it ends when the layers cannot be sent.
	ctx     context.Context
	onLayer func(image.Layer)
	cancel  context.CancelCauseFunc
	p       *pusher
	layers  *shipping
	waited  bool
}

// dispatch asks the registries whether they would take what the build is to push, before the build begins.
func (c *buildCommand) dispatch(ctx context.Context, s *session, b *build.Builder, show display) (*dispatch, error) {
	d := &dispatch{}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	if !c.push {
		return d, nil
	}
	d.p = &pusher{store: b.Store, client: s.client(c.insecure, show), show: show, press: b.Store.Press(ctx, c.compression.how)}
	var refs []image.Ref
	for _, w := range c.wants() {
		refs = append(refs, w.Tags...)
	}
	d.layers = d.p.ship(d.ctx, refs, d.cancel)
	if !s.detours.pushLast {
		d.onLayer = d.layers.layer
	}
	if err := d.layers.allowed(ctx); err != nil {
		err = d.built(err)
		d.close()
		return nil, err
	}
	return d, nil
}

// built is called when the build has ended, with its error. It gives the first reason why nothing is pushed.
func (d *dispatch) built(err error) error {
	if d.layers == nil || d.waited {
		return err
	}
	d.waited = true
	if cause := context.Cause(d.ctx); err != nil && cause != nil {
		err = cause // a layer could not be sent, and so the build was stopped
	}
	return d.layers.wait(err)
}

// push pushes the images of a build. It gives what the registries have under the names of the last one.
func (d *dispatch) push(ctx context.Context, result *build.Result) (pushed []ocispec.Descriptor, err error) {
	if d.p == nil {
		return nil, nil
	}
	for _, other := range result.Others {
		for _, ref := range other.Tags {
			if _, err := d.p.push(ctx, ref, other.Image); err != nil {
				return nil, err
			}
		}
	}
	for _, ref := range result.Tags {
		done, err := d.p.push(ctx, ref, result.Image)
		if err != nil {
			return nil, err
		}
		pushed = append(pushed, done.Descriptor)
	}
	return pushed, nil
}

// close gives up what is under way.
func (d *dispatch) close() {
	d.cancel(nil)
	if d.p != nil {
		d.p.press.Close()
	}
}
