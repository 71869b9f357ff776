package remote

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keptRef is the reference that says that an object is here, with all that it needs.
func keptRef(object string) string { return "refs/ocibuild/" + object }

// fetch brings the commit into the repository, unless it is there.
func (t *Tree) fetch(ctx context.Context, repo string) error {
	if err := t.initRepository(ctx, repo); err != nil {
		return err
	}
	if t.has(ctx, repo, keptRef(t.head.object)) {
		return nil
	}
	if t.head.ref != "" && !t.git.FetchByCommit {
		err := t.fetchSpec(ctx, repo, "+"+t.head.ref+":"+keptRef(t.head.object))
		if err != nil {
			return err
		}
		if t.points(ctx, repo) {
			return nil
		}
		// It has moved on since we asked what it stands for.
		if _, err := t.c.run(ctx, local(repo, "update-ref", "-d", keptRef(t.head.object))); err != nil {
			return err
		}
	}
	return t.fetchObject(ctx, repo)
}

// initRepository makes the repository, or takes away what a git that was killed
// has left in it. Nobody else works in it.
func (t *Tree) initRepository(ctx context.Context, repo string) error {
	if _, err := os.Lstat(repo); err == nil {
		return unlockRepository(repo)
	}
	work, err := t.c.newWork()
	if err != nil {
		return err
	}
	defer work.end()
	fresh := filepath.Join(work.dir, "repository")
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if _, err := t.c.run(ctx, local(fresh, append([]string{"init", "-q", "--bare", "--template="}, t.format()...)...)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(repo), 0o700); err != nil {
		return err
	}
	return os.Rename(fresh, repo)
}

// unlockRepository removes locks and unfinished packs.
func unlockRepository(repo string) error {
	return filepath.WalkDir(repo, func(p string, d fs.DirEntry, err error) error {
		name := filepath.Base(p)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && len(name) == 2 && filepath.Base(filepath.Dir(p)) == "objects":
			return fs.SkipDir // loose objects
		case !d.IsDir() && (strings.HasSuffix(name, ".lock") || strings.HasPrefix(name, "tmp_")):
			return ignoreGone(os.Remove(p))
		}
		return nil
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (t *Tree) has(ctx context.Context, repo, name string) bool {
	_, err := t.c.run(ctx, local(repo, "rev-parse", "-q", "--verify", name))
	return err == nil
}

// points reports whether what was fetched by a reference's name is what it stood for.
func (t *Tree) points(ctx context.Context, repo string) bool {
	out, err := t.c.run(ctx, local(repo, "rev-parse", "-q", "--verify", keptRef(t.head.object)))
	return err == nil && strings.TrimSpace(out) == t.head.object
}

// fetchSpec fetches the last commit of a reference alone, if the server lets us.
func (t *Tree) fetchSpec(ctx context.Context, repo, spec string) error {
	args := []string{"fetch", "-q", "--no-tags", "--depth=1", "--", t.remote.url, spec}
	err := t.passing(ctx, t.remote.command(args...).in(repo))
	var bad *gitError
	if errors.As(err, &bad) && bad.says("depth", "shallow") {
		args = append(args[:3:3], args[4:]...)
		err = t.passing(ctx, t.remote.command(args...).in(repo))
	}
	return err
}

// fetchObject fetches by an object's name, and where the server gives nothing that
// way, everything.
func (t *Tree) fetchObject(ctx context.Context, repo string) error {
	object := t.head.object
	err := t.fetchSpec(ctx, repo, object+":"+keptRef(object))
	var bad *gitError
	if err == nil || !errors.As(err, &bad) || !bad.says("not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref") {
		return err
	}
	args := []string{"fetch", "-q", "--no-tags"}
	if _, err := os.Lstat(filepath.Join(repo, "shallow")); err == nil {
		args = append(args, "--unshallow")
	}
	args = append(args, "--", t.remote.url, "+refs/heads/*:refs/ocibuild/heads/*", "+refs/tags/*:refs/ocibuild/tags/*")
	if err := t.passing(ctx, t.remote.command(args...).in(repo)); err != nil {
		return err
	}
	if !t.has(ctx, repo, object+"^{commit}") {
		return t.mismatch("name a branch, a tag, or a commit that one of them leads to", "repository does not contain commit %s", object)
	}
	_, err = t.c.run(ctx, local(repo, "update-ref", keptRef(object), object))
	return err
}

// passing runs a git that talks to the server, again when that may help.
func (t *Tree) passing(ctx context.Context, r command) error {
	_, err := t.ask(ctx, r)
	return err
}

// ask is run with more than one attempt.
func (t *Tree) ask(ctx context.Context, r command) (out string, err error) {
	err = t.c.retry.attempts(ctx, func() (bool, error) {
		var bad *gitError
		if out, err = t.c.run(ctx, r); errors.As(err, &bad) && bad.passes() {
			return false, &passingError{err: err}
		}
		return false, err
	})
	return out, err
}

// passes reports whether git has failed for something that may be gone next time.
func (e *gitError) passes() bool {
	return e.says("returned error: 429", "returned error: 500", "returned error: 502", "returned error: 503", "returned error: 504",
		"early EOF", "RPC failed", "Connection reset", "Connection timed out", "unexpected disconnect", "Operation too slow",
		"Empty reply from server", "Temporary failure in name resolution")
}

// damage reports whether git has failed for what a repository of ours holds.
func (e *gitError) damage() bool {
	return e.local || e.says("corrupt", "bad object", "unable to read", "did not send all necessary objects", "not a git repository")
}

// failed makes an error of a git that has failed: it says which repository, and
// what can be done about it.
func (t *Tree) failed(err error) error {
	var bad *gitError
	if !errors.As(err, &bad) {
		return err
	}
	e := &Error{Source: t.remote.shown, Err: err}
	switch {
	case bad.says("could not read Username", "could not read Password", "Authentication failed", "returned error: 403", "returned error: 401"):
		e.Hint = "check the URL; a private repository needs a token: --secret id=GIT_AUTH_TOKEN,env=NAME"
	case bad.says("Permission denied (publickey", "Host key verification failed"):
		e.Hint = "the keys that --ssh gives are not let in, or the host is not the one that is known"
	case bad.says("not found", "does not appear to be a git repository", "No such file"):
		e.Hint = "check the URL: there is no git repository"
	}
	return e
}
