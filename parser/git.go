package parser

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Git names a git repository, and which of its files are meant.
type Git struct {
	// Remote is what git fetches from: a URL, or user@host:path. It may hold a password.
	Remote string
	// Ref is a branch, a tag, a full reference or all digits of a commit; empty is the default branch.
	Ref string
	// Checksum is the commit that Ref must stand for, or its first digits; empty is any.
	Checksum string
	// Subdir is the directory that is meant, clean and relative; empty is the whole tree.
	Subdir string
	// KeepGitDir keeps .git; nil leaves that to others.
	KeepGitDir *bool
	// Submodules fetches submodules; nil is true.
	Submodules *bool
	// MTime is the time of the files: MTimeCheckout, MTimeCommit, or empty, which leaves that to others.
	MTime string
	// FetchByCommit takes Checksum for the commit to fetch without asking what Ref stands for.
	FetchByCommit bool
}

// The values of Git.MTime.
const (
	MTimeCheckout = "checkout" // when the files are made
	MTimeCommit   = "commit"   // when the commit was made
)

var (
	schemePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([a-zA-Z0-9]+)://`) })
	scpPattern    = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([a-zA-Z0-9-_]+@[a-zA-Z0-9-.]+:.*?)(?:\?(.*?))?(?:#(.*))?$`)
	})
)

// ParseGit reads the name of a git repository: a URL of ssh or git, one of http
// or https whose path ends in .git, or user@host:path, each with #ref:subdir or
// a query behind it. It gives nil and no error for what does not name one.
func ParseGit(text string) (*Git, error) {
	if strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../") {
		return nil, nil
	}
	if m := schemePattern().FindStringSubmatch(text); m != nil {
		return parseGitURL(text, strings.ToLower(m[1]))
	}
	m := scpPattern().FindStringSubmatch(text)
	if m == nil {
		return nil, nil
	}
	query, err := url.ParseQuery(m[2])
	if err != nil {
		return nil, nil
	}
	return newGit(m[1], m[3], query)
}

// ParseGitContext is ParseGit for a build context, which may also leave out the
// scheme of github.com.
func ParseGitContext(text string) (*Git, error) {
	if !strings.HasPrefix(text, "github.com/") {
		return ParseGit(text)
	}
	u, err := url.Parse("https://" + text)
	if err != nil {
		return nil, nil
	}
	return newGit(bareURL(u), u.Fragment, u.Query())
}

func parseGitURL(text, scheme string) (*Git, error) {
	if !slices.Contains([]string{"http", "https", "ssh", "git"}, scheme) {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, nil
	}
	if strings.HasPrefix(scheme, "http") && !strings.HasSuffix(u.Path, ".git") {
		return nil, nil
	}
	return newGit(bareURL(u), u.Fragment, u.Query())
}

// bareURL is a URL without query and fragment.
func bareURL(u *url.URL) string {
	b := *u
	b.RawQuery, b.ForceQuery, b.Fragment, b.RawFragment = "", false, "", ""
	return b.String()
}

func newGit(remote, fragment string, query url.Values) (*Git, error) {
	if strings.HasPrefix(remote, "-") {
		return nil, fmt.Errorf("invalid git repository %q", remote)
	}
	g := &Git{Remote: remote}
	g.Ref, g.Subdir, _ = strings.Cut(fragment, ":")
	g.Subdir = cleanSubdir(g.Subdir)
	var tag, branch string
	for _, key := range slices.Sorted(maps.Keys(query)) {
		value, err := single(key, query[key])
		if err != nil {
			return nil, err
		}
		switch key {
		case "tag":
			tag = "refs/tags/" + strings.TrimPrefix(value, "refs/tags/")
		case "branch":
			branch = "refs/heads/" + strings.TrimPrefix(value, "refs/heads/")
		default:
			err = g.option(key, value)
		}
		if err != nil {
			return nil, err
		}
	}
	if tag != "" && branch != "" {
		return nil, fmt.Errorf("branch conflicts with tag")
	}
	if err := settle("ref", &g.Ref, tag+branch); err != nil {
		return nil, err
	}
	g.Subdir = cleanSubdir(g.Subdir)
	if strings.HasPrefix(g.Ref, "-") {
		return nil, fmt.Errorf("invalid git ref %q", g.Ref)
	}
	return g, nil
}

func cleanSubdir(dir string) string { return strings.TrimPrefix(path.Join("/", dir), "/") }

// single gives the value of a key that stands in a query once. Those that are
// switches need none.
func single(key string, values []string) (string, error) {
	if len(values) > 1 {
		return "", fmt.Errorf("query %q has multiple values", key)
	}
	switch key {
	case "submodules", "keep-git-dir", "fetch-by-commit":
		if values[0] == "" {
			return "true", nil
		}
	}
	if values[0] == "" {
		return "", fmt.Errorf("query %q has no value", key)
	}
	return values[0], nil
}

// option takes what one key of the query says.
func (g *Git) option(key, value string) (err error) {
	switch key {
	case "ref":
		return settle("ref", &g.Ref, value)
	case "subdir":
		return settle("subdir", &g.Subdir, value)
	case "checksum", "commit":
		return settle("checksum", &g.Checksum, value)
	case "keep-git-dir":
		g.KeepGitDir, err = switched(key, value)
	case "submodules":
		g.Submodules, err = switched(key, value)
	case "fetch-by-commit":
		var on *bool
		if on, err = switched(key, value); err == nil {
			g.FetchByCommit = *on
		}
	case "mtime":
		if value != MTimeCheckout && value != MTimeCommit {
			return fmt.Errorf("invalid mtime value: %q (must be %q or %q)", value, MTimeCheckout, MTimeCommit)
		}
		g.MTime = value
	default:
		return fmt.Errorf("unexpected query %q", key)
	}
	return err
}

// settle sets a text that may be said twice, but not differently.
func settle(what string, at *string, value string) error {
	if value == "" {
		return nil
	}
	if *at != "" && *at != value {
		return fmt.Errorf("%s conflicts: %q vs %q", what, *at, value)
	}
	*at = value
	return nil
}

func switched(key, value string) (*bool, error) {
	on, err := strconv.ParseBool(value)
	if err != nil {
		return nil, fmt.Errorf("invalid %s value: %q", key, value)
	}
	return &on, nil
}
