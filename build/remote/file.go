package remote

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

// File is what a URL gave. It can be read until the client is closed, also when
// what is kept is dropped meanwhile.
type File struct {
	io.ReaderAt
	Size int64
	// Digest is the SHA-256 of the content.
	Digest digest.Digest
	// ModTime is the time that the server gives for it, or zero.
	ModTime time.Time
}

// File fetches a URL, or finds that what was fetched before is still what the
// server has. If want is set, other content is a *MismatchError, and the server is
// not asked when content with that digest is here.
func (c *Client) File(ctx context.Context, source string, want digest.Digest, report Report) (*File, error) {
	u, err := parseURL(source)
	if err != nil {
		return nil, &Error{Source: Redact(source), Err: err}
	}
	return c.files.do(ctx, source+"\n"+string(want), func() (*File, error) {
		return c.fetch(ctx, &download{c: c, url: u, want: want, report: report})
	})
}

// parseURL reads the URL of a web server's file. Its error shows nothing of it.
func parseURL(source string) (*url.URL, error) {
	u, err := url.Parse(source)
	if err != nil {
		return nil, errors.New("invalid URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, errors.New("not the URL of a file")
	}
	return u, nil
}

// fetch gives what is kept of a URL when it is what the URL has now, and keeps
// that otherwise.
func (c *Client) fetch(ctx context.Context, d *download) (*File, error) {
	d.at = c.place(httpDir, identity(d.url))
	unlock, err := c.o.Locks.Lock(ctx, d.at.lock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if d.have = readEntry(d.at); d.have != nil && d.want != "" && d.check(d.have, d.have.content()) == nil {
		return c.open(d.have)
	}
	if err := os.MkdirAll(d.at.path, 0o700); err != nil {
		return nil, err
	}
	e, err := d.run(ctx)
	if err = errors.Join(err, d.at.sweep(e)); err != nil {
		_ = os.Remove(d.at.path) // fails while something is in it
		return nil, err
	}
	return c.open(e)
}

// identity is the URL as far as it says what is fetched.
func identity(u *url.URL) string {
	bare := *u
	bare.User, bare.Fragment, bare.RawFragment = nil, "", ""
	return bare.String()
}

// open opens what is kept.
func (c *Client) open(e *entry) (*File, error) {
	f, err := os.Open(e.content())
	if err != nil {
		return nil, err
	}
	e.at.use()
	c.keep(f)
	return &File{ReaderAt: f, Size: e.Size, Digest: e.Digest, ModTime: parseTime(e.LastModified)}, nil
}
