package layer

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"slices"
)

// Scan reads an uncompressed layer tar to its end and gives what Apply would,
// without writing anything: to look something up in a layer that nobody needs
// unpacked.
func Scan(ctx context.Context, r io.Reader) (Digests, *TOC, error) {
	s := newStream(ctx, r)
	defer s.Close()
	t := &tarReader{tar: tar.NewReader(s), offset: func() int64 { return s.n }}
	toc, content := &TOC{}, newContentHash()
	for copier := newCopier(); ; {
		e, err := t.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Digests{}, nil, fmt.Errorf("scan layer: %w", err)
		}
		if e.Type == tar.TypeReg && !e.marker() {
			if e.Digest, err = copier.copy(io.Discard, t.tar, e.Size, true); err != nil {
				return Digests{}, nil, fmt.Errorf("scan layer: entry %q: %w", e.Name, err)
			}
		}
		content.add(&e)
		toc.Entries = append(toc.Entries, e)
	}
	digests, err := s.finish()
	if err != nil {
		return Digests{}, nil, fmt.Errorf("scan layer: read tar: %w", err)
	}
	digests.Content = content.digest()
	return digests, toc, nil
}

// Last gives the entry that was written last, with the digest and the offset
// that writing it has found out.
func (w *Writer) Last() Entry {
	if n := len(w.toc.Entries); n > 0 {
		return w.toc.Entries[n-1]
	}
	return Entry{}
}

// Grow makes room in the table of contents for n more entries.
func (w *Writer) Grow(n int) { w.toc.Entries = slices.Grow(w.toc.Entries, n) }
