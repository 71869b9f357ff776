package remote

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestModes(t *testing.T) {
	r := newRepository(t)
	if err := os.Symlink("a/b", filepath.Join(r.dir, "link")); err != nil {
		t.Fatal(err)
	}
	r.commit("a/b", "b", "run", "run")
	r.git("update-index", "--chmod=+x", "run")
	r.git("commit", "-q", "-m", "mode")
	url := smart(t, map[string]*repository{"r.git": r}).URL + "/r.git"
	old := syscall.Umask(0o077)
	dir := checkout(t, newClient(t, Options{}), url)
	syscall.Umask(old)
	want := []string{". drwxr-xr-x", "a drwxr-xr-x", "a/b -rw-r--r-- b", "link -> a/b", "run -rwxr-xr-x run"}
	if got := list(t, dir); !slices.Equal(got, want) {
		t.Errorf("files: %q", got)
	}
}

func TestSubdirectory(t *testing.T) {
	h := newHistory(t)
	if err := os.Symlink("sub", filepath.Join(h.dir, "link")); err != nil {
		t.Fatal(err)
	}
	h.commit()
	url := smart(t, map[string]*repository{"r.git": h.repository}).URL + "/r.git"
	c := newClient(t, Options{})
	for _, source := range []string{"#:sub", "?subdir=/sub/../sub/", "?keep-git-dir#main:sub"} {
		if got := list(t, checkout(t, c, url+source)); !slices.Equal(got, []string{". drwxr-xr-x", "foo -rw-r--r-- sub"}) {
			t.Errorf("%s: %q", source, got)
		}
	}
	if _, err := tree(t, c, url+"#:link").Checkout(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a link is followed: %v", err)
	}
}

func TestKeepGitDir(t *testing.T) {
	h := newHistory(t)
	url := smart(t, map[string]*repository{"r.git": h.repository}).URL + "/r.git"
	c := newClient(t, Options{})
	for source, want := range map[string][2]string{
		"#v1":          {h.first, "refs/tags/v1"},
		"#v2":          {h.second, "refs/tags/v2"},
		"":             {h.last, "refs/heads/main"},
		"#" + h.second: {h.second, ""},
	} {
		g := parseGit(t, strings.Replace(url, "//", "//user:hidden@", 1)+source)
		on := true
		g.KeepGitDir = &on
		tr, err := c.Git(context.Background(), g)
		if err != nil {
			t.Fatal(err)
		}
		dir, err := tr.Checkout(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r := &repository{t, dir}
		if got := textOf(t, dir, ".git/HEAD"); got != want[0]+"\n" {
			t.Errorf("%s: HEAD is %q", source, got)
		}
		if got := r.git("for-each-ref", "--format=%(refname)"); got != want[1] {
			t.Errorf("%s: references: %q", source, got)
		}
		if got := r.git("status", "--porcelain"); got != "" {
			t.Errorf("%s: changed: %s", source, got)
		}
		if got := r.git("config", "remote.origin.url"); got != url {
			t.Errorf("%s: origin is %s", source, got)
		}
		if got := r.git("fsck", "--full"); got != "" {
			t.Errorf("%s: fsck: %s", source, got)
		}
		if got := r.git("rev-list", "--count", "HEAD"); got != "1" {
			t.Errorf("%s: %s commits", source, got)
		}
		for _, p := range []string{"FETCH_HEAD", "logs", "objects/info/alternates"} {
			if _, err := os.Lstat(filepath.Join(dir, ".git", p)); err == nil {
				t.Errorf("%s: it has .git/%s", source, p)
			}
		}
	}
	if _, err := os.Lstat(filepath.Join(checkout(t, c, url), ".git")); err == nil {
		t.Error("it is kept although nobody has asked for it")
	}
}

// submodule adds another repository at a path.
func (r *repository) submodule(path, url, commit string) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, ".gitmodules"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, "[submodule %q]\n\tpath = %s\n\turl = %s\n", path, path, url); err != nil {
		r.t.Fatal(err)
	}
	f.Close()
	r.git("add", ".gitmodules")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+commit+","+path)
	r.git("commit", "-q", "-m", "submodule")
}

func TestSubmodules(t *testing.T) {
	inner, middle, outer := newRepository(t), newRepository(t), newRepository(t)
	s := smart(t, map[string]*repository{"inner.git": inner, "middle.git": middle, "outer.git": outer})
	old := inner.commit("file", "inner")
	inner.commit("file", "newer")
	middle.commit("file", "middle")
	middle.submodule("in", "../inner.git", old)
	outer.commit("file", "outer")
	outer.submodule("mid", s.URL+"/middle.git", middle.git("rev-parse", "HEAD"))
	url := s.URL + "/outer.git"

	c := newClient(t, Options{})
	dir := checkout(t, c, url)
	got := slices.DeleteFunc(list(t, dir), func(l string) bool { return strings.Contains(l, ".gitmodules") })
	want := []string{". drwxr-xr-x", "file -rw-r--r-- outer", "mid drwxr-xr-x", "mid/file -rw-r--r-- middle", "mid/in drwxr-xr-x", "mid/in/file -rw-r--r-- inner"}
	if !slices.Equal(got, want) {
		t.Errorf("files: %q", got)
	}
	s.took()
	if again := checkout(t, again(t, c), url); again != dir || len(s.took()) > 2 {
		t.Error("it is fetched again")
	}

	dir = checkout(t, c, url+"?submodules=false")
	if _, err := os.Lstat(filepath.Join(dir, "mid/file")); err == nil {
		t.Error("submodules are fetched although they are not wanted")
	}

	dir = checkout(t, c, url+"?keep-git-dir")
	r := &repository{t, dir}
	if got := r.git("-c", "safe.directory=*", "status", "--porcelain"); got != "" {
		t.Errorf("changed: %s", got)
	}
	if got := textOf(t, dir, "mid/in/file"); got != "inner" {
		t.Errorf("the inner one has %q", got)
	}
}

// TestSubmoduleOfThisMachine checks that a repository cannot bring in another one
// that only this machine can see, or run a program.
func TestSubmoduleOfThisMachine(t *testing.T) {
	secret := newRepository(t)
	commit := secret.commit("file", "secret")
	for _, url := range []string{"file://" + secret.dir, secret.dir, "ext::sh -c touch%20ran"} {
		r := newRepository(t)
		r.commit("file", "x")
		r.submodule("sub", url, commit)
		s := smart(t, map[string]*repository{"r.git": r})
		c := newClient(t, Options{})
		dir, err := tree(t, c, s.URL+"/r.git").Checkout(context.Background(), nil)
		if err == nil {
			t.Errorf("%s: %q", url, list(t, dir))
		}
		leftNothing(t, c)
	}
}

func TestCommitTime(t *testing.T) {
	h := newHistory(t)
	url := smart(t, map[string]*repository{"r.git": h.repository}).URL + "/r.git"
	c := newClient(t, Options{})
	dir := checkout(t, c, url+"?mtime=commit#v2")
	for _, p := range []string{".", "foo", "sub", "sub/foo"} {
		info, err := os.Lstat(filepath.Join(dir, p))
		if err != nil || info.ModTime().Unix() != 1234567890 {
			t.Errorf("%s: %v, %v", p, info.ModTime(), err)
		}
	}
	info, err := os.Lstat(filepath.Join(checkout(t, c, url+"#v2"), "foo"))
	if err != nil || info.ModTime().Unix() == 1234567890 {
		t.Errorf("without being told to: %v, %v", info.ModTime(), err)
	}
}
