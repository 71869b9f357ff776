package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// webServer serves the files of a script, and notes what it is asked for.
type webServer struct {
	dir, log string

	mu  sync.Mutex
	cut map[string]bool // paths whose first answer has been broken off
}

// cmdWeb starts a web server on $WEB. It appends a line "METHOD PATH" for each
// request to web.log. The first part of a path says how the rest is served:
//
//	/          the file index
//	/plain/    with the time of the file
//	/etag/     with a version and no time
//	/bare/     with neither
//	/cut/      with a version; the first answer breaks off half-way
//	/slow/     never to its end
//	/auth/     to those who have the token hidden
//	/git/      as the git repository in that directory
//	/gitauth/  the same, to those who have the token hidden
func cmdWeb(ts *testscript.TestScript, neg bool, args []string) {
	w := &webServer{dir: ts.MkAbs(args[0]), log: ts.MkAbs("web.log"), cut: map[string]bool{}}
	s := httptest.NewServer(w)
	ts.Defer(s.Close)
	ts.Defer(s.CloseClientConnections)
	ts.Setenv("WEB", strings.TrimPrefix(s.URL, "http://"))
}

func (s *webServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	f, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err == nil {
		fmt.Fprintln(f, r.Method, r.URL.Path, r.Header.Get("Range"))
		f.Close()
	}
	s.mu.Unlock()
	how, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case how == "auth" && r.Header.Get("Authorization") != "Bearer hidden":
		w.WriteHeader(http.StatusForbidden)
	case how == "gitauth" && !tokened(r):
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
	case how == "git", how == "gitauth":
		s.git(w, r, how, name)
	default:
		s.file(w, r, how, name)
	}
}

func tokened(r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	return user == "x-access-token" && password == "hidden"
}

func (s *webServer) file(w http.ResponseWriter, r *http.Request, how, name string) {
	if name == "" {
		name = "index"
	}
	file := filepath.Join(s.dir, filepath.FromSlash(name))
	text, err := os.ReadFile(file)
	info, err2 := os.Stat(file)
	if err != nil || err2 != nil {
		http.NotFound(w, r)
		return
	}
	var stamp time.Time
	switch how {
	case "plain", "auth":
		stamp = info.ModTime()
	case "etag", "cut":
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, text))
	case "slow":
		w.Header().Set("Content-Length", fmt.Sprint(len(text)+1))
		_, _ = w.Write(text)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	s.mu.Lock()
	again := s.cut[name]
	s.cut[name] = true
	s.mu.Unlock()
	if how == "cut" && !again {
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		_, _ = w.Write(text[:len(text)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", stamp, bytes.NewReader(text))
}

// git serves DIR/NAME, a repository, as NAME.git.
func (s *webServer) git(w http.ResponseWriter, r *http.Request, how, name string) {
	git, err := exec.LookPath("git")
	repo, _, ok := strings.Cut(name, ".git/")
	if err != nil || !ok {
		http.NotFound(w, r)
		return
	}
	h := &cgi.Handler{
		Path: git, Args: []string{"-c", "safe.directory=*", "http-backend"}, Root: "/" + how + "/" + repo + ".git", Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(s.dir, repo, ".git"), "GIT_HTTP_EXPORT_ALL=1", "PATH=" + os.Getenv("PATH")},
	}
	if p := r.Header.Get("Git-Protocol"); p != "" {
		h.Env = append(h.Env, "GIT_PROTOCOL="+p)
	}
	h.ServeHTTP(w, r)
}

// cmdCommit commits all that is in a directory, which becomes a git repository,
// gives the commit a tag if one is named, and sets $COMMIT to it.
func cmdCommit(ts *testscript.TestScript, neg bool, args []string) {
	if _, err := exec.LookPath("git"); err != nil {
		skip(ts, "git is not installed")
	}
	dir := ts.MkAbs(args[0])
	git := func(args ...string) string {
		c := exec.Command("git", append([]string{"-c", "commit.gpgSign=false", "-c", "safe.directory=*"}, args...)...)
		c.Dir = dir
		c.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a",
			"GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
			"GIT_AUTHOR_DATE=1234567890 +0000", "GIT_COMMITTER_DATE=1234567890 +0000",
		}
		out, err := c.CombinedOutput()
		if err != nil {
			ts.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if _, err := os.Stat(filepath.Join(dir, ".git")); err != nil {
		git("init", "-q", "-b", "main")
		git("config", "uploadpack.allowAnySHA1InWant", "true")
	}
	git("add", "-A")
	git("commit", "-q", "-m", "c")
	if len(args) > 1 {
		git("tag", "-f", args[1])
	}
	ts.Setenv("COMMIT", git("rev-parse", "HEAD"))
}

// cmdSubmodule adds a repository to another: DIR PATH URL COMMIT.
func cmdSubmodule(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	f, err := os.OpenFile(filepath.Join(dir, ".gitmodules"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	ts.Check(err)
	_, err = fmt.Fprintf(f, "[submodule %q]\n\tpath = %s\n\turl = %s\n", args[1], args[1], args[2])
	ts.Check(err)
	ts.Check(f.Close())
	c := exec.Command("git", "-c", "safe.directory=*", "update-index", "--add", "--cacheinfo", "160000,"+args[3]+","+args[1])
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		ts.Fatalf("%v: %s", err, out)
	}
	ts.Check(os.Mkdir(filepath.Join(dir, args[1]), 0o755)) // else adding everything takes it out again
}
