package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/build/space"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
)

// whyLine tells what holds a blob, and is what templates and JSON see.
type whyLine struct {
	Blob, Kind, Size string
	Bytes            int64
	Used             time.Time
	HeldBy           []string
	InUse            bool
}

// tellWhy tells what holds a blob, or each blob of an image.
func (c *dfCommand) tellWhy(ctx context.Context, s *session, census *space.Census) error {
	item, err := c.findImage(ctx, s, census)
	if err != nil {
		return err
	}
	var lines []whyLine
	if item != nil {
		for _, d := range item.Blobs {
			if l, ok := newWhyLine(census, d, item); ok {
				lines = append(lines, l)
			}
		}
	} else {
		d, err := c.findBlob(census)
		if err != nil {
			return err
		}
		l, _ := newWhyLine(census, d, nil)
		lines = append(lines, l)
	}
	headers := map[string]string{
		"Blob": "BLOB", "Kind": "KIND", "Size": "SIZE", "Bytes": "BYTES", "Used": "USED AT", "HeldBy": "HELD BY", "InUse": "IN USE",
	}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	if item == nil {
		return printBlobWhy(s, census, lines[0])
	}
	return printImageWhy(s, census, item, lines)
}

// findImage finds the image of the census that --why names; nil if it names none.
func (c *dfCommand) findImage(ctx context.Context, s *session, census *space.Census) (*space.Item, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	desc, err := st.Resolve(ctx, c.why)
	var bad *image.RefError
	switch {
	case errors.Is(err, image.ErrNotFound), errors.As(err, &bad):
		return nil, nil
	case err != nil:
		return nil, err
	}
	for at := range census.Items {
		if img := census.Items[at].Image(); img != nil && img.Descriptor.Digest == desc.Digest {
			return &census.Items[at], nil
		}
	}
	return nil, nil
}

// findBlob finds the one blob whose digest begins as --why says.
func (c *dfCommand) findBlob(census *space.Census) (digest.Digest, error) {
	list := census.FindBlobs(c.why)
	switch {
	case len(list) == 0 || strings.TrimPrefix(c.why, "sha256:") == "":
		return "", &storeError{
			msg:  "no such image or blob: " + sanitizeText(c.why),
			hint: "`ocibuild images -a` lists the images, `ocibuild inspect IMAGE` the blobs of one",
		}
	case len(list) > 1:
		slices.Sort(list)
		return "", &image.AmbiguousError{Name: c.why, Matches: list[:min(len(list), 8)]}
	}
	return list[0], nil
}

func newWhyLine(census *space.Census, d digest.Digest, of *space.Item) (whyLine, bool) {
	b := census.Blobs[d]
	if b == nil {
		return whyLine{}, false // it is to be fetched from elsewhere, or has gone
	}
	l := whyLine{Blob: d.String(), Size: humanSize(b.Bytes), Bytes: b.Bytes, Used: b.Used, InUse: census.InUse(b), HeldBy: []string{}}
	if of != nil {
		l.Kind = of.Image().Role(d)
	}
	for _, h := range census.Holders(d) {
		l.HeldBy = append(l.HeldBy, wordHolder(&h))
	}
	return l, true
}

// wordHolder words what holds a blob: "image app:v1", "the record of RUN make".
func wordHolder(h *space.Item) string {
	title := sanitizeLine(h.Title)
	switch h.Kind {
	case space.KindImage:
		switch n := len(h.Image().Refs); {
		case n == 2:
			return "image " + title + " and 1 more name"
		case n > 2:
			return fmt.Sprintf("image %s and %d more names", title, n-1)
		case n == 1:
			return "image " + title
		}
		return "the image without a name " + shortItem(h.ID)
	case space.KindLayer:
		return "the layer " + shortItem(h.ID) + ", which is kept"
	case space.KindRecord:
		return "the cache record of " + title
	case space.KindCompressed:
		return "the cache: it is a compressed form " + title
	}
	return string(h.Kind) + " " + h.ID
}

func printBlobWhy(s *session, census *space.Census, l whyLine) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s takes %s and was used %s.\n", l.Blob, l.Size, strings.ToLower(age(&l.Used, time.Now())))
	for _, h := range l.HeldBy {
		fmt.Fprintf(&b, "held by %s\n", h)
	}
	switch {
	case l.InUse && len(census.Leases) > 0:
		fmt.Fprintf(&b, "used since %s, so it stays for %s\n", census.Leases[0].Began.Local().Format(time.TimeOnly), wordLeases(census))
	case len(l.HeldBy) == 0:
		b.WriteString("nothing holds it: `ocibuild prune` deletes it\n")
	}
	_, err := fmt.Fprint(s.out, b.String())
	return err
}

func printImageWhy(s *session, census *space.Census, item *space.Item, lines []whyLine) error {
	own := wordHolder(item)
	rows := make([][]string, 0, len(lines))
	for _, l := range lines {
		others := slices.DeleteFunc(slices.Clone(l.HeldBy), func(h string) bool { return h == own })
		rows = append(rows, []string{shortHex(l.Blob), l.Kind, l.Size, strings.Join(others, "; ")})
	}
	if err := writeTable(s.out, []string{"BLOB", "KIND", "SIZE", "ALSO HELD BY"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s takes %s. Without it %s would come back.\n",
		own, humanSize(census.Size(item)), humanSize(census.Alone(item)))
	return err
}
