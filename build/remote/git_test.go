package remote

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ocibuild/ocibuild/parser"
)

func parseGit(t *testing.T, text string) *parser.Git {
	t.Helper()
	g, err := parser.ParseGit(text)
	if err != nil || g == nil {
		t.Fatalf("%s: %v, %v", text, g, err)
	}
	return g
}

func tree(t *testing.T, c *Client, text string) *Tree {
	t.Helper()
	tr, err := c.Git(context.Background(), parseGit(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func checkout(t *testing.T, c *Client, text string) string {
	t.Helper()
	dir, err := tree(t, c, text).Checkout(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func textOf(t *testing.T, file ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(file...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// history is a repository with a branch, tags and a directory.
type history struct {
	*repository
	first, second, feature, last string
}

func newHistory(t *testing.T, args ...string) history {
	h := history{repository: newRepository(t, args...)}
	h.first = h.commit("foo", "first", "sub/foo", "sub")
	h.git("tag", "v1")
	h.second = h.commit("foo", "second")
	h.git("tag", "-a", "-m", "annotated", "v2")
	h.git("checkout", "-q", "-b", "feature/x")
	h.feature = h.commit("foo", "feature")
	h.git("checkout", "-q", "main")
	h.last = h.commit("foo", "last")
	return h
}

func TestReferences(t *testing.T) {
	h := newHistory(t)
	url := smart(t, map[string]*repository{"r.git": h.repository}).URL + "/r.git"
	for _, c := range []struct{ source, want string }{
		{"", "last"},
		{"#main", "last"},
		{"#v1", "first"},
		{"#v2", "second"},
		{"#tags/v2", "second"},
		{"#refs/tags/v2", "second"},
		{"?tag=v1", "first"},
		{"#feature/x", "feature"},
		{"?branch=feature/x", "feature"},
		{"#refs/heads/feature/x", "feature"},
		{"#" + h.first, "first"},
		{"?commit=" + h.last, "last"},
		{"?commit=" + h.last[:8], "last"},
		{"?checksum=" + h.second + "#v2", "second"},
		{"?checksum=" + h.git("rev-parse", "v2") + "#v2", "second"},
		{"?ref=" + h.second + "&commit=" + h.second[:9], "second"},
		{"?fetch-by-commit&checksum=" + h.first, "first"},
		{"?fetch-by-commit&checksum=" + h.first + "#v1", "first"},
	} {
		t.Run(c.source, func(t *testing.T) {
			if got := textOf(t, checkout(t, newClient(t, Options{}), url+c.source), "foo"); got != c.want {
				t.Errorf("it is %q, want %q", got, c.want)
			}
		})
	}
}

// TestServers fetches by a branch, a tag, and commits that no name stands for, from
// other kinds of servers.
func TestServers(t *testing.T) {
	for name, serve := range map[string]func(t *testing.T, h history) string{
		"files": func(t *testing.T, h history) string {
			h.git("update-server-info")
			files := http.FileServer(http.Dir(filepath.Join(h.dir, ".git")))
			return serve(t, http.StripPrefix("/r.git", files).ServeHTTP).URL + "/r.git"
		},
		"names only": func(t *testing.T, h history) string {
			h.git("config", "uploadpack.allowAnySHA1InWant", "false")
			h.git("config", "protocol.version", "0")
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Git-Protocol") // version 2 lets everybody have everything
				backend(t, w, r, map[string]*repository{"r.git": h.repository})
			})
			return s.URL + "/r.git"
		},
		"sha256": func(t *testing.T, h history) string {
			return smart(t, map[string]*repository{"r.git": h.repository}).URL + "/r.git"
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t, "--object-format="+map[bool]string{true: "sha256", false: "sha1"}[name == "sha256"])
			url := serve(t, h)
			c := newClient(t, Options{})
			for _, step := range []struct{ source, want string }{
				{"", "last"}, {"#v2", "second"}, {"#" + h.first, "first"}, {"?fetch-by-commit&checksum=" + h.feature, "feature"},
			} {
				if got := textOf(t, checkout(t, c, url+step.source), "foo"); got != step.want {
					t.Errorf("%s: it is %q, want %q", step.source, got, step.want)
				}
			}
		})
	}
}

func TestWrongReferences(t *testing.T) {
	h := newHistory(t)
	url := smart(t, map[string]*repository{"r.git": h.repository}).URL + "/r.git"
	c := newClient(t, Options{})
	for source, want := range map[string]string{
		"#nope":                                 "repository does not contain ref nope",
		"?branch=v1":                            "repository does not contain ref refs/heads/v1",
		"?tag=main":                             "repository does not contain ref refs/tags/main",
		"#" + h.first[:8]:                       "repository does not contain ref",
		"?commit=" + h.first:                    "expected checksum to match " + h.first,
		"?commit=" + h.first[:8] + "#" + h.last: "expected checksum to match " + h.first[:8],
		"?checksum=foobar":                      "invalid checksum foobar for Git URL, expected hex commit hash",
		"?fetch-by-commit&checksum=" + h.first[:8]: "fetch-by-commit needs a checksum",
		"?fetch-by-commit#v1":                      "fetch-by-commit needs a checksum",
	} {
		_, err := c.Git(context.Background(), parseGit(t, url+source))
		var bad *MismatchError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
	missing := strings.Repeat("0", 39) + "1"
	for source, want := range map[string]string{
		"#:nope":      "has no directory nope",
		"#:foo":       "foo is not a directory",
		"#" + missing: "repository does not contain commit " + missing,
	} {
		_, err := tree(t, c, url+source).Checkout(context.Background(), nil)
		var bad *MismatchError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
	leftNothing(t, c)
}

// leftNothing checks that no work is left over.
func leftNothing(t *testing.T, c *Client) {
	t.Helper()
	for _, pattern := range []string{"work/*", "trees/*"} {
		if files, _ := filepath.Glob(filepath.Join(c.o.Dir, pattern)); len(files) != 0 {
			t.Errorf("left: %v", files)
		}
	}
}

func TestEmptyRepository(t *testing.T) {
	r := newRepository(t)
	url := smart(t, map[string]*repository{"r.git": r}).URL + "/r.git"
	if _, err := newClient(t, Options{}).Git(context.Background(), parseGit(t, url)); err == nil || !strings.Contains(err.Error(), "could not find default branch") {
		t.Errorf("error: %v", err)
	}
	r.git("commit", "-q", "--allow-empty", "-m", "empty")
	if got := list(t, checkout(t, newClient(t, Options{}), url)); len(got) != 1 {
		t.Errorf("files: %v", got)
	}
}

func TestNothingIsFetchedTwice(t *testing.T) {
	h := newHistory(t)
	s := smart(t, map[string]*repository{"r.git": h.repository})
	url := s.URL + "/r.git"
	c := newClient(t, Options{})
	dir := checkout(t, c, url+"#v1")
	count := func() (n int) {
		for _, r := range s.took() {
			if r.Method == http.MethodPost && !strings.Contains(r.URL.Path, "receive") {
				n++
			}
		}
		return n
	}
	first := count()

	c = again(t, c)
	if got := checkout(t, c, url+"#v1"); got != dir {
		t.Errorf("it is checked out again, in %s", got)
	}
	if n := count(); n == 0 || n >= first {
		t.Errorf("%d questions after %d", n, first) // one: what the tag stands for
	}
	if got := checkout(t, c, url+"#v1"); got != dir || count() != 0 {
		t.Error("one build asks twice")
	}
	checkout(t, again(t, c), url+"#"+h.first)
	if n := len(s.took()); n != 0 {
		t.Errorf("%d requests for a commit that is here", n)
	}
	other := tree(t, again(t, c), url+"#"+h.first+":sub")
	s.took()
	if _, err := other.Checkout(context.Background(), nil); err != nil || len(s.took()) != 0 {
		t.Errorf("the objects are fetched again for another directory of a commit: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	h := newHistory(t)
	s := smart(t, map[string]*repository{"r.git": h.repository})
	url, c := s.URL+"/r.git", newClient(t, Options{})
	same := func(a, b string) bool { return tree(t, c, url+a).Identity() == tree(t, c, url+b).Identity() }
	for _, pair := range [][2]string{{"#v1", "#" + h.first}, {"#v2", "#" + h.second}, {"", "#main"}, {"#v1", "?checksum=" + h.first[:7] + "#v1"}, {"#v1", "?mtime=checkout#v1"}, {"#v1", "?submodules#v1"}} {
		if !same(pair[0], pair[1]) {
			t.Errorf("%v are not the same", pair)
		}
	}
	for _, other := range []string{"#v2", "#v1:sub", "?keep-git-dir#v1", "?submodules=false#v1", "?mtime=commit#v1"} {
		if same("#v1", other) {
			t.Errorf("#v1 and %s are the same", other)
		}
	}
	if same("?keep-git-dir#v1", "?keep-git-dir#"+h.first) {
		t.Error("the name of what is kept does not matter")
	}
	if files, _ := filepath.Glob(filepath.Join(c.o.Dir, "*/*")); len(files) != 0 {
		t.Errorf("that takes %v", files)
	}
}

// TestMovedBranch lets a branch move between the question and the fetch.
func TestMovedBranch(t *testing.T) {
	h := newHistory(t)
	s := smart(t, map[string]*repository{"r.git": h.repository})
	c := newClient(t, Options{})
	tr := tree(t, c, s.URL+"/r.git")
	h.commit("foo", "moved")
	dir, err := tr.Checkout(context.Background(), nil)
	if err != nil || textOf(t, dir, "foo") != "last" {
		t.Errorf("%v", err)
	}
	if got := textOf(t, checkout(t, again(t, c), s.URL+"/r.git"), "foo"); got != "moved" {
		t.Errorf("the next build has %q", got)
	}
	h.git("branch", "-D", "feature/x")
	h.git("branch", "feature")
	if got := textOf(t, checkout(t, again(t, c), s.URL+"/r.git#feature"), "foo"); got != "moved" {
		t.Errorf("a branch in the place of a directory of branches has %q", got)
	}
	h.git("tag", "-f", "v1")
	if got := textOf(t, checkout(t, again(t, c), s.URL+"/r.git#v1"), "foo"); got != "moved" {
		t.Errorf("the tag that was moved has %q", got)
	}
}

// TestWhatAKillLeaves damages what is kept as a kill or a power failure may.
func TestWhatAKillLeaves(t *testing.T) {
	h := newHistory(t)
	url := smart(t, map[string]*repository{"r.git": h.repository}).URL + "/r.git"
	for name, damage := range map[string]func(repo string) error{
		"locks": func(repo string) error {
			var errs []error
			for _, p := range []string{"shallow.lock", "packed-refs.lock", "refs/ocibuild/" + h.second + ".lock", "objects/pack/tmp_pack_x", "config.lock"} {
				errs = append(errs, os.WriteFile(filepath.Join(repo, p), nil, 0o600))
			}
			return errors.Join(errs...)
		},
		"no HEAD": func(repo string) error { return os.Remove(filepath.Join(repo, "HEAD")) },
		"no objects": func(repo string) error {
			return errors.Join(os.RemoveAll(filepath.Join(repo, "objects")), os.MkdirAll(filepath.Join(repo, "objects"), 0o700))
		},
		"torn objects": func(repo string) error {
			files, err := filepath.Glob(filepath.Join(repo, "objects/*/*"))
			for _, f := range files {
				err = errors.Join(err, os.Chmod(f, 0o600), os.Truncate(f, 10))
			}
			return err
		},
	} {
		for _, next := range []string{"#v1:sub", "#v2"} {
			c := newClient(t, Options{})
			checkout(t, c, url+"#v1")
			repos, _ := filepath.Glob(filepath.Join(c.o.Dir, "repositories/*"))
			if len(repos) != 1 {
				t.Fatal(repos)
			}
			if err := damage(repos[0]); err != nil {
				t.Fatal(err)
			}
			if _, err := tree(t, again(t, c), url+next).Checkout(context.Background(), nil); err != nil {
				t.Errorf("%s, %s: %v", name, next, err)
			}
		}
	}
}

func TestGitCredentials(t *testing.T) {
	h := newHistory(t)
	repos := map[string]*repository{"r.git": h.repository}
	var want atomic.Value
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want.Load() {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend(t, w, r, repos)
	})
	host := strings.TrimPrefix(s.URL, "http://")
	url := s.URL + "/r.git"
	secret := func(pairs ...string) map[string][]byte {
		m := map[string][]byte{}
		for pair := range slices.Chunk(pairs, 2) {
			m[pair[0]] = []byte(pair[1])
		}
		return m
	}
	token := func(tok string) string { return basic("x-access-token", tok) }
	for _, c := range []struct {
		name, url, want string
		secrets         map[string][]byte
	}{
		{"token", url, token("hidden"), secret("GIT_AUTH_TOKEN", "hidden\n")},
		{"header", url, "Custom hidden", secret("GIT_AUTH_HEADER", "Custom hidden")},
		{"of the host", url, token("hidden"), secret("GIT_AUTH_TOKEN", "x", "GIT_AUTH_HEADER", "y", "GIT_AUTH_TOKEN."+host, "hidden")},
		{"in the URL", strings.Replace(url, "//", "//user:hidden@", 1), basic("user", "hidden"), nil},
	} {
		want.Store(c.want)
		client := newClient(t, Options{Secrets: c.secrets})
		dir := checkout(t, client, c.url+"?keep-git-dir")
		for _, root := range []string{client.o.Dir, filepath.Join(dir, ".git")} {
			for _, line := range list(t, root) {
				if strings.Contains(line, "hidden") || strings.Contains(line, strings.TrimPrefix(c.want, "basic ")) {
					t.Errorf("%s: kept: %s", c.name, line)
				}
			}
		}
	}
	want.Store(token("right"))
	for _, c := range []struct {
		url     string
		secrets map[string][]byte
	}{{url, nil}, {strings.Replace(url, "//", "//user:hidden@", 1), nil}, {url, secret("GIT_AUTH_TOKEN", "hidden")}} {
		var bad *Error
		_, err := newClient(t, Options{Secrets: c.secrets}).Git(context.Background(), parseGit(t, c.url))
		if !errors.As(err, &bad) || !strings.Contains(bad.Hint, "GIT_AUTH_TOKEN") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}
