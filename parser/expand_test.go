package parser

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testEnv is what the tables below expand with.
func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"PWD": "/home", "SHELL": "bash", "NULL": "", "KOREAN": "한국어",
		"SPACED": "  a  b ", "P": "*/", "ESC": `\*/`, "SLASHED": `a\bc`, "DOLLAR": "$1",
		"FILE": "/tmp/foo/bar.tar.gz", "STARS": "a***yy*", "X2Y2": "xxyy", "META": `()[]{}^$.*?|\x`,
		"URL": "http://google.de", "LINES": "a\nb\nc", "UML": "äöüöä", "변수": "값",
	}[name]
	return v, ok
}

const failure = "error"

func TestWord(t *testing.T) {
	tests := []struct{ name, word, want string }{
		// quotes and escapes
		{"plain", "hello", "hello"},
		{"empty", "", ""},
		{"blanks stay", " a  b ", " a  b "},
		{"single quotes", "he'll'o", "hello"},
		{"open single quote", "he'llo", failure},
		{"escaped single quote", `he\'llo`, "he'llo"},
		{"escaped escape, open quote", `he\\'llo`, failure},
		{"escape of a letter", `abc\tdef`, "abctdef"},
		{"escape of a blank", `a\ b`, "a b"},
		{"escape in double quotes stays", `"abc\tdef"`, `abc\tdef`},
		{"double escape in double quotes", `"abc\\tdef"`, `abc\tdef`},
		{"escape in single quotes stays", `'abc\tdef'`, `abc\tdef`},
		{"escape at the end", `hello\`, "hello"},
		{"double escape at the end", `hello\\`, `hello\`},
		{"open double quote", `"hello`, failure},
		{"escaped closing quote", `"hello\"`, failure},
		{"single in double", `"hel'lo"`, "hel'lo"},
		{"escape before closing single quote", `'hello\'`, `hello\`},
		{"double in single", `'"hello"'`, `"hello"`},
		{"UTF-8 quotes", "안'녕'하세요", "안녕하세요"},
		{"UTF-8 open quote", "안'녕하세요", failure},
		{"UTF-8 escape", `안녕\t하\'세요`, "안녕t하'세요"},
		{"UTF-8 escaped letter", `안\녕`, "안녕"},
		{"no UTF-8", "a\xff'\xfe'\\\xfd", "a\xff\xfe\xfd"},

		// names
		{"dollar", "$", "$"},
		{"dollar and dot", "he$.x", "he$.x"},
		{"dollar at the end", "a$", "a$"},
		{"name", "he$PWD", "he/home"},
		{"name ends at a dot", "$PWD.x", "/home.x"},
		{"names tell case apart", "he$pwd.", "he."},
		{"braces", "he${PWD}x", "he/homex"},
		{"UTF-8 value", "안녕$KOREAN", "안녕한국어"},
		{"UTF-8 name", "$변수", "값"},
		{"undefined", "he${hi}xx", "hexx"},
		{"escaped", `he\$PWD`, "he$PWD"},
		{"escaped escape", `he\\$PWD`, `he\/home`},
		{"escaped braces", `\${}aaa`, "${}aaa"},
		{"in double quotes", `"he'$PWD'"`, "he'/home'"},
		{"escaped in double quotes", `"he\$PWD"`, "he$PWD"},
		{"in single quotes", `'$PWD ${'`, "$PWD ${"},
		{"digits", "$1x", "x"},
		{"many digits", "$999aaa", "aaa"},
		{"digits in braces", "${001}aaa", "aaa"},
		{"special parameters", "$@$*$#$?$-$$$!$0.", "."},
		{"special parameter is one character", "$@@@", "@@"},
		{"special in braces", "${@:-b}${*}${#}${?:+b}${-:-c}${$}${!}", "bc"},
		{"values are not expanded again", "$DOLLAR", "$1"},

		// braces that do not fit
		{"nothing in braces", "${}", failure},
		{"two braces", "${{aaa}", failure},
		{"colon", "${:}", failure},
		{"colon and word", "${:-bbb}", failure},
		{"dot", "he${.}", failure},
		{"open", "he${PWD", failure},
		{"open at the brace", "${", failure},
		{"open at the modifier", "${PWD:", failure},
		{"open word", "${aaa:-bbb ${foo}", failure},
		{"closed twice", "${aaa}}", "}"},
		{"assignment", "${PWD:=000}", failure},
		{"assignment without colon", "${FOO=}", failure},
		{"unknown modifier", "${PWD:x}", failure},
		{"case modifier", "${PWD^^}", failure},
		{"array", "${PWD[0]}", failure},

		// - + ?
		{"default", "he${XXX:-000}xx", "he000xx"},
		{"default of a set one", "he${PWD:-000}xx", "he/homexx"},
		{"default of an empty one", "${NULL:-a}", "a"},
		{"default without colon", "${XXX-a}${NULL-b}${PWD-c}", "a/home"},
		{"default is empty", "${XXX:-}", ""},
		{"default nests", "he${XXX:-${YYY:-yyy}}xx", "heyyyxx"},
		{"default with a brace", `he${XXX:-\${PWD}z}xx`, "he${PWDz}xx"},
		{"default in quotes", `${XXX:-"a } b"}`, "a } b"},
		{"default in single quotes", `${XXX:-'$PWD'}`, "$PWD"},
		{"alternative", "${PWD:+a}${NULL:+b}${XXX:+c}", "a"},
		{"alternative without colon", "${PWD+a}${NULL+b}${XXX+c}", "ab"},
		{"alternative nests", "he${PWD:+${SHELL}:}xx", "hebash:xx"},
		{"required", "${PWD?}${PWD:?x}", "/home/home"},
		{"required, unset", "${XXX?}", failure},
		{"required, unset, colon", "${XXX:?msg}", failure},
		{"required, empty", "${NULL?}", ""},
		{"required, empty, colon", "${NULL:?}", failure},
		{"an unused word may still fail", "${PWD:-${XXX:?}}", failure},

		// # % /
		{"shortest prefix", "${FILE#*/}", "tmp/foo/bar.tar.gz"},
		{"longest prefix", "${FILE##*/}", "bar.tar.gz"},
		{"shortest suffix", "${FILE%.*}", "/tmp/foo/bar.tar"},
		{"longest suffix", "${FILE%%.*}", "/tmp/foo/bar"},
		{"prefix that is none", "${FILE#x}", "/tmp/foo/bar.tar.gz"},
		{"star alone, short", "${X2Y2#*}", "xxyy"},
		{"star alone, long", "${X2Y2##*}", ""},
		{"empty pattern", "${X2Y2#}${X2Y2##}${X2Y2%}${X2Y2%%}", "xxyyxxyyxxyyxxyy"},
		{"one character", "${X2Y2#?}${X2Y2%?}", "xyyxxy"},
		{"pattern in a variable", "${FILE#$P}", "tmp/foo/bar.tar.gz"},
		{"escape in a variable", "${STARS%%$ESC}", "a***yy*"},
		{"escaped star", `${STARS%%\**\*}`, "a"},
		{"everything special", `${META#()[]{\}^$.\*\?|\\}`, "x"},
		{"double quoted escape is literal", `${SLASHED#"a\b"}`, "c"},
		{"single quoted escape is literal", `${SLASHED#'a\b'}`, "c"},
		{"bad escape", `${PWD#\x}`, failure},
		{"star stops at a newline", "${LINES##*}", "\nb\nc"},
		{"UTF-8 prefix", "${UML#?ö}", "üöä"},
		{"UTF-8 suffix", "${UML%ö*}", "äöü"},
		{"of an undefined one", "${XXX#a}${XXX%a}${XXX/a/b}", ""},
		{"colon and pattern", "${PWD:#a}", failure},
		{"colon and suffix", "${PWD:%%a}", failure},
		{"replace one", "${FILE/o/0}", "/tmp/f0o/bar.tar.gz"},
		{"replace all", "${FILE//o/0}", "/tmp/f00/bar.tar.gz"},
		{"replace by nothing", "${FILE//./}", "/tmp/foo/bartargz"},
		{"replace is greedy", "${FILE/o*a/-}", "/tmp/f-r.gz"},
		{"replace with a slash in a variable", "${URL/http:$NULL\\/\\//}", "google.de"},
		{"escaped slashes", `${FILE//\//\/}`, `\/tmp\/foo\/bar.tar.gz`},
		{"replacement is no template", "${X2Y2//x/$DOLLAR}", "$1$1yy"},
		{"replace an empty pattern", "${X2Y2/$NULL/ww}", "wwxxyy"},
		{"replace without an end", "${X2Y2//ww}", failure},
		{"replace without a pattern", "${X2Y2//}", failure},
		{"replace nothing", "${X2Y2///}", "xxyy"},
		{"modifiers in an image name", "img:${TAG:-v1}-${FILE##*.}", "img:v1-gz"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Expander{}.Word(tt.word, testEnv)
			if tt.want == failure {
				if err == nil {
					t.Fatalf("%s gives %q, want an error", tt.word, got)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("%s gives %q, %v; want %q", tt.word, got, err, tt.want)
			}
		})
	}
}

func TestWordErrors(t *testing.T) {
	tests := []struct{ word, want string }{
		{"${X?}", `expand "${X?}": X: is not allowed to be unset`},
		{"${NULL:?}", `expand "${NULL:?}": NULL: is not allowed to be empty`},
		{"${X:?no $PWD}", `expand "${X:?no $PWD}": X: no /home`},
		{"${X", `expand "${X": syntax error: missing '}'`},
		{"${X:-", `expand "${X:-": syntax error: missing '}'`},
		{"${X/a}", `expand "${X/a}": syntax error: missing '/'`},
		{"${X^}", `expand "${X^}": unsupported modifier (^) in substitution`},
		{"${X:=a}", `expand "${X:=a}": unsupported modifier (:=) in substitution`},
		{"${}", `expand "${}": syntax error: bad substitution`},
		{`${X#\a}`, `expand "${X#\\a}": invalid pattern (\a) in substitution: invalid escape '\a'`},
		{"'a", `expand "'a": unexpected end of statement while looking for matching single-quote`},
		{`"a`, `expand "\"a": unexpected end of statement while looking for matching double-quote`},
	}
	for _, tt := range tests {
		t.Run(tt.word, func(t *testing.T) {
			_, err := (Expander{}).Word(tt.word, testEnv)
			var e *Error
			if !errors.As(err, &e) || e.Msg != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestWordEscape(t *testing.T) {
	x := Expander{Escape: '`'}
	tests := []struct{ name, word, want string }{
		{"backslash is a letter", `c:\a\$PWD`, `c:\a\/home`},
		{"backtick escapes", "`$PWD`'", "$PWD'"},
		{"in double quotes", "\"`\"`$`` `a\\\"", "\"$` `a\\"},
		{"patterns keep the backslash", `${STARS#a\*}`, "**yy*"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := x.Word(tt.word, testEnv); err != nil || got != tt.want {
				t.Errorf("%s gives %q, %v; want %q", tt.word, got, err, tt.want)
			}
		})
	}
}

func TestWords(t *testing.T) {
	tests := []struct {
		name, word string
		want       []string
	}{
		{"empty", "", nil},
		{"blanks", " \t", nil},
		{"one", "hello", []string{"hello"}},
		{"two", " a  b\t", []string{"a", "b"}},
		{"variable splits", "x${SPACED}y", []string{"x", "a", "b", "y"}},
		{"quoted variable does not", `x"${SPACED}"y`, []string{"x  a  b y"}},
		{"quoted blanks", `a" b "'c d' e`, []string{"a b c d", "e"}},
		{"escaped blank", `a\ b c`, []string{"a b", "c"}},
		{"empty quotes are no word", `"" a ''`, []string{"a"}},
		{"undefined is no word", `$XXX a`, []string{"a"}},
		{"default keeps what is before it", "80${XXX:-81}", []string{"8081"}},
		{"default splits", `${XXX:-"a b"}`, []string{"a", "b"}},
		{"UTF-8 blank", "a\u00a0b", []string{"a", "b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Expander{}.Words(tt.word, testEnv)
			if err != nil || cmp.Diff(tt.want, got) != "" {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	if got, err := (Expander{}).Words("'a", testEnv); err == nil || got != nil {
		t.Errorf("open quote gives %q, %v", got, err)
	}
}

func TestBody(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"plain", "a\nb\n", "a\nb\n"},
		{"quotes are letters", `it's "$PWD" '$PWD'`, `it's "/home" '/home'`},
		{"escapes go", `\$PWD \\ \n`, `$PWD \ n`},
		{"quotes in a default", `${XXX:-"it's"}`, `"it's"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Expander{Escape: '`'}.Body(tt.text, testEnv)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestWordTakesLinearTime(t *testing.T) {
	value := strings.Repeat("a", 1<<16)
	env := func(string) (string, bool) { return value, true }
	for _, word := range []string{"${X%%*a*a*a*a*b}", "${X##*a*a*a*a*b}", "${X//*a*a*b/}", "${X%?*b}"} {
		if got, err := (Expander{}).Word(word, env); err != nil || got != value {
			t.Errorf("%s changes the value, %v", word, err)
		}
	}
	deep := strings.Repeat("${X:-", 10000) + strings.Repeat("}", 10000)
	if _, err := (Expander{}).Word(deep, nil); err != nil {
		t.Error(err)
	}
}
