package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// RemoveOptions says what Remove may do.
type RemoveOptions struct {
	// Force removes an image by its id though it has several names or is in
	// use, and does not mind images that are not there.
	Force bool
	// Platforms removes the images for these platforms alone. The index and its
	// names stay.
	Platforms []ocispec.Platform
	// InUse tells who else uses an image, by its id: where it is mounted.
	InUse func(id digest.Digest) (by string)
	// KeepMore is as in PruneOptions: the blobs that cache records need.
	KeepMore func(context.Context) ([]digest.Digest, error)
}

// RemoveReport says what Remove did.
type RemoveReport struct {
	Untagged []Ref
	Deleted  []digest.Digest // the ids of images that are gone; one that is in use goes with the next Prune
}

// SharedIDError says that an image cannot be removed by its id because it has
// several names.
type SharedIDError struct {
	Name string
	Refs []Ref
}

// Error lists the names.
func (e *SharedIDError) Error() string {
	names := make([]string, len(e.Refs))
	for i, r := range e.Refs {
		names[i] = r.Familiar()
	}
	return fmt.Sprintf("image %s has several names: %s", e.Name, strings.Join(names, ", "))
}

// InUseError says that an image or a layer cannot be removed because a running program,
// or something in the store, needs it.
type InUseError struct {
	What string // "layer", or empty for an image
	Name string
	By   string // what needs it
}

// Error tells what needs it.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s %s is in use: %s", orDefault(e.What, "image"), e.Name, e.By)
}

// Remove removes images. A name is taken from its image, which goes when it was
// the last one. An id, or the beginning of one, removes the image with its name;
// with several names it is a *SharedIDError, and what a running program has
// used an *InUseError. What other images need stays. An error about one image,
// a *RemoveError, keeps no other from being removed.
func (s *Store) Remove(ctx context.Context, names []string, o RemoveOptions) (RemoveReport, []error) {
	r := remover{store: s, options: o}
	var errs []error
	for _, name := range names {
		err := r.remove(ctx, name)
		if err == nil || o.Force && errors.Is(err, ErrNotFound) {
			continue
		}
		errs = append(errs, &RemoveError{name, err})
	}
	if err := r.collect(ctx); err != nil {
		errs = append(errs, err)
	}
	return r.report, errs
}

// RemoveError is an error about one of the names given to Remove.
type RemoveError struct {
	Name string
	Err  error
}

// Error tells the name and the cause.
func (e *RemoveError) Error() string { return "remove " + e.Name + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *RemoveError) Unwrap() error { return e.Err }

type remover struct {
	store   *Store
	options RemoveOptions
	report  RemoveReport
	// gone are images without a name, parts the manifests to take from indexes.
	gone  []Summary
	parts []Member
}

func (r *remover) remove(ctx context.Context, name string) error {
	m := r.store.openMemo()
	defer m.save()
	found, err := r.store.resolveIn(ctx, m, name)
	if err != nil {
		return err
	}
	table, err := r.store.tableSummaries(ctx, m)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(table, func(s Summary) bool { return s.Descriptor.Digest == found.Descriptor.Digest })
	var image Summary
	switch {
	case at >= 0:
		image = table[at]
	case r.options.Force || len(r.options.Platforms) > 0:
		image = m.summarise(ctx, found.Descriptor)
	default:
		image = m.summarise(ctx, found.Descriptor)
		if err := partOf(name, found.Descriptor.Digest, table); err != nil {
			return err
		}
	}
	if image.isLayerRecord() {
		return fmt.Errorf("%s is a layer, not an image: %w", name, ErrNotFound)
	}
	if len(r.options.Platforms) > 0 {
		return r.removePlatforms(ctx, name, &image, table)
	}
	return r.removeNames(ctx, name, found.Ref, &image)
}

// partOf refuses to remove the manifest of an index by its id.
func partOf(name string, d digest.Digest, table []Summary) error {
	for i := range table {
		for _, m := range table[i].Members {
			if m.Descriptor.Digest == d {
				return &InUseError{Name: name, By: fmt.Sprintf("it is the image for %s of %s", FormatPlatform(m.Platform), table[i].title())}
			}
		}
	}
	return nil
}

// title is a name of the image, or its id.
func (s *Summary) title() string {
	if len(s.Refs) > 0 {
		return s.Refs[0].Familiar()
	}
	return s.ID().String()
}

// removeNames takes the name from the image, or all names when it was found by
// its id.
func (r *remover) removeNames(ctx context.Context, name string, ref Ref, image *Summary) error {
	refs := []Ref{ref}
	if ref.IsZero() {
		refs = image.Refs
		if len(refs) > 1 && !r.options.Force {
			return &SharedIDError{Name: name, Refs: refs}
		}
		if by, err := r.inUse(image); err != nil || by != "" && !r.options.Force {
			return errors.Join(err, usedBy(name, by))
		}
	}
	for _, ref := range refs {
		if err := r.store.Untag(ctx, ref); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		r.report.Untagged = append(r.report.Untagged, ref)
	}
	left := slices.DeleteFunc(slices.Clone(image.Refs), func(ref Ref) bool { return slices.Contains(refs, ref) })
	if len(left) > 0 {
		return nil
	}
	r.gone = append(r.gone, *image)
	return r.store.forget(ctx, image.Descriptor.Digest)
}

