package build

import (
	"net/url"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// supported refuses what the language has and this builder does not do, with
// the place and what to do instead. Nothing is ever ignored.
func (p *planner) supported(s *Step) error {
	switch in := s.Instr.(type) {
	case *parser.Run:
		return p.allows(s, in)
	case *parser.Add:
		return p.supportedAdd(s, in)
	}
	return nil
}

func (p *planner) refuse(s *Step, what, instead string) error {
	return p.fail(s.Range(), instead, "%s is not supported", what)
}

func (p *planner) supportedAdd(s *Step, in *parser.Add) error {
	if in.Checksum != "" || in.KeepGitDir {
		return p.refuse(s, "ADD --checksum and --keep-git-dir", "fetch the source in a RUN step")
	}
	for _, src := range in.Sources {
		if remoteSource(src) {
			return p.refuse(s, "ADD of a URL or git repository ("+src+")", "fetch it in a RUN step, or put it into the context")
		}
	}
	return nil
}

// remoteSource reports whether an ADD source is fetched rather than read from
// the context.
func remoteSource(src string) bool {
	if strings.HasPrefix(src, "git@") {
		return true
	}
	u, err := url.Parse(src)
	if err != nil {
		return strings.Contains(src, "://")
	}
	switch u.Scheme {
	case "http", "https", "git", "ssh":
		return true
	}
	return false
}
