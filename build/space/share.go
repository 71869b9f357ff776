package space

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// Size is what an item and the blobs that it holds take.
func (c *Census) Size(i *Item) int64 {
	n := i.Bytes
	for _, d := range i.Blobs {
		if b := c.Blobs[d]; b != nil {
			n += b.Bytes
		}
	}
	return n
}

// Alone is how much of that nothing else holds: what would come back without the
// item.
func (c *Census) Alone(i *Item) int64 {
	n := i.Bytes
	for _, d := range i.Blobs {
		if b := c.Blobs[d]; b != nil && len(b.holders) == 1 {
			n += b.Bytes
		}
	}
	return n
}

// Reclaimable is what a prune of one area would free.
func (c *Census) Reclaimable(a Area) int64 {
	switch a {
	case Other:
		return 0
	case Unfinished:
		var n int64
		for _, i := range c.Plan(Options{}).Items {
			if i.Area == Unfinished {
				n += i.Bytes
			}
		}
		return n
	}
	return c.Plan(Options{Areas: []Area{a}}).of(a)
}

// of is how much of the plan's bytes is in an area.
func (p *Plan) of(a Area) int64 {
	var n int64
	for _, i := range p.Items {
		if i.Area == a {
			n += i.Bytes
		}
	}
	for _, b := range p.Blobs {
		if b.Area == a {
			n += b.Bytes
		}
	}
	return n
}

// FindBlobs lists the blobs whose digests begin with these digits, with or without
// the algorithm.
func (c *Census) FindBlobs(prefix string) []digest.Digest {
	var list []digest.Digest
	for d := range c.Blobs {
		if strings.HasPrefix(string(d), prefix) || strings.HasPrefix(d.Encoded(), prefix) {
			list = append(list, d)
		}
	}
	return list
}
