package parser

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Lookup gives a variable's value, and whether it is set.
type Lookup func(name string) (value string, ok bool)

// Expander expands the variables of words. The zero Expander is for files
// whose escape character is the backslash.
type Expander struct {
	Escape rune // the file's escape character; 0 is '\\'
}

// Word expands a word: quotes and escapes are taken away and variables
// replaced. White space stays, so the result is one word.
func (x Expander) Word(word string, env Lookup) (string, error) {
	out, err := x.expand(word, env, false)
	return out.text.String(), err
}

// Words is Word, split where white space stands outside quotes. White space
// inside the value of an unquoted variable splits too.
func (x Expander) Words(word string, env Lookup) ([]string, error) {
	out, err := x.expand(word, env, false)
	return out.fields(), err
}

// Body expands the variables of a heredoc's body. Quotes are ordinary
// characters there, and the escape character is always the backslash.
func (x Expander) Body(text string, env Lookup) (string, error) {
	out, err := Expander{}.expand(text, env, true)
	return out.text.String(), err
}

func (x Expander) expand(word string, env Lookup, plain bool) (*output, error) {
	e := &expansion{src: word, escape: x.Escape, env: env, plain: plain}
	if e.escape == 0 {
		e.escape = '\\'
	}
	out, err := e.until(end, operandText)
	if err != nil {
		return &output{}, &Error{Msg: fmt.Sprintf("expand %q: %v", word, err), Hint: expandHint(err), Err: err}
	}
	return out, nil
}

// expandHint says how to mend a word that cannot be expanded.
func expandHint(err error) string {
	msg := err.Error()
	switch {
	case errors.Is(err, errBrace):
		return "close it with }; where a blank stands in it, put the whole word in double quotes"
	case errors.Is(err, errSingle), errors.Is(err, errDouble):
		return "close the quote, or put a backslash before it if it is meant as itself"
	case errors.Is(err, errBad), strings.HasPrefix(msg, "unsupported modifier"):
		return "write ${NAME} or ${NAME:-WORD}; there are also :+ :? # % and /"
	}
	return ""
}

// end is what peek and next give behind the last character. It is no rune, so
// that no text can hold it.
const end rune = -1

// operand says what an expanded text is for, which decides which escapes stay.
type operand int

const (
	operandText        operand = iota // escapes are taken away
	operandReplacement                // the last part of ${x/pattern/replacement}: escapes stay
	operandPattern                    // read again as a pattern: escapes stay, quoted ones are doubled
)

// expansion is one pass over a word.
type expansion struct {
	src    string
	pos    int
	escape rune
	env    Lookup
	plain  bool // quotes are ordinary characters
}

func (e *expansion) peek() rune {
	r, _ := e.decode()
	return r
}

func (e *expansion) decode() (rune, int) {
	if e.pos >= len(e.src) {
		return end, 0
	}
	return utf8.DecodeRuneInString(e.src[e.pos:])
}

// next steps over a character and gives it, and its bytes: they are not the
// rune's own where the text is not UTF-8.
func (e *expansion) next() (rune, string) {
	r, size := e.decode()
	s := e.src[e.pos : e.pos+size]
	e.pos += size
	return r, s
}

// until expands everything in front of an unquoted stop and steps over it.
func (e *expansion) until(stop rune, kind operand) (*output, error) {
	out := &output{}
	for {
		c := e.peek()
		switch {
		case c == stop:
			e.next()
			return out, nil
		case c == end:
			return nil, fmt.Errorf("syntax error: missing '%c'", stop)
		case c == '\'' && !e.plain:
			s, err := e.singleQuoted(kind)
			if err != nil {
				return nil, err
			}
			out.whole(s)
		case c == '"' && !e.plain:
			s, err := e.doubleQuoted(kind)
			if err != nil {
				return nil, err
			}
			out.whole(s)
		case c == '$':
			s, err := e.variable()
			if err != nil {
				return nil, err
			}
			out.split(s)
		case c == e.escape:
			out.whole(e.escaped(kind))
		default:
			_, s := e.next()
			out.split(s)
		}
	}
}

// escaped reads an escape outside quotes. One that ends the text is dropped,
// except where escapes stay.
func (e *expansion) escaped(kind operand) string {
	_, esc := e.next()
	_, s := e.next()
	if kind == operandText {
		return s
	}
	return esc + s
}

// singleQuoted reads from one ' to the next; nothing is special between them.
func (e *expansion) singleQuoted(kind operand) (string, error) {
	e.next()
	n := strings.IndexByte(e.src[e.pos:], '\'')
	if n < 0 {
		return "", errSingle
	}
	s := e.src[e.pos : e.pos+n]
	e.pos += n + 1
	if kind == operandPattern {
		esc := string(e.escape)
		s = strings.ReplaceAll(s, esc, esc+esc)
	}
	return s, nil
}

// doubleQuoted reads from one " to the next. Variables live there, and the
// escape character acts on quotes, dollars and itself alone.
func (e *expansion) doubleQuoted(kind operand) (string, error) {
	var b strings.Builder
	e.next()
	for {
		switch c := e.peek(); c {
		case end:
			return "", errDouble
		case '"':
			e.next()
			return b.String(), nil
		case '$':
			s, err := e.variable()
			if err != nil {
				return "", err
			}
			b.WriteString(s)
		case e.escape:
			b.WriteString(e.quotedEscape(kind))
		default:
			_, s := e.next()
			b.WriteString(s)
		}
	}
}

// quotedEscape reads the escape character inside double quotes, and with it
// the character it acts on.
func (e *expansion) quotedEscape(kind operand) string {
	_, esc := e.next()
	switch e.peek() {
	case '"', '$', e.escape:
		_, s := e.next()
		if kind == operandText {
			return s
		}
		return esc + s
	}
	if kind == operandText {
		return esc
	}
	return esc + esc
}

// name reads a variable's name: letters, digits and underscores; digits alone
// when it begins with one; or one of the shell's special parameters.
func (e *expansion) name() string {
	start := e.pos
	first := e.peek()
	if strings.ContainsRune("@*#?-$!", first) {
		e.next()
		return e.src[start:e.pos]
	}
	digits := unicode.IsDigit(first)
	for c := e.peek(); unicode.IsDigit(c) || !digits && (unicode.IsLetter(c) || c == '_'); c = e.peek() {
		e.next()
	}
	return e.src[start:e.pos]
}

func (e *expansion) lookup(name string) (string, bool) {
	if e.env == nil {
		return "", false
	}
	value, ok := e.env(name)
	if !ok {
		return "", false
	}
	return value, true
}

// output gathers an expanded text, whole and in fields.
type output struct {
	text  strings.Builder
	words []string
	word  strings.Builder
}

// whole adds text that white space does not split.
func (o *output) whole(s string) {
	o.text.WriteString(s)
	o.word.WriteString(s)
}

// split adds text that white space splits.
func (o *output) split(s string) {
	o.text.WriteString(s)
	for i, r := range s {
		if unicode.IsSpace(r) {
			o.cut()
			continue
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		o.word.WriteString(s[i : i+size])
	}
}

func (o *output) cut() {
	if o.word.Len() > 0 {
		o.words = append(o.words, o.word.String())
		o.word.Reset()
	}
}

func (o *output) fields() []string {
	o.cut()
	return o.words
}
