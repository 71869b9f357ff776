package space

import (
	"slices"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
)

// Kind is what an Item is.
type Kind string

// The kinds of items.
const (
	KindImage      Kind = "image"
	KindLayer      Kind = "layer"      // a layer that is kept on its own
	KindRecord     Kind = "record"     // what a step gave
	KindCompressed Kind = "compressed" // the compressed form of a layer
	KindTOC        Kind = "toc"        // a layer's table of contents
	KindFiles      Kind = "files"      // digests of a context's files
	KindFact       Kind = "fact"
	KindSource     Kind = "source" // what was fetched from a URL
	KindSnapshot   Kind = "snapshot"
	KindMount      Kind = "mount"
	KindUnfinished Kind = "unfinished"
	KindQuarantine Kind = "quarantine"
)

// Pin is why an item stays whatever a plan wants.
type Pin string

// The pins.
const (
	PinName    Pin = "it has a name" // or is kept on purpose without one
	PinInUse   Pin = "a running build may need it"
	PinMounted Pin = "it is mounted"
	PinAsked   Pin = "it was made just now"
)

// Item is something in the store that goes as a whole or stays.
type Item struct {
	Area Area
	Kind Kind
	// ID tells it from others of its kind: the id of an image, the key of a record,
	// the name of an unpacked layer.
	ID string
	// Title is what a person calls it; empty where the ID has to do.
	Title string
	// Bytes is what the item takes by itself, without the blobs that it holds.
	Bytes int64
	// Blobs are the blobs that stay for as long as the item does.
	Blobs []digest.Digest
	// Used is when it was last used: it, or one of the blobs that it holds.
	Used time.Time
	Pin  Pin
	// Path is the file or directory; empty for an image.
	Path string
	// Useless says that nothing can use the item: it is damaged, or what it speaks of
	// is gone.
	Useless bool

	image *image.Summary
	cache cache.Item
	// of is the layer that a compressed form is of: it does not outlive it.
	of digest.Digest
}

// Image is the image that the item is; nil for any other kind.
func (i *Item) Image() *image.Summary { return i.image }

// small says that the item is worth little room: what it holds is all that counts.
func (i *Item) small() bool { return i.Kind == KindRecord || i.Kind == KindFact || i.image != nil }

// rank puts images with names first, then the areas in their order.
func (i *Item) rank() int {
	if i.Pin == PinName {
		return -1
	}
	return slices.Index(Areas(), i.Area)
}

// Blob is a blob of the store with what holds it.
type Blob struct {
	image.StoredBlob
	// Area is that of the first item, in the order of areas, that holds it.
	Area    Area
	holders []int // places in Census.Items
}
