package remote

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArguments looks at what other users of the machine can see of git.
func TestArguments(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\nif [ \"$1\" = version ]; then echo git version 2.50.0; exit; fi\necho \"$@\" >" + bin + "/args\nenv >" + bin + "/env\npwd >>" + bin + "/env\nexit 1\n"
	if err := os.WriteFile(filepath.Join(bin, "git"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("GIT_CONFIG_GLOBAL", "/mine")
	t.Setenv("GIT_DIR", "/mine")
	t.Setenv("GIT_TRACE", "1")
	c := newClient(t, Options{Secrets: map[string][]byte{"GIT_AUTH_TOKEN": []byte("hidden")}})
	if _, err := c.Git(context.Background(), parseGit(t, "https://user:hidden@example.com/x.git")); err == nil {
		t.Error("no error")
	}
	args, env := textOf(t, bin, "args"), textOf(t, bin, "env")
	if strings.Contains(args, "hidden") || strings.Contains(args, "user") || !strings.Contains(args, "https://example.com/x.git") {
		t.Errorf("arguments: %s", args)
	}
	if !strings.Contains(env, "GIT_CONFIG_KEY_0=http.https://example.com/x.git.extraHeader") || !strings.Contains(env, "GIT_TERMINAL_PROMPT=0") || strings.Contains(env, "mine") || strings.Contains(env, "TRACE") {
		t.Errorf("environment: %s", env)
	}
}

func TestOldGit(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "git"), []byte("#!/bin/sh\necho git version 2.30.2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Options{Env: func(string) (string, bool) { return bin, true }, Secrets: map[string][]byte{"GIT_AUTH_TOKEN": []byte("x")}})
	_, err := c.Git(context.Background(), parseGit(t, "https://example.com/x.git"))
	var old *GitMissingError
	if !errors.As(err, &old) || !strings.Contains(err.Error(), "2.30") {
		t.Errorf("error: %v", err)
	}
}

func TestNoGit(t *testing.T) {
	c := newClient(t, Options{Env: func(string) (string, bool) { return t.TempDir(), true }})
	_, err := c.Git(context.Background(), parseGit(t, "https://example.com/x.git"))
	var missing *GitMissingError
	if !errors.As(err, &missing) {
		t.Errorf("error: %v", err)
	}
}

func TestNoRepository(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	var bad *Error
	_, err := newClient(t, Options{}).Git(context.Background(), parseGit(t, strings.Replace(s.URL, "//", "//u:hidden@", 1)+"/x.git"))
	if !errors.As(err, &bad) || !strings.Contains(bad.Hint, "no git repository") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error: %v", err)
	}
}

// TestRepositoryAround checks that the settings of a repository that the store is
// in have no say.
func TestRepositoryAround(t *testing.T) {
	h := newHistory(t)
	url := smart(t, map[string]*repository{"r.git": h.repository}).URL + "/r.git"
	around := newRepository(t)
	around.git("config", "url.http://127.0.0.1:1/.insteadOf", strings.TrimSuffix(url, "r.git"))
	around.git("config", "core.sshCommand", "touch "+around.dir+"/ran")
	t.Chdir(around.dir)
	c := newClient(t, Options{Dir: filepath.Join(around.dir, "store")})
	if got := textOf(t, checkout(t, c, url+"?keep-git-dir#v1"), "foo"); got != "first" {
		t.Errorf("it is %q", got)
	}
}

func TestGitIsCalledOff(t *testing.T) {
	begun := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stop")
	go func() { <-begun; cancel(stop) }()
	if _, err := newClient(t, Options{}).Git(ctx, parseGit(t, s.URL+"/x.git")); !errors.Is(err, stop) {
		t.Errorf("error: %v", err)
	}
}

func TestGitTriesAgain(t *testing.T) {
	h := newHistory(t)
	n := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		backend(t, w, r, map[string]*repository{"r.git": h.repository})
	})
	tree(t, newClient(t, Options{}), s.URL+"/r.git")
}
