package build

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A secret is looked for whole and without the line's end that files have. What is
// shorter than leastSecret bytes is in everything and not looked for; what is
// shorter than surelySecret must stand by itself.
const (
	leastSecret  = 4
	surelySecret = 8
)

// maxNeedle bounds how much of a secret is looked for at once. Of a longer one it is
// the middle: the beginning may be what all of its kind have.
const maxNeedle = 1024

// leastLine is how long a line of a secret must be to be looked for by itself.
const leastLine = 40

// needle is what of a secret is looked for.
type needle struct {
	id, form string
	text     []byte
	word     bool // counts between other characters than letters and digits only
	flat     bool // blanks and ends of lines may be in between
}

// needles are all forms of a secret that are looked for, none if it is too short.
func needles(id string, secret []byte) []needle {
	secret = bytes.TrimRight(secret, "\r\n")
	if len(secret) < leastSecret {
		return nil
	}
	part := middle(secret)
	list := []needle{{id: id, text: part, word: len(secret) < surelySecret}}
	if len(secret) < surelySecret {
		return list
	}
	add := func(form string, flat bool, texts ...[]byte) {
		for _, text := range texts {
			text = middle(text)
			if !slices.ContainsFunc(list, func(n needle) bool { return bytes.Equal(n.text, text) && (n.flat || !flat) }) {
				list = append(list, needle{id: id, form: form, text: text, flat: flat})
			}
		}
	}
	digits := hex.EncodeToString(part)
	add("hex", true, []byte(digits), []byte(strings.ToUpper(digits)))
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			add("base64", true, inner64(enc, part, shift))
		}
	}
	add("URL encoding", false, inURLs(part)...)
	add("JSON", false, inJSON(part)...)
	if line := tellingLine(secret); line != nil {
		add("a line of it", false, line)
	}
	return list
}

func middle(b []byte) []byte {
	if len(b) <= maxNeedle {
		return b
	}
	from := (len(b) - maxNeedle) / 2
	return b[from : from+maxNeedle]
}

// inner64 encodes a secret as it comes out after shift bytes of something else, without
// the characters at both ends that depend on what is beside it.
func inner64(enc *base64.Encoding, secret []byte, shift int) []byte {
	text := enc.EncodeToString(append(make([]byte, shift), secret...))
	from := []int{0, 2, 3}[shift]
	to := len(text)
	if (shift+len(secret))%3 != 0 {
		to--
	}
	return []byte(text[from:to])
}

// safeInURLs are what programs leave as it is beside letters, digits and "-_.~": curl and
// forms nothing, JavaScript's encodeURIComponent and encodeURI, Python, Go.
var safeInURLs = []string{"", "!'()*", "!'()*;,/?:@&=+$#", "/", "$&+=:@"}

// inURLs gives a secret as URLs have it.
func inURLs(secret []byte) [][]byte {
	var list [][]byte
	for _, safe := range safeInURLs {
		for _, format := range []string{"%%%02X", "%%%02x"} {
			list = append(list, percent(secret, safe, format, "%20"))
		}
	}
	for _, format := range []string{"%%%02X", "%%%02x"} {
		list = append(list, percent(secret, "", format, "+"))
	}
	return list
}

func percent(secret []byte, safe, format, space string) []byte {
	var out []byte
	for _, c := range secret {
		switch {
		case c == ' ':
			out = append(out, space...)
		case isWord(c) || strings.IndexByte("-_.~", c) >= 0 || strings.IndexByte(safe, c) >= 0:
			out = append(out, c)
		default:
			out = fmt.Appendf(out, format, c)
		}
	}
	return out
}

// inJSON gives a secret as strings of JSON have it, with and without HTML in mind.
func inJSON(secret []byte) [][]byte {
	if !utf8.Valid(secret) {
		return nil
	}
	var list [][]byte
	for _, html := range []bool{true, false} {
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(html)
		if enc.Encode(string(secret)) == nil {
			list = append(list, bytes.Trim(bytes.TrimSpace(out.Bytes()), `"`))
		}
	}
	return list
}

// tellingLine gives the longest line of a secret of several that can be nothing but
// chance, as those of keys are, so that it is known with other ends of lines, indented or
// without the rest. Certificates are public, and none of theirs is taken.
func tellingLine(secret []byte) []byte {
	if bytes.IndexByte(secret, '\n') < 0 {
		return nil
	}
	var best []byte
	public := false
	for line := range bytes.SplitSeq(secret, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if bytes.HasPrefix(line, []byte("-----")) {
			public = bytes.Contains(line, []byte("BEGIN")) && !bytes.Contains(line, []byte("PRIVATE"))
		} else if !public && len(line) >= leastLine && len(line) > len(best) && isChance(line) {
			best = line
		}
	}
	return best
}

// isChance reports whether a line is of base64's characters alone, and of all kinds.
func isChance(line []byte) bool {
	var lower, upper, digit bool
	for _, c := range line {
		switch {
		case c >= 'a' && c <= 'z':
			lower = true
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= '0' && c <= '9':
			digit = true
		case strings.IndexByte("+/=-_", c) < 0:
			return false
		}
	}
	return lower && upper && digit
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
