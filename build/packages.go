package build

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// call is a command of a script, taken apart.
type call struct {
	program string   // without its directory
	verb    string   // the first word that is no option
	args    []string // the words behind the verb that are no options
	options []string // everywhere
	words   []string // all of it
}

// pythonPip is how pip is called as a module.
var pythonPip = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^python[0-9.]*$`) })

func newCall(words []string) call {
	c := call{program: path.Base(words[0]), words: words}
	rest := words[1:]
	if pythonPip().MatchString(c.program) && len(rest) > 1 && rest[0] == "-m" && rest[1] == "pip" {
		c.program, rest = "pip", rest[2:]
	}
	for i := 0; i < len(rest); i++ {
		switch w := rest[i]; {
		case strings.HasPrefix(w, "-"):
			c.options = append(c.options, w)
			if c.takesValue(w) && i+1 < len(rest) {
				i++
				c.options = append(c.options, rest[i])
			}
		case c.verb == "":
			c.verb = w
		default:
			c.args = append(c.args, w)
		}
	}
	return c
}

// takesValue tells of options before a verb whose value is a word of its own.
func (c call) takesValue(option string) bool {
	switch c.manager() {
	case "apt":
		return slices.Contains([]string{"-o", "-t", "-c", "--option", "--target-release"}, option)
	case "apk":
		return slices.Contains([]string{"-X", "-p", "-t", "--repository", "--root", "--virtual"}, option)
	case "pip":
		return slices.Contains([]string{"-r", "-c", "-i", "--requirement", "--constraint", "--index-url", "--extra-index-url"}, option)
	}
	return false
}

// has tells whether a call has one of some options; a long one may have "=" and
// a value behind it.
func (c call) has(options ...string) bool {
	return slices.ContainsFunc(c.options, func(o string) bool {
		name, _, _ := strings.Cut(o, "=")
		return slices.Contains(options, name)
	})
}

var pip = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^pip[0-9.]*$`) })

// manager is the package manager that a call is of, or "".
func (c call) manager() string {
	switch c.program {
	case "apt", "apt-get", "aptitude":
		return "apt"
	case "dnf", "yum", "microdnf", "tdnf", "dnf5":
		return "dnf"
	case "apk", "npm", "yarn", "pnpm", "bun", "bundle", "composer", "cargo", "go":
		return c.program
	}
	if pip().MatchString(c.program) {
		return "pip"
	}
	return ""
}

// system tells whether the call is of a package manager of the distribution.
func (c call) system() bool { return slices.Contains([]string{"apt", "apk", "dnf"}, c.manager()) }

// install is what a call installs that depends on few files of the context.
type install struct {
	call
	// manifests are those files; none for packages of the distribution.
	manifests string
}

// installs tells whether a call installs what a few files list, or packages of
// the distribution.
func (c call) installs() (install, bool) {
	rule, ok := installers[c.manager()]
	if !ok || !rule.fits(c) {
		return install{}, false
	}
	in := install{c, rule.manifests}
	if c.manager() == "pip" {
		in.manifests = c.optionValue("-r", "--requirement")
	}
	return in, !strings.ContainsAny(in.manifests, "$`")
}

// installers is how package managers are told to install, and what they read.
var installers = map[string]struct {
	manifests string
	fits      func(call) bool
}{
	"apt":  {"", call.installsPackages},
	"apk":  {"", call.installsPackages},
	"dnf":  {"", call.installsPackages},
	"npm":  {"package.json package-lock.json", func(c call) bool { return c.only("ci", "clean-install", "install", "i") && !c.has("-g", "--global") }},
	"yarn": {"package.json yarn.lock", func(c call) bool { return c.only("install") || c.bare() }},
	"pnpm": {"package.json pnpm-lock.yaml", func(c call) bool { return c.only("install", "i") && !c.has("-g", "--global") }},
	"bun":  {"package.json bun.lock", func(c call) bool { return c.only("install") }},
	"pip": {"", func(c call) bool {
		return c.only("install") && c.optionValue("-r", "--requirement") != "" && !c.has("-e", "--editable")
	}},
	"go":       {"go.mod go.sum", func(c call) bool { return c.verb == "mod" && slices.Equal(c.args, []string{"download"}) }},
	"bundle":   {"Gemfile Gemfile.lock", func(c call) bool { return c.only("install") }},
	"composer": {"composer.json composer.lock", func(c call) bool { return c.only("install") }},
	"cargo":    {"Cargo.toml Cargo.lock", func(c call) bool { return c.verb == "build" || c.verb == "fetch" }},
}

// only tells whether a call is of one of some verbs, without arguments.
func (c call) only(verbs ...string) bool { return slices.Contains(verbs, c.verb) && len(c.args) == 0 }

// bare tells whether a call has no verb and asks for no help.
func (c call) bare() bool { return c.verb == "" && !c.has("-v", "--version", "-h", "--help") }

func (c call) installsPackages() bool {
	verbs := []string{"install", "add", "upgrade", "dist-upgrade", "full-upgrade", "groupinstall"}
	return slices.Contains(verbs, c.verb) && !slices.ContainsFunc(c.words, isFileOrUnknown)
}