func usedBy(name, by string) error {
	if by == "" {
		return nil
	}
	return &InUseError{Name: name, By: by}
}

// inUse tells what needs the image.
func (r *remover) inUse(image *Summary) (by string, err error) {
	for _, m := range image.Members {
		if r.options.InUse != nil && m.Kind == KindImage {
			if by := r.options.InUse(m.ID); by != "" {
				return by, nil
			}
		}
	}
	return r.store.inUse(image)
}

// inUse tells what has used the image and still runs: whose lease began before
// the last use.
func (s *Store) inUse(image *Summary) (by string, err error) {
	info, err := os.Stat(s.blobPath(image.Descriptor.Digest))
	if err != nil {
		return "", nil //nolint:nilerr // what is not there is not in use
	}
	now := s.now()
	since, err := s.cutoff(now)
	if err != nil || !since.Before(now) || info.ModTime().Before(since) {
		return "", err
	}
	return "a program that began at " + since.Local().Format(time.TimeOnly) + " and still runs may need it", nil
}

// removePlatforms notes the manifests to take from an index.
func (r *remover) removePlatforms(ctx context.Context, name string, image *Summary, table []Summary) error {
	var parts []Member
	for _, p := range r.options.Platforms {
		img, err := r.store.Select(ctx, image.Descriptor, &p)
		if err != nil {
			return err
		}
		d := img.Descriptor.Digest
		if other := slices.IndexFunc(table, func(s Summary) bool {
			return s.Descriptor.Digest == d && s.Descriptor.Digest != image.Descriptor.Digest
		}); other >= 0 {
			return &InUseError{Name: name, By: "its image for " + FormatPlatform(p) + " is " + table[other].title() + " too"}
		}
		for _, m := range image.Members {
			if m.Descriptor.Digest == d || m.Descriptor.Annotations[attestationOf] == d.String() {
				parts = append(parts, m)
			}
		}
	}
	left := slices.ContainsFunc(image.Members, func(m Member) bool {
		return m.Present && m.Kind == KindImage && !slices.ContainsFunc(parts, func(p Member) bool { return p.Descriptor.Digest == m.Descriptor.Digest })
	})
	if !left {
		return &LastPlatformError{Name: name}
	}
	r.parts = append(r.parts, parts...)
	return nil
}

// LastPlatformError says that of an image nothing would be left without the
// platforms that were to be removed.
type LastPlatformError struct{ Name string }

// Error tells what would be lost.
func (e *LastPlatformError) Error() string {
	return fmt.Sprintf("image %s is in the store for no other platform", e.Name)
}

// forget removes what the table has of an image without a name.
func (s *Store) forget(ctx context.Context, d digest.Digest) error {
	return s.changeIndex(ctx, func(index *ocispec.Index) (bool, error) {
		before := len(index.Manifests)
		index.Manifests = slices.DeleteFunc(index.Manifests, func(m ocispec.Descriptor) bool {
			_, named := entryRef(m)
			return m.Digest == d && !named
		})
		return len(index.Manifests) != before, nil
	})
}

// collect deletes what only the removed images needed.
func (r *remover) collect(ctx context.Context) error {
	if len(r.gone) == 0 && len(r.parts) == 0 {
		return nil
	}
	dropErr := r.dropParts(ctx)
	if _, err := r.store.Prune(ctx, PruneOptions{KeepMore: r.keep}); err != nil {
		return errors.Join(dropErr, err)
	}
	for i := range r.gone {
		if !r.store.there(r.gone[i].Descriptor.Digest) {
			r.report.Deleted = append(r.report.Deleted, r.gone[i].ID())
		}
	}
	return dropErr
}

// dropParts removes manifests that an index names. They go before what they
// need: without them the index is one of which that was not fetched.
func (r *remover) dropParts(ctx context.Context) error {
	limit, err := r.store.cutoff(r.store.now())
	if err != nil {
		return err
	}
	limit = r.store.coarse(limit)
	for _, m := range r.parts {
		gone, err := r.store.discard(ctx, m.Descriptor.Digest, limit)
		switch {
		case err != nil:
			return r.store.explain("remove", err)
		case !gone && r.store.there(m.Descriptor.Digest):
			return &InUseError{Name: m.ID.String(), By: "a program that still runs may need it"}
		case gone && m.Kind == KindImage:
			r.report.Deleted = append(r.report.Deleted, m.ID)
		}
	}
	return nil
}

// keep lists the blobs that nothing in the table leads to and that are to stay
// all the same: those of other images without a name and those of records.
func (r *remover) keep(ctx context.Context) ([]digest.Digest, error) {
	var keep []digest.Digest
	if r.options.KeepMore != nil {
		more, err := r.options.KeepMore(ctx)
		if err != nil {
			return nil, err
		}
		keep = more
	}
	m := r.store.openMemo()
	defer m.save()
	table, err := r.store.tableSummaries(ctx, m)
	if err != nil {
		return nil, err
	}
	loose, err := r.store.looseImages(ctx, m, append(table, r.gone...))
	if err != nil {
		return nil, err
	}
	for i := range loose {
		for _, b := range loose[i].Blobs() {
			keep = append(keep, b.Digest)
		}
	}
	return keep, nil
}
