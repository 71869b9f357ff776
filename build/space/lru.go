package space

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// unit is what goes in one step when the least recently used has to: an item, or a
// blob with all that holds it.
type unit struct {
	used  time.Time
	items []int
}

// untilFits drops units, the least recently used first, until the chosen areas take
// no more than limit.
func (p *planner) untilFits(limit int64) {
	p.sizes = p.Sizes()
	for at := range p.Items {
		if i := &p.Items[at]; (i.Area == Unfinished || i.Useless) && p.wanted(at) {
			p.take(at)
		}
	}
	for _, units := range [][]unit{p.large(), p.rest()} {
		slices.SortFunc(units, func(a, b unit) int {
			return cmp.Or(a.used.Compare(b.used), slices.Compare(a.items, b.items))
		})
		for _, u := range units {
			if p.left() <= limit {
				return
			}
			for _, at := range u.items {
				p.take(at)
			}
		}
	}
}

// left is what the chosen areas take without what goes.
func (p *planner) left() int64 {
	left := int64(0)
	for area, size := range p.sizes {
		if len(p.options.Areas) == 0 || p.options.chooses(area) {
			left += size - p.freed[area]
		}
	}
	return left
}

// large lists the units that give room back.
func (p *planner) large() []unit {
	var list []unit
	for at := range p.Items {
		if i := &p.Items[at]; !i.small() && p.wanted(at) && !p.drop[at] {
			list = append(list, unit{i.Used, []int{at}})
		}
	}
	for d, b := range p.Blobs {
		if u, ok := p.blobUnit(d, b); ok {
			list = append(list, u)
		}
	}
	return list
}

// blobUnit is a blob with its holders, if all of them may go.
func (p *planner) blobUnit(d digest.Digest, b *Blob) (unit, bool) {
	u := unit{used: b.Used}
	if p.held[d] == 0 || p.InUse(b) {
		return u, false
	}
	for _, at := range b.holders {
		switch {
		case p.drop[at]:
			continue
		case !p.wanted(at):
			return u, false
		case p.Items[at].Used.After(u.used):
			u.used = p.Items[at].Used
		}
		u.items = append(u.items, at)
	}
	return u, true
}

// rest lists the others.
func (p *planner) rest() []unit {
	var list []unit
	for at := range p.Items {
		if p.Items[at].small() && p.wanted(at) && !p.drop[at] {
			list = append(list, unit{p.Items[at].Used, []int{at}})
		}
	}
	return list
}
