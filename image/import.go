package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ocibuild/ocibuild/image/layer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Import makes an image with one layer of a root file system tar. The tar must
// be uncompressed and whole; it is stored as it is. The config's platform is
// this machine's where it names none, and its history one entry where it has
// none. Hold a lease until the image has a name.
func (s *Store) Import(ctx context.Context, r io.Reader, cfg Config) (ocispec.Descriptor, error) {
	ly, err := s.importLayer(ctx, r)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("import: %w", err)
	}
	return s.importImage(ctx, ly, cfg)
}

// ImportDir is Import of the files of a directory. The layer's table of contents
// goes to memo.
func (s *Store) ImportDir(ctx context.Context, dir string, cfg Config, memo TOCs) (ocispec.Descriptor, error) {
	ly, err := s.WriteLayer(memo, func(w *layer.Writer) error { return layer.Diff(ctx, dir, w) })
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("import: %w", err)
	}
	return s.importImage(ctx, ly, cfg)
}

func (s *Store) importImage(ctx context.Context, ly Layer, cfg Config) (ocispec.Descriptor, error) {
	if cfg.OS == "" && cfg.Architecture == "" {
		cfg.Platform = HostPlatform()
	}
	if len(cfg.History) == 0 {
		cfg.History = []ocispec.History{{Created: cfg.Created, Comment: "imported"}}
	}
	return s.Assemble(ctx, cfg, []Layer{ly})
}

func (s *Store) importLayer(ctx context.Context, r io.Reader) (Layer, error) {
	w, err := s.Create()
	if err != nil {
		return Layer{}, err
	}
	defer w.Abort()
	var end tarEnd
	copied := io.TeeReader(&contextReader{ctx, r}, io.MultiWriter(w, &end))
	if err := checkTar(copied); err != nil {
		return Layer{}, err
	}
	// What follows the last entry belongs to the layer's bytes too.
	if _, err := io.CopyBuffer(io.Discard, copied, make([]byte, readSize)); err != nil {
		return Layer{}, fmt.Errorf("read tar: %w", err)
	}
	if end.zeros < 512 {
		return Layer{}, errors.New("the tar archive has no end mark: it may be cut off")
	}
	desc, err := w.Commit(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer})
	return Layer{Descriptor: desc, DiffID: desc.Digest}, err
}

// checkTar reads the tar to its end.
func checkTar(r io.Reader) error {
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		_, err := tr.Next()
		switch {
		case err == io.EOF && n == 0:
			return errors.New("the tar archive is empty")
		case err == io.EOF:
			return nil
		case n == 0 && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)): // shorter than a header
			return errors.New("it is not a tar archive")
		case err != nil:
			return fmt.Errorf("read tar: %w", err)
		}
	}
}

// tarEnd counts the zero bytes at the end of what is written. A tar ends with
// blocks of them; archive/tar does not mind when they are missing.
type tarEnd struct{ zeros int }

// Write begins to count anew behind any other byte.
func (e *tarEnd) Write(p []byte) (int, error) {
	rest := len(bytes.TrimRight(p, "\x00"))
	if rest > 0 {
		e.zeros = 0
	}
	e.zeros += len(p) - rest
	return len(p), nil
}
