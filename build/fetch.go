package build

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// fetches gives the matches of the sources that an ADD fetches, by their place
// among its sources. What need not be fetched to be identified is not fetched yet.
func (o *copyOp) fetches(ctx context.Context) (map[int]match, error) {
	found := make([]match, len(o.t.sources))
	out := map[int]match{}
	g, gctx := errgroup.WithContext(ctx)
	for i, src := range o.t.sources {
		if !src.remote() {
			continue
		}
		if o.r.b.Remotes == nil {
			return nil, errors.New("nothing can be fetched here")
		}
		out[i] = match{}
		g.Go(func() (err error) {
			if src.git != nil {
				found[i], err = o.gitMatch(gctx, src.git)
			} else {
				found[i], err = o.fileMatch(gctx, src)
			}
			return err
		})
	}
	err := g.Wait()
	for i := range out {
		out[i] = found[i]
	}
	return out, err
}

// report tells of the step what is being fetched for it.
func (o *copyOp) report(text string, done, total int64) {
	o.r.event(Event{Kind: Status, Step: o.step, Text: text, Current: done, Total: total})
}

// gitMatch is a repository's tree: all of it, or what --exclude leaves.
func (o *copyOp) gitMatch(ctx context.Context, g *parser.Git) (match, error) {
	repo := *g
	if repo.MTime == "" && o.step.epoch != nil {
		repo.MTime = parser.MTimeCommit
	}
	tree, err := o.r.b.Remotes.Git(ctx, &repo)
	if err != nil {
		return match{}, err
	}
	whole := append([]string{"git", tree.Identity()}, o.t.exclude...)
	return match{whole: whole, fill: func(ctx context.Context, m *match) error {
		dir, err := tree.Checkout(ctx, o.report)
		if err != nil {
			return err
		}
		t, err := o.r.openDir(dir, nil)
		if err != nil {
			return err
		}
		exclude, err := o.t.excludes()
		if err != nil {
			return err
		}
		found, err := matchTree(ctx, t, "", source{exclude: exclude})
		m.from, m.items = t, found.items
		return err
	}}, nil
}

// fileMatch is the file of a URL. One with a checksum is known without it.
func (o *copyOp) fileMatch(ctx context.Context, src origin) (match, error) {
	want := o.t.fetched.checksum
	fetch := func(ctx context.Context) (*RemoteFile, error) {
		return o.r.b.Remotes.File(ctx, src.text, want, o.report)
	}
	m := match{name: src.fileName(), unpack: o.t.fetched.unpack}
	content := want
	if content.Validate() != nil || content.Algorithm() != digest.SHA256 {
		f, err := fetch(ctx)
		if err != nil {
			return m, err
		}
		content = f.Digest
	}
	m.whole = []string{"file", m.name, string(content)}
	if m.unpack {
		m.whole = append(m.whole, "unpack")
	}
	m.fill = func(ctx context.Context, m *match) error {
		f, err := fetch(ctx)
		if err != nil {
			return err
		}
		m.from, m.items = webFile{f}, []item{{at: m.name, entry: fileEntry(m.name, f), digest: f.Digest}}
		return nil
	}
	return m, nil
}

// fileEntry is what becomes of the file of a URL: it is its owner's alone, and as
// old as its server says.
func fileEntry(name string, f *RemoteFile) *layer.Entry {
	e := &layer.Entry{Name: name, Type: typeReg, Mode: 0o600, Size: f.Size, ModTime: f.ModTime}
	if e.ModTime.IsZero() {
		e.ModTime = time.Unix(0, 0)
	}
	return e
}

// webFile gives the bytes of a fetched file.
type webFile struct{ f *RemoteFile }

func (w webFile) open(context.Context, string, *layer.Entry) (io.ReadCloser, error) {
	return verified(io.NewSectionReader(w.f, 0, w.f.Size), &layer.Entry{Digest: w.f.Digest}, nil), nil
}

// fill fetches the files of the matches that are known without them.
func (s *selection) fill(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range s.matches {
		if m := &s.matches[i]; m.fill != nil && m.items == nil {
			g.Go(func() error { return m.fill(ctx, m) })
		}
	}
	return g.Wait()
}
