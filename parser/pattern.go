package parser

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// pattern is a shell pattern of a ${name#pattern} and its like: * for any
// text, ? for one character, no bracket expressions. Neither crosses a
// newline. The units are regular expressions, so that matching takes linear
// time whatever the pattern is.
type pattern struct{ units []string }

const anyText = "*" // the one unit that has a short and a long form

// compilePattern reads a pattern. The backslash is its escape whatever the
// file's escape character is.
func compilePattern(text string) (pattern, error) {
	var p pattern
	for i := 0; i < len(text); {
		_, size := utf8.DecodeRuneInString(text[i:])
		unit := text[i : i+size]
		i += size
		switch unit {
		case "*":
			p.units = append(p.units, anyText)
			continue
		case "?":
			p.units = append(p.units, ".")
			continue
		case `\`:
			_, size = utf8.DecodeRuneInString(text[i:])
			unit = text[i : i+size]
			i += size
			if unit == "" || !strings.Contains(`*?\}/`, unit) {
				return pattern{}, fmt.Errorf("invalid pattern (%s) in substitution: invalid escape '\\%s'", text, unit)
			}
		}
		p.units = append(p.units, literal(unit))
	}
	return p, nil
}

// literal quotes a character for a regular expression, which cannot spell
// bytes that are not UTF-8: those match the replacement character.
func literal(unit string) string {
	return regexp.QuoteMeta(strings.ToValidUTF8(unit, "\ufffd"))
}

func (p pattern) regexp(prefix string, greedy bool) *regexp.Regexp {
	star := ".*?"
	if greedy {
		star = ".*"
	}
	var b strings.Builder
	b.WriteString(prefix)
	for _, unit := range p.units {
		if unit == anyText {
			unit = star
		}
		b.WriteString(unit)
	}
	return regexp.MustCompile(b.String())
}

// trimPrefix cuts the shortest match off the front of value, or the longest.
func (p pattern) trimPrefix(value string, greedy bool) string {
	if at := p.regexp("^", greedy).FindStringIndex(value); at != nil {
		return value[at[1]:]
	}
	return value
}

// trimSuffix cuts at the end. A suffix of a text is a prefix of the text read
// backwards, which is how the shortest one is found in linear time.
func (p pattern) trimSuffix(value string, greedy bool) string {
	back := pattern{units: slices.Clone(p.units)}
	slices.Reverse(back.units)
	runes := []rune(value)
	slices.Reverse(runes)
	mirror := string(runes)
	at := back.regexp("^", greedy).FindStringIndex(mirror)
	if at == nil {
		return value
	}
	for range utf8.RuneCountInString(mirror[:at[1]]) {
		_, size := utf8.DecodeLastRuneInString(value)
		value = value[:len(value)-size]
	}
	return value
}

// replace puts with in place of the first match, or of all.
func (p pattern) replace(value, with string, all bool) string {
	re := p.regexp("", true)
	if all {
		return re.ReplaceAllLiteralString(value, with)
	}
	if at := re.FindStringIndex(value); at != nil {
		return value[:at[0]] + with + value[at[1]:]
	}
	return value
}
