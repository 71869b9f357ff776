package layer

import (
	"archive/tar"
	"fmt"
	"io"
)

// Find reads an uncompressed layer tar up to the entry of that index in its
// table of contents, and gives the entry and its bytes.
func Find(r io.Reader, index int) (Entry, io.Reader, error) {
	t := &tarReader{tar: tar.NewReader(r), offset: func() int64 { return 0 }}
	for i := 0; ; i++ {
		e, err := t.next()
		if err == io.EOF {
			err = fmt.Errorf("read tar: it has %d entries: %w", i, io.ErrUnexpectedEOF)
		}
		if err != nil {
			return Entry{}, nil, fmt.Errorf("find entry %d: %w", index, err)
		}
		if i == index {
			return e, t.tar, nil
		}
	}
}
