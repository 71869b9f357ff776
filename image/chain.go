package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ChainIDs identifies each layer together with all below it, as the
// specification defines it.
func ChainIDs(diffIDs []digest.Digest) []digest.Digest {
	chains := slices.Clone(diffIDs)
	for i := 1; i < len(chains); i++ {
		chains[i] = digest.FromString(fmt.Sprintf("%s %s", chains[i-1], diffIDs[i]))
	}
	return chains
}

// ChainID identifies a stack of layers, at least one, the bottom first.
func ChainID(layers []Layer) digest.Digest {
	ids := make([]digest.Digest, len(layers))
	for i, l := range layers {
		ids[i] = l.DiffID
	}
	return ChainIDs(ids)[len(ids)-1]
}

// chainPrefix begins the names of directories with layers that were unpacked on top
// of those below them.
const chainPrefix = "chain-"

// Chain says of which layers a directory is that the last of them was unpacked into,
// on top of the others: it makes sense there alone. They are in order, the bottom first.
type Chain []digest.Digest

// ChainOf is the chain of layers.
func ChainOf(layers []Layer) Chain {
	ids := make(Chain, len(layers))
	for i, l := range layers {
		ids[i] = l.DiffID
	}
	return ids
}

// Name is what the directory is called.
func (c Chain) Name() string {
	ids := ChainIDs(c)
	return chainPrefix + ids[len(ids)-1].Encoded()
}

// String is the diff ids, one a line.
func (c Chain) String() string {
	var b strings.Builder
	for _, d := range c {
		b.WriteString(string(d) + "\n")
	}
	return b.String()
}

// ParseChain reads what String gave. It is an error if a directory of that name is not of
// this chain.
func ParseChain(name, text string) (Chain, error) {
	var c Chain
	for line := range strings.Lines(text) {
		c = append(c, digest.Digest(strings.TrimSpace(line)))
	}
	if len(c) == 0 || c.Name() != name {
		return nil, errors.New("it does not say of which layers it is")
	}
	return c, nil
}

// IsChain reports whether a directory is called as one of a chain.
func IsChain(name string) bool { return strings.HasPrefix(name, chainPrefix) }
