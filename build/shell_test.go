package build

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestShellCommands(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		want         []string // the words of a command joined by |
	}{
		{"one", "make install", []string{"make|install"}},
		{"several", "a b && c || d; e | f & g\nh", []string{"a|b", "c", "d", "e", "f", "g", "h"}},
		{"quotes", `a 'b c' "d \"e" f\ g h'i'"j"`, []string{`a|b c|d "e|f g|hij`}},
		{"continued", "a \\\n  b\\\nc", []string{"a|bc"}},
		{"expansions stay", "a $b ${c:-d e} $(f; g) `h i` \"$(j \")\")\"", []string{"a|$b|${c:-d e}|$(f; g)|`h i`|$(j \")\")"}},
		{"comments", "a # b; c\nd#e\n# f", []string{"a", "d#e"}},
		{"redirections", "a >b 2>&1 <c >> d &>e <(f g) h", []string{"a|h"}},
		{"heredoc", "cat <<EOF >f\napt-get install x\nEOF\nb", []string{"cat", "b"}},
		{"heredoc with tabs, in quotes", "cat <<-'E O' && c\n\ta\n\tE O\nb", []string{"cat", "c", "b"}},
		{"keywords", "if a; then b; else ! c; fi; for x in y; do d; done; { e; }", []string{"if", "for", "e"}},
		{"keywords in each other", "a; if b; then while c; do d; done; fi && case x in y) e;; *) f;; esac; g", []string{"a", "if", "case", "g"}},
		{"subshell", "(a; b) && c", []string{"a", "b", "c"}},
		{"assignments and wrappers", "A=b C='d e' sudo -E env F=g a -h", []string{"a|-h"}},
		{"assignment alone", "A=b", nil},
		{"a shell in it", `bash -ec "a && b" && sh script`, []string{"a", "b", "sh|script"}},
		{"an open quote", "a 'b\nc", nil},
		{"an open double quote", `a "b`, nil},
		{"an open bracket", "a $(b", nil},
		{"nothing", " \n # x", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, words := range shellCommands(tt.script) {
				got = append(got, strings.Join(words, "|"))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzShellCommands(f *testing.F) {
	for _, s := range []string{"a && b", "cat <<E\nx\nE\n", "a \"$(b)\" '", "\\", "$(", "`", "<<", "a 2>&1", "${x", "sh -c 'a'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		for _, words := range shellCommands(script) {
			if len(words) == 0 {
				t.Errorf("%q has a command without words", script)
			}
		}
	})
}
