package remote

import (
	"context"
	"io"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/registry/retry"
)

// locks are those of one process.
type locks struct {
	mu   sync.Mutex
	held map[string]bool
}

func (l *locks) Lock(ctx context.Context, name string) (func(), error) {
	for {
		if unlock, _ := l.TryLock(name, false); unlock != nil {
			return unlock, nil
		}
		if err := retry.Sleep(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (l *locks) TryLock(name string, _ bool) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[name] {
		return nil, nil
	}
	if l.held == nil {
		l.held = map[string]bool{}
	}
	l.held[name] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, name)
	}, nil
}

// newClient makes a client that keeps things in dir, and never really pauses.
func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "remote")
	}
	if o.Locks == nil {
		o.Locks = &locks{}
	}
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	c := New(o)
	c.retry = retrier{sleep: func(ctx context.Context, d time.Duration) error { return ctx.Err() }, random: func() float64 { return 0 }}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// again is another client over what a client has kept, as the next build has it.
func again(t *testing.T, c *Client) *Client {
	t.Helper()
	o := c.o
	return newClient(t, o)
}

// server counts what it is asked.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

func serve(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		s.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// took gives the requests since it was last called.
func (s *server) took() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests
	s.requests = nil
	return r
}

// repository is a git repository of a test.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T, args ...string) *repository {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	r := &repository{t, filepath.Join(t.TempDir(), "repo")}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.git(append([]string{"init", "-q", "-b", "main"}, args...)...)
	r.git("config", "uploadpack.allowAnySHA1InWant", "true")
	return r
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "protocol.file.allow=always", "-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false"}, args...)...)
	cmd.Dir = r.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_AUTHOR_DATE=1234567890 +0000", "GIT_COMMITTER_DATE=1234567890 +0000",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files, name and text in turn, and gives the commit with them.
func (r *repository) commit(files ...string) string {
	r.t.Helper()
	for pair := range slices.Chunk(files, 2) {
		p := filepath.Join(r.dir, pair[0])
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(pair[1]), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "c")
	return r.git("rev-parse", "HEAD")
}

// smart serves repositories as git's own server does; the first part of the path
// names one.
func smart(t *testing.T, repos map[string]*repository) *server {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, req *http.Request) { backend(t, w, req, repos) })
}

func backend(t *testing.T, w http.ResponseWriter, req *http.Request, repos map[string]*repository) {
	name, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	r, ok := repos[name]
	if !ok {
		http.NotFound(w, req)
		return
	}
	git, err := exec.LookPath("git")
	if err != nil {
		t.Error(err)
		return
	}
	h := &cgi.Handler{
		Path: git, Args: []string{"-c", "safe.directory=*", "http-backend"}, Root: "/" + name,
		Stderr: io.Discard,
		Env:    []string{"GIT_PROJECT_ROOT=" + filepath.Join(r.dir, ".git"), "GIT_HTTP_EXPORT_ALL=1", "PATH=" + os.Getenv("PATH")},
	}
	if p := req.Header.Get("Git-Protocol"); p != "" {
		h.Env = append(h.Env, "GIT_PROTOCOL="+p)
	}
	h.ServeHTTP(w, req)
}

// list gives the files below a directory with their modes and what is in them.
func list(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.Name() == ".git":
			out = append(out, rel)
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			out = append(out, rel+" -> "+to)
		case d.IsDir():
			out = append(out, rel+" "+info.Mode().String())
		default:
			text, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out = append(out, rel+" "+info.Mode().String()+" "+strings.TrimSpace(string(text)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
