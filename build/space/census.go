package space

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/usage"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Census is what one look at the store found. What came or went while it was taken
// may be missing from it.
type Census struct {
	Items []Item
	Blobs map[digest.Digest]*Blob
	// Total is what the whole store takes.
	Total int64
	// InUseSince is when the oldest running build began, or when the census was taken:
	// what was used then or later is in use.
	InUseSince time.Time
	Leases     []image.LiveLease

	space   Space
	formsOf map[digest.Digest][]int // the compressed forms of layers, once they were asked for
}

// Census takes one. Nothing is marked as used.
func (s Space) Census(ctx context.Context) (*Census, error) {
	c := &Census{Blobs: make(map[digest.Digest]*Blob), space: s}
	// The order matters: the time first, and what holds blobs before the blobs, so
	// that none looks as if it held something that is not there.
	var err error
	if c.Leases, err = s.Images.Leases(); err != nil {
		return nil, err
	}
	if c.InUseSince, err = s.Images.InUseSince(); err != nil {
		return nil, err
	}
	for _, look := range []func(context.Context) error{
		c.addCache, c.addImages, c.addBlobs, c.addCompressed, c.addUnfinished, c.addQuarantine, c.addTrees,
	} {
		if err := look(ctx); err != nil {
			return nil, fmt.Errorf("look at the store: %w", err)
		}
	}
	c.hold()
	return c, c.total(ctx)
}

func (c *Census) add(i Item) { c.Items = append(c.Items, i) }

// addImages adds what the table has and all other images.
func (c *Census) addImages(ctx context.Context) error {
	list, err := c.space.Images.Contents(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		s := &list[i]
		item := Item{Area: Images, Kind: KindImage, ID: s.ID().String(), image: s}
		switch {
		case s.IsLayer():
			item.Kind = KindLayer
		case len(s.Refs) > 0:
			item.Title = s.Refs[0].Familiar()
		}
		if s.Listed {
			item.Pin = PinName
		}
		item.Blobs = append(item.Blobs, s.Descriptor.Digest)
		for _, b := range s.Blobs() {
			if b.Digest != s.Descriptor.Digest {
				item.Blobs = append(item.Blobs, b.Digest)
			}
		}
		c.add(item)
	}
	return nil
}

func (c *Census) addBlobs(ctx context.Context) error {
	list, err := c.space.Images.StoredBlobs(ctx)
	for _, b := range list {
		c.Blobs[b.Digest] = &Blob{StoredBlob: b, Area: Images}
	}
	return err
}

// cacheKinds maps the kinds of the cache's items to ours.
var cacheKinds = map[cache.Kind]Kind{
	cache.KindRecord: KindRecord, cache.KindFact: KindFact, cache.KindTOC: KindTOC,
	cache.KindFiles: KindFiles, cache.KindUnfinished: KindUnfinished,
}

