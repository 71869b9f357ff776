package hosts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// registriesFile is a registries.conf as it is written.
type registriesFile struct {
	Registry          []registryTable   `toml:"registry"`
	Unqualified       []string          `toml:"unqualified-search-registries"`
	ShortNameMode     string            `toml:"short-name-mode"`
	CredentialHelpers []string          `toml:"credential-helpers"`
	Aliases           map[string]string `toml:"aliases"`
	Registries        struct {          // version 1
		Search, Insecure, Block struct {
			Registries []string `toml:"registries"`
		}
	} `toml:"registries"`
}

type registryTable struct {
	Prefix             string        `toml:"prefix"`
	Location           string        `toml:"location"`
	Insecure           bool          `toml:"insecure"`
	Blocked            bool          `toml:"blocked"`
	MirrorByDigestOnly bool          `toml:"mirror-by-digest-only"`
	PullFromMirror     string        `toml:"pull-from-mirror"`
	Mirror             []mirrorTable `toml:"mirror"`
}

type mirrorTable struct {
	Location       string `toml:"location"`
	Insecure       bool   `toml:"insecure"`
	PullFromMirror string `toml:"pull-from-mirror"`
}

// registries is what all registries.conf together say.
type registries struct {
	rules []rule
	// unqualified are the registries to search for short names, aliases what short names stand for.
	unqualified []string
	aliases     map[string]string
	helpers     []string
}

// rule is what is said of the repositories whose names begin with prefix.
type rule struct {
	prefix, location string
	insecure         bool
	blocked          bool
	mirrors          []mirror
	file             string
	line             int
}

type mirror struct {
	location string
	insecure bool
	// byTag and byDigest say for which references it may be asked.
	byTag, byDigest bool
}

