package build

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// A shell script is read here just far enough to tell which programs it calls
// with which words. Nothing is expanded; what cannot be read has no commands.

// shells are the programs whose language this is.
var shells = []string{"sh", "bash", "ash", "dash", "zsh", "ksh"}

func isShell(program string) bool { return slices.Contains(shells, path.Base(program)) }

// shellCommands gives the simple commands of a script, each as its words
// without quotes, in the order they stand. An if, a loop or a case is one
// command of one word, its name: who knows what of it will be run.
func shellCommands(script string) [][]string {
	s := &shellReader{src: script}
	for s.pos < len(s.src) && !s.bad {
		s.token()
	}
	s.endCommand()
	if s.bad {
		return nil
	}
	var out [][]string
	depth := 0
	for _, words := range s.commands {
		switch {
		case slices.Contains(compound, words[0]):
			if depth == 0 {
				out = append(out, words[:1])
			}
			depth++
		case slices.Contains(compoundEnd, words[0]):
			depth = max(depth-1, 0)
		case depth == 0:
			out = append(out, unwrap(words)...)
		}
	}
	return out
}

// shellReader is one pass over a script.
type shellReader struct {
	src      string
	pos      int
	bad      bool
	commands [][]string
	words    []string
	heredocs []heredocEnd // whose bodies begin with the next line
}

// heredocEnd is the line that ends a heredoc.
type heredocEnd struct {
	word string
	tabs bool // that may begin it
}

func (s *shellReader) token() {
	switch c := s.src[s.pos]; {
	case c == '\n':
		s.pos++
		s.endCommand()
		s.skipHeredocs()
	case c == '#':
		line, _, _ := strings.Cut(s.src[s.pos:], "\n")
		s.pos += len(line)
	case strings.IndexByte(" \t\r", c) >= 0:
		s.pos++
	case strings.HasPrefix(s.src[s.pos:], "\\\n"):
		s.pos += 2
	case strings.IndexByte("<>", c) >= 0, strings.HasPrefix(s.src[s.pos:], "&>"):
		s.redirect()
	case strings.IndexByte(";&|()", c) >= 0:
		s.pos++
		s.endCommand()
	default:
		s.argument()
	}
}

// argument reads a word of a command, or a redirection that begins with the
// number of a descriptor.
func (s *shellReader) argument() {
	word := s.word()
	number := strings.Trim(word, "0123456789") == ""
	if number && s.pos < len(s.src) && strings.IndexByte("<>", s.src[s.pos]) >= 0 {
		s.redirect()
		return
	}
	s.words = append(s.words, word)
}

func (s *shellReader) endCommand() {
	if len(s.words) > 0 {
		s.commands = append(s.commands, s.words)
	}
	s.words = nil
}

// redirect steps over a redirection and its target, and notes a heredoc.
func (s *shellReader) redirect() {
	start := s.pos
	for s.pos < len(s.src) && strings.IndexByte("<>&|-", s.src[s.pos]) >= 0 {
		s.pos++
	}
	op := s.src[start:s.pos]
	for s.pos < len(s.src) && (s.src[s.pos] == ' ' || s.src[s.pos] == '\t') {
		s.pos++
	}
	if s.pos < len(s.src) && s.src[s.pos] == '(' { // <(command)
		s.nested('(', ')')
		return
	}
	word := s.word()
	if op == "<<" || op == "<<-" {
		s.heredocs = append(s.heredocs, heredocEnd{word, op == "<<-"})
	}
}

// skipHeredocs steps over the bodies that begin here.
func (s *shellReader) skipHeredocs() {
	for _, h := range s.heredocs {
		for s.pos < len(s.src) {
			line, _, _ := strings.Cut(s.src[s.pos:], "\n")
			s.pos = min(s.pos+len(line)+1, len(s.src))
			if h.tabs {
				line = strings.TrimLeft(line, "\t")
			}
			if line == h.word {
				break
			}
		}
	}
	s.heredocs = nil
}

// word reads a word. Quotes are taken away; what the shell would expand stays
// as it is written.
func (s *shellReader) word() string {
	var b strings.Builder
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case strings.IndexByte(" \t\r\n;&|()<>", c) >= 0:
			return b.String()
		case c == '\'':
			end := strings.IndexByte(s.src[s.pos+1:], '\'')
			if end < 0 {
				s.bad = true
				s.pos = len(s.src)
				return ""
			}
			b.WriteString(s.src[s.pos+1 : s.pos+1+end])
			s.pos += end + 2
		case c == '"':
			s.doubleQuoted(&b)
		case c == '\\':
			if next := s.pos + 1; next < len(s.src) && s.src[next] != '\n' {
				b.WriteByte(s.src[next])
			}
			s.pos = min(s.pos+2, len(s.src))
		default:
			s.plain(&b)
		}
	}
	return b.String()
}

func (s *shellReader) doubleQuoted(b *strings.Builder) {
	s.pos++
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; c {
		case '"':
			s.pos++
			return
		case '\\':
			if next := s.pos + 1; next < len(s.src) && s.src[next] != '\n' {
				b.WriteByte(s.src[next])
			}
			s.pos = min(s.pos+2, len(s.src))
		default:
			s.plain(b)
		}
	}
	s.bad = true
}

// plain reads one character, or one expansion as a whole.
func (s *shellReader) plain(b *strings.Builder) {
	start := s.pos
	rest := s.src[s.pos:]
	switch {
	case strings.HasPrefix(rest, "$("):
		s.pos++
		s.nested('(', ')')
	case strings.HasPrefix(rest, "${"):
		s.pos++
		s.nested('{', '}')
	case rest[0] == '`':
		end := strings.IndexByte(rest[1:], '`')
		s.bad = s.bad || end < 0
		s.pos += max(end+2, 1)
	default:
		s.pos++
	}
	b.WriteString(s.src[start:s.pos])
}

// nested steps over what stands between a bracket and the one that closes it.
func (s *shellReader) nested(open, closing byte) {
	depth := 0
	var quote byte
	for ; s.pos < len(s.src); s.pos++ {
		switch c := s.src[s.pos]; {
		case c == '\\' && quote != '\'':
			s.pos++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == open:
			depth++
		case c == closing:
			if depth--; depth == 0 {
				s.pos++
				return
			}
		}
	}
	s.bad = true
	s.pos = len(s.src)
}

var (
	assignment  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*\+?=`) })
	compound    = []string{"if", "for", "while", "until", "case", "select"}
	compoundEnd = []string{"fi", "done", "esac"}
	// keywords may stand before a command, wrappers call the one behind them.
	keywords = []string{"{", "}", "!", "time"}
	wrappers = []string{"sudo", "exec", "command", "env", "nice"}
)

// unwrap takes away what stands before a command, and looks into sh -c.
func unwrap(words []string) [][]string {
	wrapped := false
	for len(words) > 0 {
		switch w := words[0]; {
		case slices.Contains(keywords, w), assignment().MatchString(w):
		case slices.Contains(wrappers, path.Base(w)):
			wrapped = true
		case wrapped && strings.HasPrefix(w, "-"):
		case isShell(w) && len(words) > 2 && strings.HasPrefix(words[1], "-") && strings.HasSuffix(words[1], "c"):
			return shellCommands(words[2])
		default:
			return [][]string{words}
		}
		words = words[1:]
	}
	return nil
}
