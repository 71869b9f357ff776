package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxResumes is how often in a row a download is continued that does not get on.
	maxResumes = 5
	// gettingOn is how many bytes make a continued download count as getting on.
	gettingOn = 1 << 20
	// maxRestarts is how often a download is begun again at a registry that knows no ranges.
	maxRestarts = 3
)

// Blob opens a blob. Reading it to its end fails unless size and digest are right; where it breaks off, it is continued. The caller
// closes it.
func (c *Client) Blob(ctx context.Context, repo Repository, desc ocispec.Descriptor) (io.ReadCloser, error) {
	j, err := c.newJob("fetch blob", repo, desc.Digest.String())
	if err != nil {
		return nil, err
	}
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("fetch blob %q: %w", desc.Digest, err)
	}
	d := j.download(ctx, desc, 0, desc.Size)
	d.verify = desc.Digest.Verifier()
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// BlobExists reports whether the repository has the blob.
func (c *Client) BlobExists(ctx context.Context, repo Repository, d digest.Digest) (bool, error) {
	j, err := c.newJob("look up blob", repo, d.String())
	if err != nil {
		return false, err
	}
	return j.exists(ctx, "blobs", d)
}

// exists reports whether the repository has a blob ("blobs") or a manifest ("manifests").
func (j job) exists(ctx context.Context, kind string, d digest.Digest) (bool, error) {
	resp, err := j.send(ctx, call{
		method: http.MethodHead, path: j.name(kind, d.String()), header: http.Header{"Accept": {acceptManifest}},
		want: []int{http.StatusOK, http.StatusNotFound},
	})
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK, nil
}

// download is a blob, or a piece of it, on its way: a reader that continues where a connection broke. It verifies the digest if it has a
// verifier, else whoever reads does.
type download struct {
	ctx    context.Context // that of the call which opened it; io.Reader has no place for one
	j      job
	desc   ocispec.Descriptor
	verify digest.Verifier
	from   int64 // where it begins
	offset int64 // where in the blob it is
	end    int64 // where it ends
	// only takes nothing but the piece that was asked for: a server that sends the whole blob instead is refused.
	only bool
	// tag is the entity tag of the first answer, and where that came from. Pieces of different things are not put together.
	tag entity

	body   io.ReadCloser
	resp   *http.Response     // what body is of
	cancel context.CancelFunc // ends the request behind body

	resumes, restarts int
	broke             int64 // where it broke off last
	err               error // the end, once it is reached
}

// entity is what a server calls the content that it gave.
type entity struct{ host, tag string }

// download returns a download of the bytes from an offset to an end, which is to be opened.
func (j job) download(ctx context.Context, desc ocispec.Descriptor, from, end int64) *download {
	return &download{ctx: ctx, j: j, desc: desc, from: from, offset: from, broke: from, end: end}
}

func (d *download) open() error {
	if err := d.request(); err != nil {
		d.release()
		return err
	}
	return nil
}

// request asks for what is missing and leaves body at offset.
func (d *download) request() error {
	ctx, cancel := context.WithCancel(d.ctx)
	header := http.Header{"Accept-Encoding": {"identity"}}
	want := []int{http.StatusOK}
	if wanted := d.rangeHeader(); wanted != "" {
		header.Set("Range", wanted)
		want = append(want, http.StatusPartialContent)
	}
	resp, err := d.j.send(ctx, call{method: http.MethodGet, path: d.j.name("blobs", d.desc.Digest.String()), header: header, want: want})
	if err != nil {
		cancel()
		return d.named(err)
	}
	d.body, d.resp, d.cancel = resp.Body, resp, cancel
	if resp.StatusCode == http.StatusPartialContent {
		err := d.checkRange(resp)
		d.tag = entityOf(resp)
		return err
	}
	d.tag = entityOf(resp)
	if d.only {
		return d.ignored()
	}
	d.end = d.desc.Size
	if resp.ContentLength >= 0 && resp.ContentLength != d.desc.Size {
		return d.corrupt("it has %d bytes instead of %d", resp.ContentLength, d.desc.Size)
	}
	return d.skip()
}

// rangeHeader asks for what is missing; it is empty for the whole blob.
func (d *download) rangeHeader() string {
	switch {
	case d.end < d.desc.Size:
		return fmt.Sprintf("bytes=%d-%d", d.offset, d.end-1)
	case d.offset > 0:
		return fmt.Sprintf("bytes=%d-", d.offset)
	}
	return ""
}

// ignored is the error for a server that has given ranges and does no more. The next attempt asks for none.
func (d *download) ignored() error {
	d.j.c.noRanges.Store(d.j.repo.Host, true)
	return d.j.cutError(d.ctx, d.name(), errors.New("the registry ignores which range is asked for"))
}

// named adds the blob to an error of the registry's that speaks of an image.
func (d *download) named(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Reference != d.desc.Digest.String() {
		e.Message = strings.TrimSuffix(d.name()+": "+e.Message, ": ")
	}
	return err
}

// name says which blob, where the job does not.
func (d *download) name() string {
	if d.j.reference == d.desc.Digest.String() {
		return "the blob"
	}
	return "blob " + d.desc.Digest.String()
}

