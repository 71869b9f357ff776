package main

import (
	"context"
	"slices"
	"sync"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// maxShipped is how many layers wait for their turn at the registries, or are under way.
const maxShipped = 64

// shipping sends layers to repositories as soon as they are there, and compresses them on the way. What it has brought becomes part
// of an image when the image is pushed.
type shipping struct {
	p     *pusher
	repos []registry.Repository
	rows  []*row
	group *errgroup.Group
	ctx   context.Context // of the group
	stop  context.CancelCauseFunc
	// refused is why the registries would not take the layers.
	refused error

	mu   sync.Mutex
	seen map[digest.Digest]bool
}

// ship begins to send layers to the repositories of some names. failed is called when that fails.
func (p *pusher) ship(ctx context.Context, refs []image.Ref, failed func(error)) *shipping {
	ctx, stop := context.WithCancelCause(ctx)
	s := &shipping{p: p, stop: stop, seen: map[digest.Digest]bool{}}
	s.group, s.ctx = errgroup.WithContext(ctx)
	s.group.SetLimit(maxShipped)
	for _, ref := range refs {
		if s.add(repository(ref)) {
			s.rows = append(s.rows, p.show.begin("send layers to "+repositoryName(ref), repositoryName(ref)))
		}
	}
	context.AfterFunc(s.ctx, func() { failed(context.Cause(s.ctx)) })
	return s
}

// add sends the layers to one more repository.
func (s *shipping) add(repo registry.Repository) bool {
	if slices.Contains(s.repos, repo) {
		return false
	}
	s.repos = append(s.repos, repo)
	return true
}

// allowed asks the registries whether they would take the layers.
func (s *shipping) allowed(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, repo := range s.repos {
		group.Go(func() error { return s.p.client.CheckPush(ctx, repo) })
	}
	s.refused = group.Wait()
	return s.refused
}

// layer sends a layer, once.
func (s *shipping) layer(l image.Layer) {
	s.mu.Lock()
	again := s.seen[l.Descriptor.Digest]
	s.seen[l.Descriptor.Digest] = true
	s.mu.Unlock()
	if again || s.ctx.Err() != nil {
		return
	}
	from := relay{s.p.store, s.p.client}
	for _, repo := range s.repos {
		s.group.Go(func() error {
			if !s.p.press.Changes(l) {
				return s.p.client.PushStored(s.ctx, repo, l.Descriptor, from)
			}
			made := s.p.press.Layer(l)
			shown := ocispec.Descriptor{Digest: l.Descriptor.Digest}
			_, err := s.p.client.PushStream(s.ctx, repo, registry.Stream{Growing: made, Key: made.Key, Shown: shown}, from)
			return err
		})
	}
}

// wait waits until all layers are where they should be, or gives up.
func (s *shipping) wait(giveUp error) error {
	if giveUp != nil {
		s.stop(giveUp)
		s.group.Go(s.ctx.Err) // so that it is told as given up, if it has not failed
	}
	err := s.group.Wait()
	s.stop(nil)
	if s.refused != nil {
		err = s.refused
	}
	for _, r := range s.rows {
		s.p.show.end(r, err)
	}
	s.rows = nil
	if giveUp != nil {
		return giveUp
	}
	return err
}
