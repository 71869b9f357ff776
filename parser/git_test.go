package parser

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseGit(t *testing.T) {
	const repo = "https://example.com/foo/bar.git"
	for _, c := range []struct {
		text string
		want *Git // nil: no repository
	}{
		{"https://example.com/", nil},
		{"https://example.com/foo", nil},
		{"https://example.com/foo.git/", nil},
		{"https://example.com/foo.git.bar", nil},
		{"http://example.com/docker.git:#branch", nil},
		{"https://example.com/%zz.git", nil},
		{"ftp://example.com/foo.git", nil},
		{"file:///foo.git", nil},
		{"custom.xyz/foo/bar.git", nil},
		{"github.com/foo/bar", nil},
		{"./git@host:x", nil},
		{"../x.git", nil},
		{".git", nil},
		{"a@b", nil},
		{repo, &Git{Remote: repo}},
		{"HTTPS://example.com/foo/bar.git", &Git{Remote: repo}},
		{repo + "#", &Git{Remote: repo}},
		{repo + "#release/1.2", &Git{Remote: repo, Ref: "release/1.2"}},
		{repo + "#baz/qux:quux/quuz", &Git{Remote: repo, Ref: "baz/qux", Subdir: "quux/quuz"}},
		{repo + "#:/a/../b/", &Git{Remote: repo, Subdir: "b"}},
		{repo + "#v1:../../etc", &Git{Remote: repo, Ref: "v1", Subdir: "etc"}},
		{"https://foo:bar@example.com/foo/bar.git", &Git{Remote: "https://foo:bar@example.com/foo/bar.git"}},
		{"http://127.0.0.1:80/.git#v1", &Git{Remote: "http://127.0.0.1:80/.git", Ref: "v1"}},
		{"git://example.com/foo", &Git{Remote: "git://example.com/foo"}},
		{"ssh://git@example.com:22/foo#v1:a", &Git{Remote: "ssh://git@example.com:22/foo", Ref: "v1", Subdir: "a"}},
		{"git@example.com:foo/bar", &Git{Remote: "git@example.com:foo/bar"}},
		{"git@example.com:foo/bar.git?subdir=/a#v1.0.0", &Git{Remote: "git@example.com:foo/bar.git", Ref: "v1.0.0", Subdir: "a"}},
		{repo + "?ref=v1&subdir=/a", &Git{Remote: repo, Ref: "v1", Subdir: "a"}},
		{repo + "?tag=v1", &Git{Remote: repo, Ref: "refs/tags/v1"}},
		{repo + "?tag=refs/tags/v1#refs/tags/v1", &Git{Remote: repo, Ref: "refs/tags/v1"}},
		{repo + "?branch=v1", &Git{Remote: repo, Ref: "refs/heads/v1"}},
		{repo + "?commit=abc", &Git{Remote: repo, Checksum: "abc"}},
		{repo + "?keep-git-dir&submodules=0&mtime=commit", &Git{Remote: repo, KeepGitDir: ptr(true), Submodules: ptr(false), MTime: "commit"}},
		{repo + "?keep-git-dir=false&submodules", &Git{Remote: repo, KeepGitDir: ptr(false), Submodules: ptr(true)}},
		{repo + "?fetch-by-commit&checksum=abc#refs/heads/b", &Git{Remote: repo, Ref: "refs/heads/b", Checksum: "abc", FetchByCommit: true}},
		{repo + "?fetch-by-commit=false", &Git{Remote: repo}},
	} {
		got, err := ParseGit(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", c.text, d)
		}
	}
}

func TestParseGitRefuses(t *testing.T) {
	for query, want := range map[string]string{
		"?ref=a#b":                 "ref conflicts",
		"?ref=a&tag=b":             "ref conflicts",
		"?branch=a#refs/tags/a":    "ref conflicts",
		"?tag=a&branch=b":          "branch conflicts with tag",
		"?subdir=a#:b":             "subdir conflicts",
		"?commit=a&checksum=b":     "checksum conflicts",
		"?ref=":                    `query "ref" has no value`,
		"?ref=a&ref=b":             `query "ref" has multiple values`,
		"?mtime=now":               "invalid mtime value",
		"?keep-git-dir=maybe":      "invalid keep-git-dir value",
		"?submodules=maybe":        "invalid submodules value",
		"?fetch-by-commit=maybe":   "invalid fetch-by-commit value",
		"?invalid=1":               `unexpected query "invalid"`,
		"#--upload-pack=touch%20x": "invalid git ref",
		"?ref=-x":                  "invalid git ref",
	} {
		g, err := ParseGit("https://example.com/foo.git" + query)
		if g != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want an error with %q", query, g, err, want)
		}
	}
	if g, err := ParseGit("-x@example.com:foo"); g != nil || err == nil {
		t.Errorf("an option is taken for a repository: %v", g)
	}
}

func TestParseGitContext(t *testing.T) {
	for text, want := range map[string]*Git{
		"github.com/foo/bar":         {Remote: "https://github.com/foo/bar"},
		"github.com/foo/bar#v1:a":    {Remote: "https://github.com/foo/bar", Ref: "v1", Subdir: "a"},
		"github.com/foo/bar?tag=v1":  {Remote: "https://github.com/foo/bar", Ref: "refs/tags/v1"},
		"https://github.com/foo/bar": nil,
		"git@github.com:foo/bar":     {Remote: "git@github.com:foo/bar"},
	} {
		got, err := ParseGitContext(text)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got)\n%s", text, err, d)
		}
	}
}

func FuzzParseGit(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/foo.git#a:b", "git@host:p?ref=a#b:c", "ssh://u:p@h:1/x?tag=a&subdir=..", "git://h/p?mtime=commit&submodules", "github.com/a#b", "a@h:p#:..b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) (*Git, error){ParseGit, ParseGitContext} {
			g, err := parse(text)
			if g == nil {
				continue
			}
			if err != nil || g.Remote == "" || g.Remote[0] == '-' || strings.HasPrefix(g.Ref, "-") {
				t.Errorf("%q: %+v, %v", text, g, err)
			}
			if g.Subdir != "" && (path.IsAbs(g.Subdir) || path.Clean(g.Subdir) != g.Subdir || g.Subdir == ".." || strings.HasPrefix(g.Subdir, "../")) {
				t.Errorf("%q leads out: %q", text, g.Subdir)
			}
			if again, err := ParseGit(g.Remote); strings.Contains(g.Remote, "://") && !strings.HasPrefix(text, "github.com/") &&
				(err != nil || again == nil || again.Remote != g.Remote) {
				t.Errorf("%q: its remote %q is another: %+v, %v", text, g.Remote, again, err)
			}
		}
	})
}
