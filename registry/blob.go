package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

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
	d, err := j.download(ctx, desc)
	if err != nil {
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

// download is a blob on its way: a reader that verifies what it gives, and continues where a connection broke.
type download struct {
	ctx    context.Context // that of the call which opened it; io.Reader has no place for one
	j      job
	desc   ocispec.Descriptor
	verify digest.Verifier
	offset int64 // bytes given

	body   io.ReadCloser
	resp   *http.Response     // what body is of
	cancel context.CancelFunc // ends the request behind body
	dog    *time.Timer        // does so when no byte comes

	resumes, restarts int
	broke             int64 // where it broke off last
	err               error // the end, once it is reached
}

func (j job) download(ctx context.Context, desc ocispec.Descriptor) (*download, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("fetch blob %q: %w", desc.Digest, err)
	}
	d := &download{ctx: ctx, j: j, desc: desc, verify: desc.Digest.Verifier()}
	if err := d.request(); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// request asks for what is missing and leaves body at offset.
func (d *download) request() error {
	ctx, cancel := context.WithCancel(d.ctx)
	header := http.Header{"Accept-Encoding": {"identity"}}
	want := []int{http.StatusOK}
	if d.offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", d.offset))
		want = append(want, http.StatusPartialContent)
	}
	resp, err := d.j.send(ctx, call{method: http.MethodGet, path: d.j.name("blobs", d.desc.Digest.String()), header: header, want: want})
	if err != nil {
		cancel()
		return d.named(err)
	}
	d.body, d.resp, d.cancel = resp.Body, resp, cancel
	d.dog = time.AfterFunc(d.j.c.stall, cancel)
	d.dog.Stop()
	if resp.StatusCode == http.StatusPartialContent {
		return d.checkRange(resp)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != d.desc.Size {
		return d.corrupt("it has %d bytes instead of %d", resp.ContentLength, d.desc.Size)
	}
	return d.skip()
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

// checkRange verifies that a partial answer is the part that was asked for.
func (d *download) checkRange(resp *http.Response) error {
	start, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
	if !ok || start != d.offset || total >= 0 && total != d.desc.Size {
		return d.corrupt("asked for the bytes from %d of %d, the registry gives %q", d.offset, d.desc.Size, printable(resp.Header.Get("Content-Range")))
	}
	return nil
}

// parseContentRange reads "bytes 5-9/10". total is -1 when the server does not know it.
func parseContentRange(s string) (start, total int64, ok bool) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, size, ok := strings.Cut(rest, "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, false
	}
	start, err := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if err != nil || err2 != nil || start < 0 || end < start {
		return 0, 0, false
	}
	if size == "*" {
		return start, -1, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return start, total, err == nil && total > end
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
		n, err := d.readBody(make([]byte, min(left, 64<<10)))
		left -= int64(n)
		if err != nil && left > 0 {
			return d.j.cutError(d.ctx, d.name(), err)
		}
	}
	return nil
}

// readBody reads from the connection, guarded against one that has gone silent.
func (d *download) readBody(p []byte) (int, error) {
	d.dog.Reset(d.j.c.stall)
	n, err := d.body.Read(p)
	if !d.dog.Stop() && err != nil && d.ctx.Err() == nil {
		err = fmt.Errorf("no byte in %s: %w", d.j.c.stall, io.ErrUnexpectedEOF)
	}
	return n, err
}

// Read gives the next bytes. It gives io.EOF only if all bytes were the right ones.
func (d *download) Read(p []byte) (int, error) {
	for d.err == nil {
		n, err := d.readBody(p)
		if n > 0 {
			return d.take(p[:n])
		}
		if err == nil {
			return 0, nil
		}
		if d.offset == d.desc.Size {
			d.err = d.end()
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
	if d.offset+int64(len(p)) > d.desc.Size {
		d.err = d.corrupt("it has more than the %d bytes it should have", d.desc.Size)
		return 0, d.err
	}
	d.offset += int64(len(p))
	_, _ = d.verify.Write(p) // a hash takes everything
	return len(p), nil
}

func (d *download) end() error {
	if !d.verify.Verified() {
		return d.corrupt("its content has another digest")
	}
	return io.EOF
}

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
	err = d.j.cutError(d.ctx, d.name(), err)
	var e *Error
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

// release ends the request behind body.
func (d *download) release() {
	if d.body == nil {
		return
	}
	d.dog.Stop()
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
