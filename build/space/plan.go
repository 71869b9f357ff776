package space

import (
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Options say what a prune removes. The zero value wants what nobody can miss:
// images without a name, blobs and records that are of no use, unpacked layers and downloads
// that were not used for UnusedAge, and what interrupted programs left.
type Options struct {
	// Areas chooses areas, of each everything but what is in use and, of images,
	// what has a name.
	Areas []Area
	// All wants names to go too, and without Areas everything.
	All bool
	// Until keeps what was used then or later; and of images what was made then or
	// later.
	Until time.Time
	// Labels wants images only, those for which all of them hold.
	Labels []Label
	// Limit, where it is set, lets go no more than makes the chosen areas (without
	// Areas: the whole store) take at most that many bytes: the least recently used.
	Limit *int64
	// Protect are the blobs of images that stay though no name leads to them.
	Protect []digest.Digest
}

// UnusedAge is how long an unpacked layer, or what was fetched from a URL, stays unused
// before a prune that was asked for nothing else drops it.
const UnusedAge = 7 * 24 * time.Hour

// Label is a filter for images.
type Label struct {
	Key, Value string
	HasValue   bool // the value counts too
	Not        bool // the image must not have it
}

// ParseLabel reads KEY or KEY=VALUE.
func ParseLabel(text string, not bool) Label {
	l := Label{Not: not}
	l.Key, l.Value, l.HasValue = strings.Cut(text, "=")
	return l
}

func (l Label) holds(labels map[string]string) bool {
	value, ok := labels[l.Key]
	return (ok && (!l.HasValue || value == l.Value)) != l.Not
}

// Plan is what of a census would go.
type Plan struct {
	Items []Item
	Blobs []Blob
	// Bytes is what would come back.
	Bytes int64

	census  *Census
	options Options
	drop    map[int]bool
}

// Plan chooses what goes.
func (c *Census) Plan(o Options) *Plan {
	p := &planner{
		Census: c, options: o, drop: make(map[int]bool), held: make(map[digest.Digest]int),
		gone: make(map[digest.Digest]bool), freed: make(map[Area]int64), asked: c.protected(o),
	}
	for d, b := range c.Blobs {
		p.held[d] = len(b.holders)
	}
	p.dropLoose()
	if o.Limit != nil {
		p.untilFits(*o.Limit)
	} else {
		for at := range c.Items {
			if p.wanted(at) {
				p.take(at)
			}
		}
	}
	return p.plan()
}

// planner carries the making of a plan.
type planner struct {
	*Census
	options Options
	drop    map[int]bool
	held    map[digest.Digest]int // how many items still hold a blob
	gone    map[digest.Digest]bool
	asked   map[int]bool // protected
	freed   map[Area]int64
	sizes   map[Area]int64 // for a limit
}

// protected finds the images that the options keep.
func (c *Census) protected(o Options) map[int]bool {
	found := make(map[int]bool)
	for at, i := range c.Items {
		found[at] = i.image != nil && slices.ContainsFunc(i.Blobs, func(d digest.Digest) bool { return slices.Contains(o.Protect, d) })
	}
	return found
}

// dropLoose takes the blobs that nothing holds.
func (p *planner) dropLoose() {
	if !p.options.sweeps() || len(p.options.Labels) > 0 {
		return
	}
	for d, b := range p.Blobs {
		if p.held[d] == 0 && p.old(b.Used) {
			p.release(b)
		}
	}
}

// sweeps reports whether blobs may go.
func (o Options) sweeps() bool {
	return len(o.Areas) == 0 || slices.Contains(o.Areas, Images) || slices.Contains(o.Areas, Cache)
}

func (p *planner) old(used time.Time) bool {
	return used.Before(p.InUseSince) && (p.options.Until.IsZero() || used.Before(p.options.Until))
}

// mayGo reports whether nothing but the choice of area can speak for an item.
func (p *planner) mayGo(at int) bool {
	i := &p.Items[at]
	switch {
	case p.asked[at], i.Area == Other, i.Pin != "" && (i.Pin != PinName || !p.options.All):
		return false
	}
	return p.old(i.Used) && p.matches(i)
}

// wanted reports whether the options let an item go.
func (p *planner) wanted(at int) bool {
	i := &p.Items[at]
	switch {
	case !p.mayGo(at):
		return false
	case i.Area == Unfinished, i.Useless:
		return p.options.cleans(i)
	case len(p.options.Areas) > 0 || len(p.options.Labels) > 0 || p.options.Limit != nil || p.options.All:
		return p.options.chooses(i.Area)
	case i.Kind == KindSnapshot, i.Kind == KindSource:
		return i.Used.Before(p.InUseSince.Add(-UnusedAge))
	}
	return i.Area == Images
}

// cleans reports whether what is unfinished or of no use goes with the areas.
func (o Options) cleans(i *Item) bool {
	area := Cache
	switch {
	case i.Area == Unfinished && below(i.ID, snapshotsDir):
		area = Snapshots
	case i.Area == Unfinished && below(i.ID, mountsDir):
		area = Mounts
	case i.Area == Unfinished && below(i.ID, RemoteDir):
	case i.Area == Unfinished:
		return o.sweeps()
	}
	return len(o.Areas) == 0 || slices.Contains(o.Areas, area)
}

// chooses reports whether an area was asked for.
func (o Options) chooses(a Area) bool {
	switch {
	case len(o.Labels) > 0:
		return a == Images
	case len(o.Areas) > 0:
		return slices.Contains(o.Areas, a)
	case a == Quarantine:
		return o.All
	}
	return o.All || o.Limit != nil && a != Other
}

// matches asks the filters that are about images.
func (p *planner) matches(i *Item) bool {
	if i.image == nil {
		return true
	}
	if made := i.image.Created(); made != nil && !p.options.Until.IsZero() && !made.Before(p.options.Until) {
		return false
	}
	main, _ := i.image.Main()
	for _, l := range p.options.Labels {
		if !l.holds(main.Labels()) {
			return false
		}
	}
	return true
}

// take lets an item go, and the blobs that nothing holds without it.
func (p *planner) take(at int) {
	if p.drop[at] {
		return
	}
	p.drop[at] = true
	p.freed[p.Items[at].Area] += p.Items[at].Bytes
	for _, d := range p.Items[at].Blobs {
		b := p.Blobs[d]
		if b == nil {
			continue
		}
		if p.held[d]--; p.held[d] == 0 && !p.InUse(b) {
			p.release(b)
		}
	}
}

// release lets a blob go, and its compressed forms with it.
func (p *planner) release(b *Blob) {
	if p.gone[b.Digest] {
		return
	}
	p.gone[b.Digest] = true
	p.freed[b.Area] += b.Bytes
	for _, at := range p.compressed()[b.Digest] {
		if p.mayGo(at) {
			p.take(at)
		}
	}
}

// compressed finds the compressed forms of layers.
func (c *Census) compressed() map[digest.Digest][]int {
	if c.formsOf == nil {
		c.formsOf = make(map[digest.Digest][]int)
		for at, i := range c.Items {
			if i.Kind == KindCompressed {
				c.formsOf[i.of] = append(c.formsOf[i.of], at)
			}
		}
	}
	return c.formsOf
}

func (p *planner) plan() *Plan {
	out := &Plan{census: p.Census, options: p.options, drop: p.drop}
	for _, n := range p.freed {
		out.Bytes += n
	}
	for at, i := range p.Items {
		if p.drop[at] {
			out.Items = append(out.Items, i)
		}
	}
	for d := range p.gone {
		out.Blobs = append(out.Blobs, *p.Blobs[d])
	}
	slices.SortFunc(out.Blobs, func(a, b Blob) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	return out
}
