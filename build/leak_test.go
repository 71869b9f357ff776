package build

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ocibuild/ocibuild/image"
	"golang.org/x/sys/unix"
)

const leakSecret = "s3same/0pen+you?"

func seekerFor(secret string) *seeker { return newSeeker(map[string][]byte{"key": []byte(secret)}) }

func TestSeekerForms(t *testing.T) {
	long := strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz\n", 200) + "x"
	wrapped := func(s string, width int) string {
		var b strings.Builder
		for text := base64.StdEncoding.EncodeToString([]byte(s)); text != ""; {
			n := min(width, len(text))
			b.WriteString(text[:n] + "\n")
			text = text[n:]
		}
		return b.String()
	}
	const token = "ghp_0123456789abcdefGHIJKLMNOPqrstuvwxyz"
	pem := "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDRLwd0l7Xq3v7K\n" +
		"k3Zb8u9Qw2nE5rT7yU1iO4pA6sD8fG0hJ+kL/xC3vB5nM7qW9eR1tY2uI4oP6aSd\n-----END PRIVATE KEY-----\n"
	quoted := func(s string) string {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, test := range map[string]struct {
		secret, text string
		want         bool
	}{
		"bytes":                           {leakSecret, "a" + leakSecret + "b", true},
		"without the line's end":          {leakSecret + "\n", leakSecret, true},
		"hex":                             {leakSecret, hex.EncodeToString([]byte("x" + leakSecret)), true},
		"upper hex":                       {leakSecret, strings.ToUpper(hex.EncodeToString([]byte(leakSecret))), true},
		"query":                           {leakSecret, "?t=" + url.QueryEscape(leakSecret), true},
		"path":                            {leakSecret, "/" + url.PathEscape(leakSecret) + "/", true},
		"base64":                          {leakSecret, base64.StdEncoding.EncodeToString([]byte(leakSecret)), true},
		"base64 after 1":                  {leakSecret, base64.StdEncoding.EncodeToString([]byte("u:" + leakSecret + "tail")), true},
		"base64 after 2":                  {leakSecret, base64.StdEncoding.EncodeToString([]byte("a" + leakSecret + "t")), true},
		"base64 for URLs":                 {leakSecret, base64.RawURLEncoding.EncodeToString([]byte("u:" + leakSecret)), true},
		"long":                            {long, "head" + long, true},
		"long in base64, 76 wide":         {long, wrapped(long, 76), true},
		"long in base64, 64 wide":         {long, wrapped("y"+long, 64), true},
		"token in a wrapped file":         {token, wrapped(strings.Repeat("x", 30)+token+strings.Repeat("y", 50), 64), true},
		"token in a MIME file":            {token, strings.ReplaceAll(wrapped(strings.Repeat("x", 40)+token+strings.Repeat("y", 50), 76), "\n", "\r\n"), true},
		"hex in lines":                    {token, "9f" + hex.EncodeToString([]byte(token))[:21] + "\n" + hex.EncodeToString([]byte(token))[21:] + "\n", true},
		"query, all lower case":           {"a/b+c d=e'f", "t=a%2fb%2bc+d%3de%27f", true},
		"curl":                            {"a/b+c d=e'f", "t=a%2Fb%2Bc%20d%3De%27f", true},
		"encodeURIComponent":              {"a/b+c d=e'f", "t=a%2Fb%2Bc%20d%3De'f", true},
		"quote of Python":                 {"a/b+c d=e'f", "t=a/b%2Bc%20d%3De%27f", true},
		"JSON":                            {pem, `{"private_key": ` + quoted(pem) + `}`, true},
		"JSON of a quote":                 {`pass"w\rd & <more>`, quoted(`pass"w\rd & <more>`), true},
		"a key, indented":                 {pem, "key: |\n    " + strings.ReplaceAll(pem, "\n", "\n    "), true},
		"a key with line ends of Windows": {pem, strings.ReplaceAll(pem, "\n", "\r\n"), true},
		"what keys have in common":        {pem, "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", false},
		"binary":                          {"\x00\x01\xff\xfe\n\r\x80\x90\xa0\xb0", "x\x00\x01\xff\xfe\n\r\x80\x90\xa0\xb0y", true},
		"binary in base64":                {"\x00\x01\xff\xfe\n\r\x80\x90\xa0\xb0", base64.StdEncoding.EncodeToString([]byte("x\x00\x01\xff\xfe\n\r\x80\x90\xa0\xb0")), true},
		"another":                         {leakSecret, "s3same/0pen+yOu?", false},
		"too short":                       {"abc", "abc", false},
		"empty":                           {"", "anything", false},
		"a short word":                    {"1234", "pin=1234\n", true},
		"a short word alone":              {"1234", "1234", true},
		"part of a longer word":           {"1234", "91234 12345", false},
		"the beginning of another":        {long, long[:1000], false},
	} {
		t.Run(name, func(t *testing.T) {
			s := seekerFor(test.secret)
			if got := s.in([]byte(test.text)) != nil; got != test.want {
				t.Errorf("whole: got %v, want %v", got, test.want)
			}
			found, err := s.inReader(t.Context(), iotest.OneByteReader(strings.NewReader(test.text)))
			if err != nil || (found != nil) != test.want {
				t.Errorf("read: got %v, %v, want %v", found, err, test.want)
			}
		})
	}
}

// TestSeekerEdges puts a secret across every edge of the buffer.
func TestSeekerEdges(t *testing.T) {
	for _, secret := range []string{leakSecret, "1234"} {
		s := seekerFor(secret)
		for shift := -len(secret) - 2; shift <= 2; shift++ {
			text := strings.Repeat("-", s.keep()+seekBuffer+shift) + secret + "-"
			if found, err := s.inReader(t.Context(), strings.NewReader(text)); err != nil || found == nil {
				t.Errorf("%q at %d: got %v, %v", secret, shift, found, err)
			}
			text = strings.Repeat("x", s.keep()+seekBuffer+shift) + secret + "x"
			if found, err := s.inReader(t.Context(), strings.NewReader(text)); err != nil || (found == nil) != (secret == "1234") {
				t.Errorf("%q in a word at %d: got %v, %v", secret, shift, found, err)
			}
		}
	}
}

func TestSeekerTree(t *testing.T) {
	for name, test := range map[string]struct {
		make func(dir string) error
		want string
	}{
		"nothing": {func(dir string) error { return os.WriteFile(dir+"/a/f", []byte("clean"), 0o644) }, ""},
		"a file":  {func(dir string) error { return os.WriteFile(dir+"/a/f", []byte(leakSecret), 0) }, "/a/f"},
		"after a hole": {func(dir string) error {
			f, err := os.Create(dir + "/a/f")
			if err == nil {
				_, err = f.WriteAt([]byte(leakSecret), 1<<40)
			}
			return err
		}, "/a/f"},
		"a name": {func(dir string) error { return os.Mkdir(dir+"/a/s3same-open", 0o755) }, "the name of a file in /a"},
		"a link": {func(dir string) error { return os.Symlink(leakSecret, dir+"/a/l") }, "/a/l"},
		"a pipe": {func(dir string) error { return unix.Mkfifo(dir+"/a/p", 0o644) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := test.make(dir); err != nil {
				t.Fatal(err)
			}
			s := newSeeker(map[string][]byte{"key": []byte(leakSecret), "name": []byte("s3same-open")})
			leak, err := s.inTree(t.Context(), dir)
			if err != nil {
				t.Skip(err) // a file system of small files
			}
			got := ""
			if leak != nil {
				got = leak.Where
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestSeekerConfig(t *testing.T) {
	var c image.Config
	c.Config.Env = []string{"A=clean"}
	if leak := seekerFor(leakSecret).inConfig(&c); leak != nil {
		t.Errorf("got %v", leak)
	}
	c.Config.Labels = map[string]string{"x": leakSecret}
	if leak := seekerFor(leakSecret).inConfig(&c); leak == nil || strings.Contains(leak.Error(), leakSecret) {
		t.Errorf("got %v", leak)
	}
}

// TestMaskFinds is about what is told of an output, whether or not it can be masked.
func TestMaskFinds(t *testing.T) {
	const token = "ghp_0123456789abcdefGHIJKLMNOPqrstuvwxyz"
	text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 30) + token))
	text = text[:64] + "\n" + text[64:] + "\n"
	for name, test := range map[string]struct {
		text string
		want bool
	}{
		"nothing":         {"hello\n", false},
		"itself":          {"x" + token, true},
		"base64 in lines": {text, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{1, 7, len(test.text)} {
				var out bytes.Buffer
				m := newMask(&out, map[string][]byte{"key": []byte(token)})
				for text := []byte(test.text); len(text) > 0; text = text[min(step, len(text)):] {
					if _, err := m.Write(text[:min(step, len(text))]); err != nil {
						t.Fatal(err)
					}
				}
				if err := m.Flush(); err != nil {
					t.Fatal(err)
				}
				if got := m.found != nil; got != test.want {
					t.Errorf("in steps of %d: found %v", step, got)
				}
				if strings.Contains(out.String(), text[48:64]) {
					t.Errorf("in steps of %d: %q is shown", step, out.String())
				}
			}
		})
	}
}

func TestMask(t *testing.T) {
	key := strings.Repeat("line of a key\n", 200) + "the last line"
	for name, test := range map[string]struct{ secret, text, want string }{
		"none":        {"", "hello\n", "hello\n"},
		"a word":      {leakSecret, "pw " + leakSecret + "!\n", "pw ***!\n"},
		"twice":       {leakSecret, leakSecret + leakSecret, "******"},
		"base64":      {leakSecret, "x " + base64.StdEncoding.EncodeToString([]byte(leakSecret))[:21] + " y", "x *** y"},
		"a beginning": {leakSecret, leakSecret[:8], leakSecret[:8]},
		"short":       {"1234", "pin 1234", "pin ***"},
		"a long one":  {key, key, strings.Repeat("***\n", 200) + "***"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{1, 7, len(test.text)} {
				var out bytes.Buffer
				m := newMask(&out, map[string][]byte{"key": []byte(test.secret)})
				for text := []byte(test.text); len(text) > 0; text = text[min(step, len(text)):] {
					if _, err := m.Write(text[:min(step, len(text))]); err != nil {
						t.Fatal(err)
					}
				}
				if err := m.Flush(); err != nil {
					t.Fatal(err)
				}
				if name != "a long one" && out.String() != test.want || strings.Contains(out.String(), "line of a key") {
					t.Errorf("in steps of %d: got %q, want %q", step, out.String(), test.want)
				}
			}
		})
	}
}
