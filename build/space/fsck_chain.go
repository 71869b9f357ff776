package space

import (
	"context"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
)

// chainTree is a layer that was unpacked on top of those below it.
type chainTree struct {
	tree
	of image.Chain
}

// chain notes an unpacked layer that makes sense on those below it alone. It is
// checked when it is known what all of them hold.
func (f *fsck) chain(sn *executor.Snapshots, name string, t tree) {
	text, err := sn.Note(name)
	var of image.Chain
	if err == nil {
		of, err = image.ParseChain(name, text)
	}
	if err != nil {
		f.unpacked(context.Background(), t, err)
		return
	}
	f.onto = append(f.onto, chainTree{t, of})
	for _, d := range of {
		f.tocs[d] = nil
	}
}

// chains checks the layers that were unpacked on top of others: those that the store
// has the tars or the tables of contents of, with all below them.
func (f *fsck) chains(ctx context.Context) {
	for _, t := range f.onto {
		tocs, ok := f.chainTOCs(t.of)
		if !ok {
			continue
		}
		f.unpacked(ctx, t.tree, layer.CheckOnto(ctx, f.path(t.path, "fs"), tocs, layer.CheckOptions{SkipDevices: t.skipDevices}))
	}
}

// chainTOCs gives what layers hold: as it was read just now, or as it is remembered
// where the tars are not here any more.
func (f *fsck) chainTOCs(of image.Chain) ([]*layer.TOC, bool) {
	tocs := make([]*layer.TOC, len(of))
	for i, d := range of {
		if tocs[i] = f.tocs[d]; tocs[i] != nil {
			continue
		}
		text, ok := f.Cache.PeekTOC(d)
		if !ok {
			return nil, false
		}
		toc, err := layer.UnmarshalTOC(text)
		if err != nil {
			return nil, false
		}
		tocs[i] = toc
	}
	return tocs, true
}
