package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// download brings what a URL has to its place.
type download struct {
	c      *Client
	url    *url.URL
	at     place
	have   *entry // what is there, or nil
	want   digest.Digest
	report Report

	part *os.File
	// tag is the version of which part has the first size bytes; empty if the
	// server knows no ranges, or no versions.
	tag  string
	size int64
	sum  digest.Digester // of these bytes
	told time.Time       // when somebody was last told
}

// run gives the entry for what the URL has now. When it fails, what was there
// before is there still.
func (d *download) run(ctx context.Context) (*entry, error) {
	var err error
	if d.part, err = os.CreateTemp(d.at.path, partPrefix+"*"); err != nil {
		return d.have, err
	}
	defer d.part.Close()
	var got *entry
	err = d.c.retry.attempts(ctx, func() (further bool, err error) {
		before := d.size
		got, err = d.attempt(ctx)
		return d.size > before, err
	})
	if err != nil {
		return d.have, err
	}
	file := d.part.Name()
	if got == d.have {
		file = got.content()
	}
	if err := d.check(got, file); err != nil || got == d.have {
		return d.have, err
	}
	return got, d.commit(got)
}

// attempt asks for the content, or for what is missing of it, and takes the answer.
func (d *download) attempt(ctx context.Context) (*entry, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := d.send(ctx)
	if err != nil {
		return nil, transportError(ctx, d.source(), err)
	}
	defer resp.Body.Close()
	switch {
	case d.unchanged(resp):
		return d.have, nil
	case resp.StatusCode == http.StatusPartialContent && d.continues(resp):
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusNonAuthoritativeInfo:
		if err := d.restart(resp); err != nil {
			return nil, err
		}
	case d.size > 0: // the server cannot continue after all
		if err := d.restart(resp); err != nil {
			return nil, err
		}
		return nil, &passingError{err: statusError(d.source(), resp)}
	default:
		return nil, statusError(d.source(), resp)
	}
	if err := d.copy(ctx, cancel, resp); err != nil {
		return nil, err
	}
	e := &entry{at: d.at, Size: d.size, Digest: d.sum.Digest(), ETag: resp.Header.Get("ETag")}
	if t := resp.Header.Get("Last-Modified"); !parseTime(t).IsZero() {
		e.LastModified = t
	}
	return e, nil
}

// send asks for the content unless it is what is kept, or from where it broke off.
func (d *download) send(ctx context.Context) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", d.c.o.UserAgent)
	d.c.authorize(req)
	switch {
	case d.tag != "" && d.size > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.size))
		req.Header.Set("If-Range", d.tag)
	case d.have == nil:
	case d.have.ETag != "":
		req.Header.Set("If-None-Match", d.have.ETag)
	case d.have.LastModified != "":
		req.Header.Set("If-Modified-Since", d.have.LastModified)
	}
	return d.c.http.Do(req)
}

// unchanged reports whether the server has what is kept. Some servers send that
// again although they were told of its version.
func (d *download) unchanged(resp *http.Response) bool {
	if d.have == nil {
		return false
	}
	tag := resp.Header.Get("ETag")
	return resp.StatusCode == http.StatusNotModified || resp.StatusCode == http.StatusOK && tag != "" && weak(tag) == weak(d.have.ETag)
}

// weak is a version without the mark of those that promise less.
func weak(tag string) string { return strings.TrimPrefix(tag, "W/") }

// continues reports whether an answer goes on where what has arrived ends.
func (d *download) continues(resp *http.Response) bool {
	from, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	from, _, _ = strings.Cut(from, "-")
	n, err := strconv.ParseInt(from, 10, 64)
	return ok && err == nil && n == d.size && d.size > 0
}

// restart begins anew with the answer, and notes whether it could be continued.
func (d *download) restart(resp *http.Response) error {
	d.size, d.tag, d.sum = 0, "", digest.SHA256.Digester()
	// What the transport has decompressed has other offsets than what it asks for.
	if tag := resp.Header.Get("ETag"); !resp.Uncompressed && tag == weak(tag) && resp.Header.Get("Accept-Ranges") != "none" {
		d.tag = tag
	}
	if _, err := d.part.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return d.part.Truncate(0)
}

// copy takes the body. A server that stops sending is given up by cancel.
func (d *download) copy(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response) error {
	total := d.size + resp.ContentLength
	if resp.ContentLength < 0 {
		total = 0
	}
	stalled := time.AfterFunc(d.c.stall, func() { cancel(errStalled) })
	defer stalled.Stop()
	buf := make([]byte, 128<<10)
	for {
		n, err := resp.Body.Read(buf)
		stalled.Reset(d.c.stall)
		if n > 0 {
			if err := d.write(buf[:n]); err != nil {
				return err
			}
			d.tell(total)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return transportError(ctx, d.source(), err)
		}
	}
}

func (d *download) write(data []byte) error {
	if _, err := d.part.Write(data); err != nil {
		return err
	}
	d.sum.Hash().Write(data)
	d.size += int64(len(data))
	return nil
}

// tellInterval is how often a download tells how far it is.
const tellInterval = 100 * time.Millisecond

func (d *download) tell(total int64) {
	if now := time.Now(); d.report != nil && now.Sub(d.told) >= tellInterval {
		d.told = now
		d.report("download "+d.source(), d.size, total)
	}
}

func (d *download) source() string { return Redact(d.url.String()) }

// check compares the content in a file with what is wanted.
func (d *download) check(e *entry, file string) error {
	if d.want == "" {
		return nil
	}
	got, err := e.sum(file, d.want.Algorithm())
	if err != nil || got == d.want {
		return err
	}
	return &MismatchError{
		Source: d.source(), Msg: fmt.Sprintf("its digest is %s and should be %s", got, d.want),
		Hint: "if the file was meant to change, so must the checksum",
	}
}

// commit makes what has arrived the content of its place.
func (d *download) commit(e *entry) error {
	if err := d.part.Sync(); err != nil {
		return err
	}
	if err := os.Rename(d.part.Name(), e.content()); err != nil {
		return err
	}
	return e.write()
}

// parseTime reads a time as HTTP has it; what is none is zero.
func parseTime(text string) time.Time {
	t, err := http.ParseTime(text)
	if err != nil {
		return time.Time{}
	}
	return t
}
