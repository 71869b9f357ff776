package image

import (
	"context"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Found is a name that Search has found, and the image that it stands for.
type Found struct {
	Ref   Ref
	Image *Summary
}

// Search finds the names of images that have term in them, or whose image has it
// in a label or an annotation, upper and lower case alike. The names are in the
// order of their full text.
func (s *Store) Search(ctx context.Context, term string) ([]Found, error) {
	m := s.openMemo()
	defer m.save()
	entries, err := m.entries(ctx)
	if err != nil {
		return nil, err
	}
	term = strings.ToLower(term)
	var list []Found
	known := make(map[string]*Summary)
	for _, e := range entries {
		if e.Ref.IsZero() {
			continue
		}
		i, ok := known[e.Descriptor.Digest.String()]
		if !ok {
			summary := m.summarise(ctx, e.Descriptor)
			i = &summary
			known[e.Descriptor.Digest.String()] = i
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if i.Err == nil && (strings.Contains(strings.ToLower(e.Ref.String()), term) || i.mentions(term)) {
			list = append(list, Found{e.Ref, i})
		}
	}
	return list, nil
}

// mentions reports whether a label or an annotation has the term in it.
func (s *Summary) mentions(term string) bool {
	texts := []map[string]string{s.Annotations}
	for _, m := range s.Members {
		texts = append(texts, m.Labels(), m.Annotations(), m.Descriptor.Annotations)
	}
	for _, pairs := range texts {
		for key, value := range pairs {
			if strings.Contains(strings.ToLower(key+"="+value), term) {
				return true
			}
		}
	}
	return false
}

// Description is what the image says it is, in a label or an annotation; empty
// where it says nothing.
func (s *Summary) Description() string {
	main, _ := s.Main()
	for _, key := range []string{ocispec.AnnotationDescription, ocispec.AnnotationTitle} {
		for _, pairs := range []map[string]string{main.Labels(), main.Annotations(), main.Descriptor.Annotations, s.Annotations} {
			if text := pairs[key]; text != "" {
				return text
			}
		}
	}
	return ""
}
