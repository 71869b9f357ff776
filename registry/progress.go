package registry

import (
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The notes that say what happens to a blob or manifest. Any other note is a sentence for the user.
const (
	NoteWaiting = "waiting"
	NotePulling = "pulling"
	NotePushing = "pushing"
	NoteExists  = "exists"
	NoteMounted = "mounted"
)

// progressStep is how many bytes pass between two reports of a transfer.
const progressStep = 256 << 10

// Progress is one step of a transfer.
type Progress struct {
	Host, Repo string
	// Descriptor is what moves. It is empty for a note that is about the host.
	Descriptor ocispec.Descriptor
	// Offset of Total bytes have moved. An upload that is begun again goes back to 0.
	Offset, Total int64
	// Done says that the content has arrived, or was there.
	Done bool
	// Note is one of the Note constants, or a sentence for the user, such as that a pause was asked for.
	Note string
}

func (c *Client) report(p Progress) {
	if c.options.Progress == nil {
		return
	}
	c.progressMu.Lock()
	defer c.progressMu.Unlock()
	c.options.Progress(p)
}

// report tells of desc's state.
func (j job) report(desc ocispec.Descriptor, note string, offset int64, done bool) {
	j.c.report(Progress{
		Host: j.repo.Host, Repo: j.repo.Name, Descriptor: desc,
		Offset: offset, Total: desc.Size, Done: done, Note: note,
	})
}

// meter reports how far a reader has come.
type meter struct {
	r              io.Reader
	j              job
	desc           ocispec.Descriptor
	note           string
	offset, marked int64
}

// meterFrom reports how far a reader comes that begins at an offset.
func (j job) meterFrom(r io.Reader, desc ocispec.Descriptor, note string, offset int64) *meter {
	j.report(desc, note, offset, false)
	return &meter{r: r, j: j, desc: desc, note: note, offset: offset, marked: offset}
}

// Read reads on and reports every progressStep bytes.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.offset += int64(n)
	if m.offset-m.marked >= progressStep {
		m.marked = m.offset
		m.j.report(m.desc, m.note, m.offset, false)
	}
	return n, err
}