// checkRange verifies that a partial answer is the part that was asked for. One that ends early is continued.
func (d *download) checkRange(resp *http.Response) error {
	given := resp.Header.Get("Content-Range")
	start, end, total, ok := parseContentRange(given)
	if !ok || start != d.offset || end > d.end || total >= 0 && total != d.desc.Size {
		d.j.c.noRanges.Store(d.j.repo.Host, true)
		return d.corrupt("asked for the bytes from %d to %d of %d, the registry gives %q", d.offset, d.end, d.desc.Size, printable(given))
	}
	got := entityOf(resp)
	if d.tag.tag != "" && got.tag != "" && got.host == d.tag.host && got.tag != d.tag.tag {
		d.j.c.noRanges.Store(d.j.repo.Host, true)
		return d.corrupt("its pieces are not of one thing: the entity tags are %q and %q", printable(d.tag.tag), printable(got.tag))
	}
	return nil
}

// entityOf reads a strong entity tag; a weak one says nothing about bytes.
func entityOf(resp *http.Response) entity {
	tag := resp.Header.Get("ETag")
	if strings.HasPrefix(tag, "W/") {
		tag = ""
	}
	return entity{resp.Request.URL.Host, tag}
}

// parseContentRange reads "bytes 5-9/10" as 5, 10 and 10: end is the byte after the last. total is -1 when the server does not know it.
func parseContentRange(s string) (start, end, total int64, ok bool) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, 0, false
	}
	span, size, ok := strings.Cut(rest, "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, 0, false
	}
	start, err := strconv.ParseInt(first, 10, 64)
	final, err2 := strconv.ParseInt(last, 10, 64)
	if err != nil || err2 != nil || start < 0 || final < start || final == math.MaxInt64 {
		return 0, 0, 0, false
	}
	if size == "*" {
		return start, final + 1, -1, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return start, final + 1, total, err == nil && total > final
}

// skip passes over what was given before, when the registry sends all of it again.
func (d *download) skip() error {
	if d.offset == 0 {
		return nil
	}
	if d.restarts++; d.restarts > maxRestarts {
		return d.j.cutError(d.ctx, d.name(), errors.New("the registry cannot continue a download"))
	}
	for left := d.offset; left > 0; {
		n, err := io.CopyN(io.Discard, d.body, min(left, 64<<10))
		left -= n
		if err != nil && left > 0 {
			return d.j.cutError(d.ctx, d.name(), err)
		}
	}
	return nil
}

// Read gives the next bytes. It gives io.EOF only if all bytes were the right ones, as far as it verifies.
func (d *download) Read(p []byte) (int, error) {
	for d.err == nil {
		n, err := d.body.Read(p)
		if n > 0 {
			return d.take(p[:n])
		}
		if err == nil {
			return 0, nil
		}
		if d.offset == d.end {
			d.err = d.finish()
			break
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		d.err = d.resume(err)
	}
	return 0, d.err
}

// take counts and hashes bytes that came.
func (d *download) take(p []byte) (int, error) {
	if d.offset+int64(len(p)) > d.end {
		d.err = d.corrupt("it has more than the %d bytes it should have", d.desc.Size)
		return 0, d.err
	}
	d.offset += int64(len(p))
	if d.verify != nil {
		_, _ = d.verify.Write(p) // a hash takes everything
	}
	return len(p), nil
}

func (d *download) finish() error {
	if d.verify != nil && !d.verify.Verified() {
		return d.corrupt(otherDigest)
	}
	return io.EOF
}

const otherDigest = "its content has another digest"

// resume continues after the connection broke with err. Nil means that there is a body to read again.
func (d *download) resume(err error) error {
	d.j.c.distrust(d.resp)
	d.release()
	if d.ctx.Err() != nil {
		return d.j.transportError(d.ctx, err)
	}
	if d.offset-d.broke >= gettingOn {
		d.resumes = 0
	}
	d.broke = d.offset
	for ; d.resumes < maxResumes; d.resumes++ {
		what := fmt.Sprintf("%s broke off at %d of %d bytes", d.name(), d.offset, d.desc.Size)
		if err := d.j.c.retry.pause(d.ctx, dialHost(d.j.repo.Host), d.resumes, verdict{}, what); err != nil {
			return d.j.transportError(d.ctx, err)
		}
		err = d.request()
		var e *Error
		if err == nil || !errors.As(err, &e) || !e.cut {
			d.resumes++
			return err
		}
		if d.release(); d.restarts > maxRestarts {
			break
		}
	}
	var e *Error
	if !errors.As(err, &e) {
		err = d.j.cutError(d.ctx, d.name(), err)
	}
	if errors.As(err, &e) {
		e.cut = false // it was continued often enough
	}
	return err
}

// corrupt is the error for a blob that is not what its descriptor says.
func (d *download) corrupt(format string, args ...any) error {
	d.j.c.distrust(d.resp)
	e := d.j.errorf("the registry, or a proxy before it, alters or has damaged content",
		"%s: %s", d.name(), fmt.Sprintf(format, args...))
	e.corrupt = true
	return e
}

func (d *download) answer() *http.Response { return d.resp }

// release ends the request behind body.
func (d *download) release() {
	if d.body == nil {
		return
	}
	d.cancel()
	d.body.Close()
	d.body = nil
}

// Close ends the download.
func (d *download) Close() error {
	d.release()
	if d.err == nil {
		d.err = errors.New("read from a closed download")
	}
	return nil
}
