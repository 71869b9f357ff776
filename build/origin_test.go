package build

import (
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/parser"
)

func TestOrigins(t *testing.T) {
	for text, want := range map[string]string{
		"a":                               "path",
		"/a/*.txt":                        "path",
		"ftp://example.com/a":             "path",
		"HTTP://example.com/a":            "path", // as with BuildKit
		"github.com/a/b":                  "path",
		"http://example.com":              "url __unnamed__",
		"http://example.com/?a=/b":        "url __unnamed__",
		"https://example.com/a/b.tgz?c#d": "url b.tgz",
		"https://example.com/a%20b":       "url a b",
		"https://example.com/a/":          "url a",
		"https://example.com/a/..":        "url download",
		"https://example.com/a%0Ab":       "url download",
		"https://example.com/%zz":         "url __unnamed__",
		"https://example.com/a.git":       "git",
		"git@example.com:a":               "git",
		"ssh://example.com/a":             "git",
	} {
		o, err := originOf(text)
		got := "path"
		switch {
		case o.git != nil:
			got = "git"
		case o.url:
			got = "url " + o.fileName()
		}
		if err != nil || got != want || o.remote() != (want != "path") {
			t.Errorf("%s is %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestFetchedSources(t *testing.T) {
	const sum = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	for instr, want := range map[string]string{
		"ADD --checksum=" + sum + " https://h/a /":                              "",
		"ADD --checksum=$SUM https://h/a /":                                     "", // empty is none
		"ADD --checksum=abc https://h/a.git /":                                  "",
		"ADD --checksum=abc https://h/a.git?commit=abc /":                       "",
		"ADD --keep-git-dir https://h/a.git?keep-git-dir https://h/b.git /":     "",
		"ADD --keep-git-dir a https://h/a /":                                    "",
		"ADD --checksum=" + sum + " https://h/a https://h/b /":                  "multiple sources",
		"ADD --checksum=" + sum + " a /":                                        "requires HTTP(S) or Git sources",
		"ADD --checksum=sha1:abc https://h/a /":                                 "unsupported digest algorithm",
		"ADD --checksum=abc https://h/a /":                                      "invalid checksum digest format",
		"ADD --checksum=sha256:ABC https://h/a /":                               "invalid checksum digest",
		"ADD --checksum=abc https://h/a.git?commit=abd /":                       "checksum mismatch",
		"ADD --keep-git-dir=false https://h/a.git?keep-git-dir /":               "inconsistent keep-git-dir",
		"ADD https://h/a.git?keep-git-dir https://h/b.git?keep-git-dir=false /": "inconsistent keep-git-dir",
		"ADD https://user:hidden@h/a.git?colour=red /":                          "unexpected query",
		"COPY https://h/a /":                                                    "source can't be a URL",
		"COPY git@h:a /":                                                        "source can't be a URL or a git repository",
	} {
		df := dockerfile(t, "FROM scratch\n"+instr+"\n")
		_, err := expandTransfer(scoped{x: parser.Expander{Escape: '\\'}, state: scratchState(amd64().Platform)}, df.Stages[0].Body[0])
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", instr, err, want)
		case err != nil && strings.Contains(err.Error(), "hidden"):
			t.Errorf("%s: the error tells the password: %v", instr, err)
		}
	}
}