// optionValue is the value of an option, as a word of its own, behind "=", or
// right behind a single letter.
func (c call) optionValue(names ...string) string {
	for i, o := range c.options {
		for _, name := range names {
			value, joined := strings.CutPrefix(o, name)
			switch {
			case o == name && i+1 < len(c.options):
				return c.options[i+1]
			case joined && strings.HasPrefix(value, "="):
				return value[1:]
			case joined && !strings.HasPrefix(name, "--") && value != "":
				return value
			}
		}
	}
	return ""
}

// isFileOrUnknown tells of a word that may name a file of the context, or that
// only the shell knows.
func isFileOrUnknown(word string) bool {
	if strings.ContainsAny(word, "$`") {
		return true
	}
	return !strings.HasPrefix(word, "-") && strings.HasPrefix(word, ".") || strings.HasPrefix(word, "/") && !strings.HasPrefix(word, "/usr/bin/") ||
		slices.Contains([]string{".deb", ".rpm", ".apk"}, path.Ext(word))
}

// harmless are programs that make no manifest and read no file of the context,
// so that what follows them could as well stand before the context is copied.
var harmless = []string{
	"rm", "set", "echo", "true", ":", "export", "mkdir", "cd", "ldconfig", "useradd", "groupadd", "adduser", "addgroup",
	"locale-gen", "corepack", "update-ca-certificates", "test", "[",
}

// independent tells whether a call does nothing that an installation after it
// could depend on, other than what package managers do themselves.
func (c call) independent() bool {
	if _, ok := c.installs(); ok {
		return true
	}
	switch c.manager() {
	case "apt", "apk", "dnf":
		return !slices.ContainsFunc(c.words, isFileOrUnknown)
	case "npm", "yarn", "pnpm", "bundle", "composer", "go":
		return slices.Contains([]string{"config", "env", "cache"}, c.verb)
	case "pip":
		return c.verb == "install" && !slices.ContainsFunc(c.args, isFileOrUnknown) || c.verb == "config"
	}
	return slices.Contains(harmless, c.program)
}

// leftover is what a script leaves in a layer that nobody needs there.
type leftover struct{ by, what, instead string }

// leftovers tells what a script leaves behind. mounted tells whether something
// is mounted at a path or above it, env what the script's environment sets.
func leftovers(script string, calls []call, mounted func(string) bool, env func(string) bool) []leftover {
	var out []leftover
	for _, rule := range leftoverRules {
		i := slices.IndexFunc(calls, rule.leaves)
		cleans := func(word string) bool { return strings.Contains(script, word) }
		if i < 0 || slices.ContainsFunc(rule.cleaned, cleans) || slices.ContainsFunc(rule.paths, mounted) || slices.ContainsFunc(rule.env, env) {
			continue
		}
		c := calls[i]
		out = append(out, leftover{by: strings.TrimSpace(c.program + " " + c.verb), what: rule.what, instead: rule.instead})
	}
	return out
}

// leftoverRules is what package managers leave, and what keeps it out.
var leftoverRules = []struct {
	leaves  func(call) bool
	what    string
	cleaned []string // words of a script that clean up
	paths   []string // where a mount keeps it out
	env     []string // variables that keep it out
	instead string
}{
	{
		leaves: func(c call) bool { return c.manager() == "apt" && c.verb == "update" }, what: "the package lists",
		cleaned: []string{"var/lib/apt", "var/lib/{", "distclean", "dist-clean"}, paths: []string{"/var/lib/apt/lists"},
		instead: "end the step with && rm -rf /var/lib/apt/lists/*, or keep them in RUN --mount=type=cache,target=/var/lib/apt,sharing=locked",
	},
	{
		leaves: func(c call) bool {
			return c.manager() == "apk" && slices.Contains([]string{"add", "update", "upgrade"}, c.verb) && !c.has("--no-cache")
		},
		what:    "the package index",
		cleaned: []string{"var/cache/apk", "var/cache/*", "etc/apk/cache"}, paths: []string{"/var/cache/apk", "/etc/apk/cache"},
		instead: "write apk add --no-cache, without apk update",
	},
	{
		leaves: func(c call) bool {
			return c.manager() == "dnf" && slices.Contains([]string{"install", "update", "upgrade", "groupinstall", "module", "makecache"}, c.verb)
		},
		what:    "its cache",
		cleaned: []string{"clean all", "clean -", "clean metadata", "clean expire", "var/cache"}, paths: []string{"/var/cache/dnf", "/var/cache/yum", "/var/cache/libdnf5"},
		instead: "end the step with && dnf clean all (or yum, microdnf), or keep it in RUN --mount=type=cache,target=/var/cache/dnf,sharing=locked",
	},
	{
		leaves: func(c call) bool {
			return c.manager() == "pip" && c.verb == "install" && !c.has("--no-cache-dir", "--no-cache", "--cache-dir")
		},
		what:    "what it downloaded",
		cleaned: []string{".cache", "cache purge", "PIP_NO_CACHE_DIR", "--cache-dir"}, paths: []string{"/root/.cache/pip"},
		env:     []string{"PIP_NO_CACHE_DIR", "PIP_CACHE_DIR", "XDG_CACHE_HOME"},
		instead: "write pip install --no-cache-dir, or keep it in RUN --mount=type=cache,target=/root/.cache/pip",
	},
}
