package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// readBlob is what reading a blob has told.
type readBlob struct {
	err    error
	diffID digest.Digest // of a layer
}

// readBlobs reads every blob, several at a time.
func (c *checker) readBlobs(ctx context.Context) error {
	var mu sync.Mutex
	note := func(d digest.Digest, b readBlob, f Fault) {
		mu.Lock()
		defer mu.Unlock()
		if d != "" {
			c.blobs[d] = b
		}
		if f.Err != nil {
			c.fault(f)
		}
	}
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(max(runtime.GOMAXPROCS(0), 2))
	err := c.store.eachBlobFile(func(b blobFile) error {
		if err := groupCtx.Err(); err != nil {
			return err
		}
		name, _ := filepath.Rel(c.store.root, b.path)
		if b.digest.Validate() != nil {
			note("", readBlob{}, Fault{Kind: FaultBlob, Path: name, Err: errors.New("its name is not a digest")})
			return nil
		}
		g.Go(func() error {
			var read readBlob
			read.diffID, read.err = c.readBlob(groupCtx, b.digest, c.layers[b.digest])
			if groupCtx.Err() != nil || errors.Is(read.err, fs.ErrNotExist) {
				return groupCtx.Err()
			}
			note(b.digest, read, blobFault(name, b.digest, read.err))
			return nil
		})
		return nil
	})
	if err := errors.Join(g.Wait(), err); err != nil {
		return err
	}
	slices.SortFunc(c.faults, func(a, b Fault) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

func blobFault(name string, d digest.Digest, err error) Fault {
	f := Fault{Kind: FaultBlob, Path: name, Digest: d, Err: err}
	var bad *VerifyError
	var tar *notLayerError
	switch {
	case errors.As(err, &bad):
		f.Err = fmt.Errorf("blob %s has digest %s", d, bad.Got)
	case errors.As(err, &tar):
		f.Err = nil // the blob is what its name says: the image that calls it a layer is at fault
	}
	return f
}

// notLayerError says that a good blob is not what a manifest says of it.
type notLayerError struct{ err error }

// Error is what reading it as a layer has met.
func (e *notLayerError) Error() string { return e.err.Error() }

// Unwrap gives what reading it as a layer has met.
func (e *notLayerError) Unwrap() error { return e.err }

// readBlob reads one blob to its end, and of a layer what is in it.
func (c *checker) readBlob(ctx context.Context, d digest.Digest, isLayer bool) (digest.Digest, error) {
	r, err := c.store.localBlob(ctx, ocispec.Descriptor{Digest: d})
	if err != nil {
		return "", err
	}
	defer r.Close()
	var diffID digest.Digest
	var scanErr error
	if isLayer {
		diffID, scanErr = c.scan(ctx, d, r)
	}
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, readSize)); err != nil {
		return "", err
	}
	if scanErr != nil {
		return "", &notLayerError{scanErr}
	}
	return diffID, nil
}

func (c *checker) scan(ctx context.Context, d digest.Digest, r io.Reader) (digest.Digest, error) {
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	digests, toc, err := layer.Scan(ctx, plain)
	if err != nil {
		return "", err
	}
	if c.options.Layer != nil {
		c.options.Layer(d, digests, toc)
	}
	return digests.DiffID, nil
}

// roles finds out what blobs are layers, and what are manifests or indexes.
func (c *checker) roles(ctx context.Context) error {
	for _, d := range c.options.Layers {
		c.layers[d] = true
	}
	list, err := c.store.documentBlobs(ctx, nil)
	if err != nil {
		return err
	}
	for _, desc := range list {
		c.documents[desc.Digest] = desc
		doc, err := readDocument(ctx, c.store, desc)
		if err != nil {
			if ctxDone(err) {
				return err
			}
			continue // it will be found damaged
		}
		for _, child := range doc.children() {
			c.layers[child.Digest] = c.layers[child.Digest] || layerType(child.MediaType) != ""
		}
	}
	compressed, err := c.store.compressions()
	for _, e := range compressed {
		if e.err == nil {
			c.layers[e.done.Digest], c.layers[e.layer] = true, true
		}
	}
	return err
}

// sameSummary compares what is remembered of a document with what it says.
func sameSummary(a, b remembered) bool {
	return string(mustEncode(a)) == string(mustEncode(b)) && (a.Facts == nil) == (b.Facts == nil) &&
		(a.Facts == nil || string(detailText(a.Facts)) == string(detailText(b.Facts)))
}

func detailText(f *Facts) []byte {
	text, _ := json.Marshal(f.detail())
	return text
}