var (
	searchPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)
	})
	locationPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[a-z0-9._/-]*[a-z0-9])?$`)
	})
)

// readRegistries reads one file.
func readRegistries(file string) (*registries, error) {
	var text registriesFile
	d, err := readTOML(file, &text)
	if err != nil {
		return nil, err
	}
	return d.registries(text)
}

// registries checks and sorts out what a file says.
func (d *document) registries(text registriesFile) (*registries, error) {
	r := &registries{unqualified: text.Unqualified, aliases: text.Aliases, helpers: text.CredentialHelpers}
	for i, table := range text.Registry {
		one, err := d.rule(fmt.Sprintf("registry[%d]", i), table)
		if err != nil {
			return nil, err
		}
		if err := r.agrees(one); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(r.rules, func(o rule) bool { return o.prefix == one.prefix }) { // the first one counts
			r.rules = append(r.rules, one)
		}
	}
	for i, host := range r.unqualified {
		r.unqualified[i] = strings.TrimRight(host, "/")
		if !searchPattern().MatchString(r.unqualified[i]) {
			return nil, d.errorf("unqualified-search-registries", "%q is no registry host", host)
		}
	}
	switch text.ShortNameMode {
	case "", "disabled", "enforcing", "permissive":
	default:
		return nil, d.errorf("short-name-mode", "short-name-mode = %q: it is one of disabled, permissive, enforcing", text.ShortNameMode)
	}
	return r, d.version1(text, r)
}

// version1 adds what the old format says, which nothing else may stand beside.
func (d *document) version1(text registriesFile, r *registries) error {
	old := text.Registries
	if len(old.Search.Registries)+len(old.Insecure.Registries)+len(old.Block.Registries) == 0 {
		return nil
	}
	if len(r.rules) > 0 || r.unqualified != nil || len(r.aliases) > 0 {
		return d.errorf(d.first("registries"), "the file mixes versions 1 and 2 of its format")
	}
	r.unqualified = old.Search.Registries
	tables := map[string]*registryTable{}
	var order []string
	table := func(location string) *registryTable {
		if tables[location] == nil {
			tables[location] = &registryTable{Location: location}
			order = append(order, location)
		}
		return tables[location]
	}
	for _, location := range old.Block.Registries {
		table(location).Blocked = true
	}
	for _, location := range old.Insecure.Registries {
		table(location).Insecure = true
	}
	for _, location := range order {
		one, err := d.rule(d.first("registries"), *tables[location])
		if err != nil {
			return err
		}
		r.rules = append(r.rules, one)
	}
	return nil
}

// first is the key of the first table below a name.
func (d *document) first(name string) string {
	best := ""
	for key, line := range d.lines {
		if strings.HasPrefix(key, name+".") && (best == "" || line < d.lines[best]) {
			best = key
		}
	}
	return best
}

// rule checks one table.
func (d *document) rule(key string, t registryTable) (rule, error) {
	r := rule{insecure: t.Insecure, blocked: t.Blocked, file: d.file, line: d.line(key)}
	var err error
	if r.location, err = d.location(key+".location", t.Location); err != nil {
		return r, err
	}
	r.prefix = r.location
	if t.Prefix != "" {
		r.prefix = strings.TrimRight(t.Prefix, "/")
	}
	switch wild := strings.HasPrefix(r.prefix, "*."); {
	case r.prefix == "":
		return r, d.errorf(key, "the registry has neither a prefix nor a location")
	case strings.Contains(r.prefix, "://"):
		return r, d.errorf(key+".prefix", "prefix = %q: it is written without a scheme", t.Prefix)
	case wild && strings.ContainsAny(r.prefix, "/@:"):
		return r, d.errorf(key+".prefix", "prefix = %q: with a wildcard it looks like *.example.com, without port and path", t.Prefix)
	case !wild && r.location == "" && !r.blocked:
		return r, d.errorf(key, "the registry %q has no location", r.prefix)
	case t.PullFromMirror != "":
		return r, d.errorf(key+".pull-from-mirror", "pull-from-mirror belongs to a mirror, not to the registry")
	}
	for i, m := range t.Mirror {
		one, err := d.mirror(fmt.Sprintf("%s.mirror[%d]", key, i), m, t.MirrorByDigestOnly)
		if err != nil {
			return r, err
		}
		r.mirrors = append(r.mirrors, one)
	}
	return r, nil
}

func (d *document) mirror(key string, t mirrorTable, digestOnly bool) (mirror, error) {
	m := mirror{insecure: t.Insecure, byTag: !digestOnly, byDigest: true}
	var err error
	if m.location, err = d.location(key+".location", t.Location); err != nil {
		return m, err
	}
	switch t.PullFromMirror {
	case "", "all":
	case "digest-only":
		m.byTag = false
	case "tag-only":
		m.byDigest = false
	default:
		return m, d.errorf(key+".pull-from-mirror", "pull-from-mirror = %q: it is one of all, digest-only, tag-only", t.PullFromMirror)
	}
	switch {
	case m.location == "":
		return m, d.errorf(key, "the mirror has no location")
	case digestOnly && t.PullFromMirror != "":
		return m, d.errorf(key+".pull-from-mirror", "pull-from-mirror and the registry's mirror-by-digest-only exclude each other")
	}
	return m, nil
}

// location checks a host, or a host and the beginning of a name.
func (d *document) location(key, text string) (string, error) {
	location := strings.TrimRight(text, "/")
	switch {
	case strings.Contains(location, "://"):
		return "", d.errorf(key, "location = %q: it is written without a scheme; insecure = true allows http", text)
	case location != "" && !locationPattern().MatchString(location):
		return "", d.errorf(key, "location = %q: it looks like example.com:5000/path", text)
	}
	return location, nil
}

// agrees checks that nothing is said of a location that contradicts what was said before.
func (r *registries) agrees(one rule) error {
	for _, other := range r.rules {
		if other.where() != one.where() {
			continue
		}
		for _, c := range []struct {
			what string
			a, b bool
		}{{"insecure", other.insecure, one.insecure}, {"blocked", other.blocked, one.blocked}} {
			if c.a != c.b {
				return &Error{File: one.file, Line: one.line, Message: fmt.Sprintf("%s is %s = %v here and %v in line %d", one.where(), c.what, c.b, c.a, other.line)}
			}
		}
	}
	return nil
}

func (r rule) where() string {
	if r.location == "" {
		return r.prefix
	}
	return r.location
}

// add puts what a file that is read later says over what is there.
func (r *registries) add(o *registries) {
	for _, one := range o.rules {
		i := slices.IndexFunc(r.rules, func(other rule) bool { return other.prefix == one.prefix })
		if i < 0 {
			r.rules = append(r.rules, one)
		} else {
			r.rules[i] = one
		}
	}
	if o.unqualified != nil {
		r.unqualified = o.unqualified
	}
	if len(o.helpers) > 0 {
		r.helpers = o.helpers
	}
	for short, name := range o.aliases {
		if r.aliases == nil {
			r.aliases = map[string]string{}
		}
		r.aliases[short] = name
	}
}

// find gives the rule with the longest prefix that fits a name with its reference.
func (r *registries) find(name string) (found rule, ok bool) {
	for _, one := range r.rules {
		if one.length(name) >= 0 && len(one.prefix) > len(found.prefix) {
			found, ok = one, true
		}
	}
	return found, ok
}

// length says how much of a name the prefix takes; -1 if it does not fit.
func (r rule) length(name string) int {
	if suffix, ok := strings.CutPrefix(r.prefix, "*"); ok {
		host, _, _ := strings.Cut(name, "/")
		bare, _, _ := strings.Cut(host, ":")
		if strings.HasSuffix(bare, suffix) && len(bare) > len(suffix) {
			return len(bare)
		}
		return -1
	}
	rest, ok := strings.CutPrefix(name, r.prefix)
	switch {
	case !ok:
		return -1
	case rest == "", rest[0] == '/':
		return len(r.prefix)
	case strings.Contains(r.prefix, "/") && (rest[0] == ':' || rest[0] == '@'):
		return len(r.prefix)
	}
	return -1
}

// at gives the name that a location has for what the rule fits.
func (r rule) at(location, name string) string {
	if location == "" {
		return name
	}
	return location + name[r.length(name):]
}
