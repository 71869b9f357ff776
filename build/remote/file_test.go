package remote

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/registry/retry"

	"github.com/opencontainers/go-digest"
)

func read(t *testing.T, f *File) string {
	t.Helper()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size+1))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func fetch(t *testing.T, c *Client, url string, want digest.Digest) *File {
	t.Helper()
	f, err := c.File(context.Background(), url, want, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// bytesOut counts what a server sends as bodies.
func bytesOut(n *int, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { h(&counting{w, n}, r) }
}

type counting struct {
	http.ResponseWriter
	n *int
}

func (c *counting) Write(p []byte) (int, error) { *c.n += len(p); return c.ResponseWriter.Write(p) }

func TestFileIsFetchedOnce(t *testing.T) {
	stamp := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, headers := range map[string]map[string]string{
		"ETag":          {"ETag": `"v1"`},
		"weak ETag":     {"ETag": `W/"v1"`},
		"Last-Modified": {"Last-Modified": stamp.Format(http.TimeFormat)},
		"both":          {"ETag": `"v1"`, "Last-Modified": stamp.Format(http.TimeFormat)},
	} {
		t.Run(name, func(t *testing.T) {
			sent := 0
			s := serve(t, bytesOut(&sent, func(w http.ResponseWriter, r *http.Request) {
				for k, v := range headers {
					w.Header().Set(k, v)
				}
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader("content"))
			}))
			if headers["ETag"] == "" { // ServeContent compares times only if it is given one
				s.Config.Handler = bytesOut(&sent, func(w http.ResponseWriter, r *http.Request) {
					http.ServeContent(w, r, "", stamp, strings.NewReader("content"))
				})
			}
			c := newClient(t, Options{})
			f := fetch(t, c, s.URL+"/x", "")
			if got := read(t, f); got != "content" || f.Digest != digest.FromString("content") || f.Size != 7 {
				t.Errorf("it is %q, %v", got, f)
			}
			if want := headers["Last-Modified"] != ""; want != f.ModTime.Equal(stamp) {
				t.Errorf("its time is %v", f.ModTime)
			}
			if got := read(t, fetch(t, again(t, c), s.URL+"/x", "")); got != "content" {
				t.Errorf("the second time it is %q", got)
			}
			if sent != 7 {
				t.Errorf("%d bytes were sent", sent)
			}
		})
	}
}

func TestFileThatChangesIsFetchedAgain(t *testing.T) {
	version := "v1"
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+version+`"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("content of "+version))
	})
	c := newClient(t, Options{})
	old := fetch(t, c, s.URL, "")
	version = "v2"
	if got := read(t, fetch(t, c, s.URL, "")); got != "content of v1" {
		t.Errorf("within one build it becomes %q", got)
	}
	if got := read(t, fetch(t, again(t, c), s.URL, "")); got != "content of v2" {
		t.Errorf("it is %q", got)
	}
	if got := read(t, old); got != "content of v1" {
		t.Errorf("who reads the old one gets %q", got)
	}
	files, err := filepath.Glob(filepath.Join(c.o.Dir, "http/*/*"))
	if err != nil || len(files) != 2 {
		t.Errorf("kept: %v, %v", files, err)
	}
}

func TestFileWithoutVersionIsFetchedEachTime(t *testing.T) {
	n := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { n++; fmt.Fprint(w, n) })
	c := newClient(t, Options{})
	for want := range 3 {
		if got := read(t, fetch(t, again(t, c), s.URL, "")); got != fmt.Sprint(want+1) {
			t.Errorf("it is %q", got)
		}
	}
}

func TestServerThatIgnoresConditions(t *testing.T) {
	sent := 0
	s := serve(t, bytesOut(&sent, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", "1000000")
		w.WriteHeader(http.StatusOK)
		w.(*counting).ResponseWriter.(http.Flusher).Flush()
		if len(r.Header["If-None-Match"]) > 0 {
			<-r.Context().Done() // whoever waits for the body has not looked at the version
			return
		}
		_, _ = w.Write(make([]byte, 1000000))
	}))
	c := newClient(t, Options{})
	fetch(t, c, s.URL, "")
	fetch(t, again(t, c), s.URL, "")
	if sent != 1000000 {
		t.Errorf("%d bytes were sent", sent)
	}
}

func TestFileIsChecked(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "content") })
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		c := newClient(t, Options{})
		var bad *MismatchError
		_, err := c.File(context.Background(), s.URL, a.FromString("other"), nil)
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), string(a.FromString("content"))) {
			t.Errorf("%s: %v", a, err)
		}
		if files, _ := filepath.Glob(filepath.Join(c.o.Dir, "http/*/*")); len(files) != 0 {
			t.Errorf("%s: it leaves %v", a, files)
		}
		fetch(t, c, s.URL, a.FromString("content"))
		s.took()
		fetch(t, again(t, c), s.URL, a.FromString("content"))
		if n := len(s.took()); n != 0 {
			t.Errorf("%s: the server is asked for what is known to be here", a)
		}
		if _, err := again(t, c).File(context.Background(), s.URL, a.FromString("other"), nil); !errors.As(err, &bad) {
			t.Errorf("%s: what is here is taken for something else: %v", a, err)
		}
		if got := read(t, fetch(t, again(t, c), s.URL, "")); got != "content" {
			t.Errorf("%s: after that it is %q", a, got)
		}
	}
}

// cutter breaks each answer off after some bytes.
type cutter struct {
	text   string
	etag   string
	ranges bool
	piece  int
	asked  []string
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from := 0
	c.asked = append(c.asked, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
	if c.etag != "" {
		w.Header().Set("ETag", c.etag)
	}
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 && c.ranges && r.Header.Get("If-Range") == c.etag {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(c.text)-1, len(c.text)))
		w.Header().Set("Content-Length", fmt.Sprint(len(c.text)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		from = 0
		w.Header().Set("Content-Length", fmt.Sprint(len(c.text)))
	}
	end := min(len(c.text), from+c.piece)
	_, _ = io.WriteString(w, c.text[from:end])
	if end < len(c.text) {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestDownloadGoesOn(t *testing.T) {
	text := strings.Repeat("0123456789", 100)
	h := &cutter{text: text, etag: `"v1"`, ranges: true, piece: 100}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	if got := read(t, fetch(t, newClient(t, Options{}), s.URL, digest.FromString(text))); got != text {
		t.Errorf("it is %q", got)
	}
	if len(h.asked) != 10 || h.asked[1] != `bytes=100- "v1"` {
		t.Errorf("asked: %q", h.asked)
	}
}

func TestDownloadBeginsAnew(t *testing.T) {
	text := strings.Repeat("0123456789", 100)
	for name, h := range map[string]*cutter{
		"no ranges":    {etag: `"v1"`},
		"no version":   {ranges: true},
		"weak version": {etag: `W/"v1"`, ranges: true},
	} {
		h.text, h.piece = text, 100
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(h.asked) == 2 {
				h.piece = len(text)
			}
			h.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		if got := read(t, fetch(t, newClient(t, Options{}), s.URL, "")); got != text {
			t.Errorf("%s: it is %q", name, got)
		}
	}
}

func TestDownloadOfWhatChangesBetween(t *testing.T) {
	h := &cutter{text: strings.Repeat("a", 200), etag: `"v1"`, ranges: true, piece: 100}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(h.asked) == 1 {
			h.text, h.etag, h.piece = strings.Repeat("b", 200), `"v2"`, 200
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	if got := read(t, fetch(t, newClient(t, Options{}), s.URL, "")); got != h.text {
		t.Errorf("it is %q", got)
	}
}

func TestDownloadGivesUp(t *testing.T) {
	h := &cutter{text: strings.Repeat("a", 200), piece: 100}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c := newClient(t, Options{})
	var bad *Error
	if _, err := c.File(context.Background(), s.URL, "", nil); !errors.As(err, &bad) {
		t.Errorf("error: %v", err)
	}
	if len(h.asked) != retry.Most+1 {
		t.Errorf("it was asked %d times", len(h.asked))
	}
	if files, _ := filepath.Glob(filepath.Join(c.o.Dir, "http/*/*")); len(files) != 0 {
		t.Errorf("it leaves %v", files)
	}
}

func TestStatus(t *testing.T) {
	for status, attempts := range map[int]int{404: 1, 401: 1, 403: 1, 410: 1, 304: 1, 204: 1, 503: retry.Most + 1, 429: retry.Most + 1, 500: retry.Most + 1} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) })
		var bad *Error
		_, err := newClient(t, Options{}).File(context.Background(), s.URL+"/a?token=hidden", "", nil)
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), fmt.Sprint(status)) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%d: %v", status, err)
		}
		if n := len(s.took()); n != attempts {
			t.Errorf("%d: asked %d times", status, n)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	n := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; n == 1 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "content")
	})
	c := newClient(t, Options{})
	var paused time.Duration
	c.retry.sleep = func(_ context.Context, d time.Duration) error { paused += d; return nil }
	fetch(t, c, s.URL, "")
	if paused != 7*time.Second {
		t.Errorf("it paused %v", paused)
	}
}

func TestServerThatStops(t *testing.T) {
	n := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; n > 1 {
			fmt.Fprint(w, "content")
			return
		}
		w.Header().Set("Content-Length", "7")
		_, _ = io.WriteString(w, "con")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	c := newClient(t, Options{})
	c.stall = 50 * time.Millisecond
	if got := read(t, fetch(t, c, s.URL, "")); got != "content" || n != 2 {
		t.Errorf("it is %q after %d answers", got, n)
	}
}

func TestFileIsCalledOff(t *testing.T) {
	begun := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "7")
		_, _ = io.WriteString(w, "con")
		w.(http.Flusher).Flush()
		close(begun)
		<-r.Context().Done()
	})
	c := newClient(t, Options{})
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stop")
	go func() { <-begun; cancel(stop) }()
	if _, err := c.File(ctx, s.URL, "", nil); !errors.Is(err, stop) {
		t.Errorf("error: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(c.o.Dir, "http/*/*")); len(files) != 0 {
		t.Errorf("it leaves %v", files)
	}
}

func TestCompressedAnswer(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, "content")
	_ = z.Close()
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	})
	if got := read(t, fetch(t, newClient(t, Options{}), s.URL, "")); got != "content" {
		t.Errorf("it is %q", got)
	}
}

func TestReportsProgress(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "content") })
	var told []string
	_, err := newClient(t, Options{}).File(context.Background(), strings.Replace(s.URL, "//", "//u:p@", 1), "", func(text string, done, total int64) {
		told = append(told, fmt.Sprintf("%s %d %d", text, done, total))
	})
	if want := "download " + s.URL + " 7 7"; err != nil || len(told) != 1 || told[0] != want {
		t.Errorf("told %q, want %q, %v", told, want, err)
	}
}

func TestWebCredentials(t *testing.T) {
	got := ""
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		if r.URL.Path == "/away" {
			http.Redirect(w, r, strings.Replace("http://"+r.Host+"/x", "127.0.0.1", "localhost", 1), http.StatusFound)
		}
	})
	header := map[string][]byte{"HTTP_AUTH_HEADER_127.0.0.1": []byte("Custom secret\n")}
	for _, c := range []struct {
		name, url, want string
		secrets         map[string][]byte
	}{
		{"none", s.URL, "", nil},
		{"header", s.URL, "Custom secret", header},
		{"token", s.URL, "Bearer token", map[string][]byte{"HTTP_AUTH_HEADER_127.0.0.1": []byte("x"), "HTTP_AUTH_TOKEN_127.0.0.1": []byte("token")}},
		{"of another host", s.URL, "", map[string][]byte{"HTTP_AUTH_TOKEN_example.com": []byte("token")}},
		{"in the URL", strings.Replace(s.URL, "//", "//u:p@", 1), "Basic dTpw", nil},
		{"not to another host", s.URL + "/away", "", header},
	} {
		fetch(t, newClient(t, Options{Secrets: c.secrets}), c.url, "")
		if got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// TestNoSecrets looks for credentials in errors, and in everything that is kept.
func TestNoSecrets(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v"`)
		fmt.Fprint(w, "content")
	})
	c := newClient(t, Options{Secrets: map[string][]byte{"HTTP_AUTH_TOKEN_127.0.0.1": []byte("hidden")}})
	fetch(t, c, strings.Replace(s.URL, "//", "//hidden:hidden@", 1)+"/x?sig=hidden", "")
	for _, line := range list(t, c.o.Dir) {
		if strings.Contains(line, "hidden") {
			t.Errorf("kept: %s", line)
		}
	}
	for _, url := range []string{
		"http://hidden:hidden@127.0.0.1:1/x?sig=hidden", "http://hidden:hid/den@host/x", "http://hidden:hidden@:1", "ftp://hidden@host",
		"http://u:hidden@ho st/", "http://hidden:hidden@127.0.0.1:1/%zz",
	} {
		_, err := c.File(context.Background(), url, "", nil)
		if err == nil || strings.Contains(err.Error(), "hid") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestDamagedEntryIsFetchedAgain(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("content"))
	})
	for name, damage := range map[string]func(dir string) error{
		"no content": func(dir string) error { return os.Remove(filepath.Join(dir, digest.FromString("content").Encoded())) },
		"short content": func(dir string) error {
			return os.Truncate(filepath.Join(dir, digest.FromString("content").Encoded()), 3)
		},
		"no JSON": func(dir string) error { return os.WriteFile(filepath.Join(dir, "info"), []byte("{"), 0o600) },
		"other version": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "info"), []byte(`{"version":9}`), 0o600)
		},
		"leads out": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "info"), []byte(`{"version":1,"digest":"sha256:../../x"}`), 0o600)
		},
		"left part": func(dir string) error { return os.WriteFile(filepath.Join(dir, "part-1"), []byte("x"), 0o600) },
	} {
		c := newClient(t, Options{})
		fetch(t, c, s.URL, "")
		dirs, err := filepath.Glob(filepath.Join(c.o.Dir, "http/*"))
		if err != nil || len(dirs) != 1 {
			t.Fatal(dirs, err)
		}
		if err := damage(dirs[0]); err != nil {
			t.Fatal(err)
		}
		if got := read(t, fetch(t, again(t, c), s.URL, "")); got != "content" {
			t.Errorf("%s: it is %q", name, got)
		}
		if files, _ := filepath.Glob(dirs[0] + "/*"); len(files) != 2 {
			t.Errorf("%s: left %v", name, files)
		}
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:p@host:1/a/b?q=1":  "https://host:1/a/b",
		"https://token@host/a.git#v1": "https://host/a.git#v1",
		"ssh://git:p@host/a":          "ssh://git@host/a",
		"git@host:a/b?ref=x":          "git@host:a/b",
		"http://u:p/w@host/a":         "http://...",
		"http://h/\x1b[31m":           "http://...",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
