package remote

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/ocibuild/ocibuild/parser"
)

// Tree is the files of a commit.
type Tree struct {
	c      *Client
	git    parser.Git
	remote gitRemote
	head   head
}

// head is what a reference stands for.
type head struct {
	// ref is its full name; empty for a commit that is named by itself.
	ref string
	// object is a commit or an annotated tag, commit the commit if that is known.
	object, commit string
}

// Git finds out which commit g stands for. That takes one question to the server,
// and none if g names the commit itself. A commit that is not the wanted one is a
// *MismatchError.
func (c *Client) Git(ctx context.Context, g *parser.Git) (*Tree, error) {
	t := &Tree{c: c, git: *g}
	var err error
	if t.remote, err = c.gitRemote(g.Remote); err != nil {
		return nil, err
	}
	if g.Checksum != "" && !hexPattern().MatchString(g.Checksum) {
		return nil, t.mismatch("write the first digits of a commit's name, or all of them",
			"invalid checksum %s for Git URL, expected hex commit hash", g.Checksum)
	}
	if t.head, err = t.named(); err != nil {
		return nil, err
	}
	if t.head.object == "" {
		question := t.remote.url + "\n" + g.Ref
		if t.head, err = c.heads.do(ctx, question, func() (head, error) { return t.resolve(ctx) }); err != nil {
			return nil, err
		}
	}
	return t, t.verify()
}

var hexPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-fA-F0-9]+$`) })

// isObject reports whether a text is the whole name of an object.
func isObject(text string) bool {
	return (len(text) == 40 || len(text) == 64) && strings.Trim(text, "0123456789abcdef") == ""
}

// named gives the commit that the source itself names, if it does.
func (t *Tree) named() (head, error) {
	g := t.git
	switch {
	case isObject(g.Ref):
		return head{object: g.Ref, commit: g.Ref}, nil
	case !g.FetchByCommit:
		return head{}, nil
	case !isObject(g.Checksum):
		return head{}, t.mismatch("add &checksum= with all digits of the commit", "fetch-by-commit needs a checksum that is a whole commit, got %q", g.Checksum)
	}
	ref := g.Ref
	if ref != "" && !strings.HasPrefix(ref, "refs/") {
		ref = "refs/heads/" + ref
	}
	return head{ref: ref, object: g.Checksum, commit: g.Checksum}, nil
}

// verify compares the commit with the wanted one. Of an annotated tag either
// name will do.
func (t *Tree) verify() error {
	want, h := t.git.Checksum, t.head
	if strings.HasPrefix(h.object, want) || strings.HasPrefix(h.commit, want) {
		return nil
	}
	got := h.object
	if h.commit != h.object {
		got += " or " + h.commit
	}
	return t.mismatch("if the source was meant to change, so must the checksum", "expected checksum to match %s, got %s", want, got)
}

// mismatch is the error for a repository that has not what is wanted.
func (t *Tree) mismatch(hint, format string, args ...any) error {
	return &MismatchError{Source: t.remote.shown, Msg: printable(fmt.Sprintf(format, args...)), Hint: hint}
}

// resolve asks the repository what the reference stands for.
func (t *Tree) resolve(ctx context.Context) (head, error) {
	ref := t.git.Ref
	args := []string{"ls-remote", "--symref", "--", t.remote.url, "HEAD"}
	if ref != "" {
		args = []string{"ls-remote", "--", t.remote.url, ref, ref + "^{}"}
	}
	out, err := t.ask(ctx, t.remote.command(args...))
	if err != nil {
		return head{}, t.failed(err)
	}
	refs := map[string]string{}
	branch := ""
	for line := range strings.Lines(out) {
		object, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if target, ok := strings.CutPrefix(object, "ref: "); ok {
			branch = target
		} else {
			refs[name] = object
		}
	}
	if ref != "" {
		return t.choose(refs)
	}
	if object := refs["HEAD"]; isObject(object) && strings.HasPrefix(branch, "refs/heads/") {
		return head{ref: branch, object: object, commit: object}, nil
	}
	return head{}, t.mismatch("name a branch, a tag or a commit: "+t.remote.shown+"#REF", "could not find default branch for repository")
}

// choose finds the reference among those that the repository has named: its full
// name, a branch, a tag.
func (t *Tree) choose(refs map[string]string) (head, error) {
	ref := t.git.Ref
	for _, name := range []string{
		"refs/" + strings.TrimPrefix(ref, "refs/"),
		"refs/heads/" + strings.TrimPrefix(ref, "refs/heads/"),
		"refs/tags/" + strings.TrimPrefix(ref, "refs/tags/"),
	} {
		object := refs[name]
		if !isObject(object) {
			continue
		}
		h := head{ref: name, object: object, commit: object}
		if peeled := refs[name+"^{}"]; isObject(peeled) {
			h.commit = peeled
		}
		return h, nil
	}
	hint := "name a branch, a tag, or a commit by all its digits"
	return head{}, t.mismatch(hint, "repository does not contain ref %s", ref)
}

// identity tells what the files depend on: two trees with one identity are the same.
func (t *Tree) identity() []string {
	id := []string{"commit " + t.head.commit}
	if t.keepsGit() {
		id = []string{"object " + t.head.object, "ref " + t.head.ref, "origin " + t.remote.url}
	}
	if t.git.Subdir != "" {
		id = append(id, "subdir "+strconv.Quote(t.git.Subdir))
	}
	if !t.submodules() {
		id = append(id, "no submodules")
	}
	if t.git.MTime == parser.MTimeCommit {
		id = append(id, "mtime of the commit")
	}
	return id
}

// Identity names the tree: trees with one identity have the same files. It is
// known without fetching any of them.
func (t *Tree) Identity() string { return strings.Join(t.identity(), "\n") }

// keepsGit reports whether the tree has .git. As with BuildKit a subdirectory
// never has it.
func (t *Tree) keepsGit() bool {
	return t.git.KeepGitDir != nil && *t.git.KeepGitDir && t.git.Subdir == ""
}

func (t *Tree) submodules() bool { return t.git.Submodules == nil || *t.git.Submodules }

// gitRemote is a repository as the git command is told of it.
type gitRemote struct {
	// url has no password; what is shown of it has no user either.
	url, shown string
	// header is what a web server is sent as Authorization, and scope the URLs
	// that it is sent to; empty for none.
	header, scope string
	ssh           bool
}

func (c *Client) gitRemote(remote string) (gitRemote, error) {
	r := gitRemote{url: remote, shown: Redact(remote)}
	if !strings.Contains(remote, "://") {
		r.ssh = true
		return r, nil
	}
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" {
		return r, &Error{Source: r.shown, Err: fmt.Errorf("invalid URL")}
	}
	if u.Scheme == "ssh" {
		if u.User != nil {
			u.User = url.User(u.User.Username())
		}
		r.url, r.ssh = u.String(), true
		return r, nil
	}
	header := c.gitHeader(u)
	u.User = nil
	r.url = u.String()
	if header != "" && strings.HasPrefix(u.Scheme, "http") {
		r.header, r.scope = header, scopeOf(r.url)
	}
	return r, nil
}

// scopeOf is where a credential for a repository is good: submodules at GitHub
// are let in with it too.
func scopeOf(remote string) string {
	for _, site := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, site) {
			return site
		}
	}
	return remote
}
