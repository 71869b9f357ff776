package build

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode"

	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
)

// origin is one source as a COPY or ADD names it: a path or pattern, a git
// repository, or the URL of a file.
type origin struct {
	// text is what the instruction says, expanded.
	text string
	git  *parser.Git
	// url says that the text is that of a file of a web server.
	url bool
}

// originOf tells what a source is.
func originOf(text string) (origin, error) {
	g, err := parser.ParseGit(text)
	if err != nil {
		return origin{}, err
	}
	web := strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://")
	return origin{text: text, git: g, url: g == nil && web}, nil
}

// remote reports whether the source is fetched rather than read from the context
// or a stage.
func (o origin) remote() bool { return o.git != nil || o.url }

// fileName is what the file of a URL is called where it lands in a directory.
func (o origin) fileName() string {
	u, err := url.Parse(o.text)
	if err != nil {
		return unnamedFile
	}
	name := path.Base(u.Path)
	switch {
	case name == "." || name == "/":
		return unnamedFile
	case name == ".." || strings.ContainsFunc(name, unicode.IsControl):
		return "download"
	}
	return name
}

// unnamedFile is the name of a file whose URL has none.
const unnamedFile = "__unnamed__"

func originsOf(texts []string) ([]origin, error) {
	out := make([]origin, len(texts))
	for i, text := range texts {
		var err error
		if out[i], err = originOf(text); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// paths are the sources that are not fetched.
func paths(list []origin) []string {
	var out []string
	for _, o := range list {
		if !o.remote() {
			out = append(out, o.text)
		}
	}
	return out
}

// fetched is what an ADD says about the sources that it fetches.
type fetched struct {
	// checksum is the digest that the file of a URL shall have; empty for any.
	checksum digest.Digest
	// unpack takes such a file for an archive, if it is one.
	unpack bool
}

// expandFetched settles --checksum, --keep-git-dir and --unpack. What --keep-git-dir
// and --checksum say of a repository goes to its origin.
func (t *transfer) expandFetched(in *parser.Add, checksum string) error {
	t.fetched.unpack = in.Unpack != nil && *in.Unpack
	if err := t.expandGit(in.KeepGitDir, checksum); err != nil || checksum == "" {
		return err
	}
	switch {
	case len(t.sources) != 1:
		return &Hinted{errors.New("checksum can't be specified for multiple sources"), "write an ADD for each of them"}
	case !t.sources[0].remote():
		return &Hinted{errors.New("checksum requires HTTP(S) or Git sources"), "leave --checksum out: what the context holds is known"}
	case t.sources[0].git != nil:
		return nil
	}
	t.fetched.checksum = digest.Digest(checksum)
	if err := t.fetched.checksum.Validate(); err != nil {
		return &Hinted{fmt.Errorf("--checksum=%s: %w", checksum, err), "write it as sha256:HEX, sha384:HEX or sha512:HEX"}
	}
	return nil
}

// expandGit adds to the repositories what the flags say, which must not be other
// than what their own queries say.
func (t *transfer) expandGit(keep *bool, checksum string) error {
	for _, o := range t.sources {
		if o.git == nil {
			continue
		}
		own := o.git.KeepGitDir
		if keep != nil && own != nil && *keep != *own {
			return errors.New("inconsistent keep-git-dir configuration")
		}
		if own != nil {
			keep = own // as with BuildKit, of what follows too
		}
		o.git.KeepGitDir = keep
		if checksum != "" && o.git.Checksum != "" && checksum != o.git.Checksum {
			return fmt.Errorf("checksum mismatch %q != %q", checksum, o.git.Checksum)
		}
		o.git.Checksum = cmp.Or(checksum, o.git.Checksum)
	}
	return nil
}