// addCache adds the cache's files; records are read, several at a time.
func (c *Census) addCache(ctx context.Context) error {
	list, err := c.space.Cache.Items(ctx)
	if err != nil {
		return err
	}
	first := len(c.Items)
	for _, i := range list {
		if below(i.Path, "facts/"+sizesFact) || below(i.Path, "facts/"+cache.LabelFact) {
			continue // they go with what they are about
		}
		item := Item{Area: Cache, Kind: cacheKinds[i.Kind], ID: string(i.Key()), Bytes: i.Bytes, Used: i.Used, cache: i}
		item.Path = c.space.path("cache", i.Path)
		if item.Kind == KindUnfinished {
			item.Area, item.ID = Unfinished, filepath.Join("cache", i.Path)
			if time.Since(i.Used) < cache.UnfinishedAge {
				item.Pin = PinInUse
			}
		}
		c.add(item)
	}
	g, ctx := errgroup.WithContext(ctx)
	workers := max(runtime.GOMAXPROCS(0), 2)
	for w := range workers {
		g.Go(func() error {
			for at := first + w; at < len(c.Items) && ctx.Err() == nil; at += workers {
				if i := &c.Items[at]; i.Kind == KindRecord {
					c.space.readRecord(i)
				}
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// readRecord fills in what a record holds. One that cannot be read is useless.
func (s Space) readRecord(i *Item) {
	r, err := s.Cache.Peek(cache.Key(i.ID))
	if err != nil {
		i.Useless = errors.Is(err, cache.ErrDamaged)
		return
	}
	i.Title = r.Name
	for _, b := range r.Blobs {
		i.Blobs = append(i.Blobs, b.Digest)
	}
}

func (c *Census) addCompressed(context.Context) error {
	list, err := c.space.Images.CompressedLayers()
	for _, l := range list {
		c.add(Item{
			Area: Cache, Kind: KindCompressed, ID: filepath.Base(l.Path), Title: "of " + l.Layer.String(), Bytes: l.Bytes,
			Blobs: []digest.Digest{l.Blob}, Used: l.Used, Path: c.space.path(l.Path), of: l.Layer,
		})
	}
	return err
}

func (c *Census) addUnfinished(ctx context.Context) error {
	list, err := c.space.Images.Leftovers(ctx)
	for _, l := range list {
		item := Item{Area: Unfinished, Kind: KindUnfinished, ID: l.Path, Bytes: l.Bytes, Used: l.Used, Path: c.space.path(l.Path)}
		if l.Live {
			item.Pin = PinInUse
		}
		c.add(item)
	}
	return err
}

func (c *Census) addQuarantine(ctx context.Context) error {
	entries, err := os.ReadDir(c.space.path(image.QuarantineDir))
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		path := filepath.Join(image.QuarantineDir, e.Name())
		item := Item{Area: Quarantine, Kind: KindQuarantine, ID: path, Path: c.space.path(path)}
		var m usage.Meter
		if err := m.Tree(ctx, item.Path); err != nil {
			return err
		}
		item.Bytes = m.Bytes
		if info, err := e.Info(); err == nil {
			item.Used = info.ModTime()
		}
		c.add(item)
	}
	return nil
}

func (c *Census) addTrees(ctx context.Context) error {
	sizes := c.space.openSizes(c.InUseSince)
	defer sizes.save()
	trees, err := c.space.trees(ctx, sizes)
	for _, i := range trees {
		if i.Kind == KindMount {
			i.Title = c.space.Cache.MountLabel(i.ID)
		}
		c.add(i)
	}
	return err
}

// hold connects blobs with their holders, and fills in what follows from both.
func (c *Census) hold() {
	for at := range c.Items {
		missing := c.holdBlobs(at)
		i := &c.Items[at]
		switch i.Kind {
		case KindRecord:
			i.Useless = i.Useless || missing
		case KindCompressed:
			i.Useless = missing || c.Blobs[i.of] == nil && !c.space.Images.Has(i.of)
		}
		if i.Pin == "" && !i.Used.Before(c.InUseSince) {
			i.Pin = PinInUse
		}
	}
	for _, b := range c.Blobs {
		b.Area = c.areaOf(b)
	}
}

// holdBlobs makes an item the holder of its blobs, and reports whether one of them is
// nowhere.
func (c *Census) holdBlobs(at int) (missing bool) {
	i := &c.Items[at]
	for _, d := range i.Blobs {
		b := c.Blobs[d]
		if b == nil {
			missing = missing || !c.space.Images.HasAnywhere(d)
			continue
		}
		b.holders = append(b.holders, at)
		if i.Used.Before(b.Used) && (i.image == nil || d == i.Blobs[0]) {
			i.Used = b.Used
		}
	}
	return missing
}

// areaOf gives a blob to what an image leads to before what the cache holds.
func (c *Census) areaOf(b *Blob) Area {
	area := Images
	for _, at := range b.holders {
		if c.Items[at].Area == Images {
			return Images
		}
		area = c.Items[at].Area
	}
	return area
}

// total measures everything, and gives what no item accounts for to Other.
func (c *Census) total(ctx context.Context) error {
	flat, err := c.space.flat(ctx)
	if err != nil {
		return err
	}
	rest := flat
	dirs := c.space.treeDirs()
	for _, b := range c.Blobs {
		rest -= b.Bytes
	}
	for _, i := range c.Items {
		if i.Path != "" && slices.Contains(dirs, filepath.Dir(c.space.rel(i.Path))) {
			c.Total += i.Bytes
		} else {
			rest -= i.Bytes
		}
	}
	c.Total += flat
	c.add(Item{Area: Other, Bytes: max(0, rest), Pin: PinInUse})
	return nil
}

// InUse reports whether a blob was used since the oldest running build began.
func (c *Census) InUse(b *Blob) bool { return !b.Used.Before(c.InUseSince) }

// Sizes gives what each area takes. What several share belongs to the first.
func (c *Census) Sizes() map[Area]int64 {
	sizes := make(map[Area]int64)
	for _, i := range c.Items {
		sizes[i.Area] += i.Bytes
	}
	for _, b := range c.Blobs {
		sizes[b.Area] += b.Bytes
	}
	return sizes
}

// Holders lists what holds a blob.
func (c *Census) Holders(d digest.Digest) []Item {
	b := c.Blobs[d]
	if b == nil {
		return nil
	}
	var list []Item
	for _, at := range b.holders {
		list = append(list, c.Items[at])
	}
	slices.SortStableFunc(list, func(x, y Item) int { return x.rank() - y.rank() })
	return list
}
