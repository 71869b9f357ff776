package parser

import (
	"encoding/csv"
	"slices"
	"strconv"
	"strings"
)

// Mount is one --mount of a RUN. Parse only reads where it is from: until
// Expand the other texts are as they are written, valid or not, and numbers and
// switches are unset. A mount that nobody expands, in a stage that is not built,
// may be wrong, as with BuildKit.
type Mount struct {
	Type     string // "bind", "cache", "tmpfs", "secret" or "ssh" once it is expanded
	From     string // a stage or image; never holds variables
	Source   string
	Target   string
	ID       string
	Sharing  string // "shared", "private", "locked" or empty; cache alone
	Env      string // the variable a secret goes into, or empty
	ReadOnly bool   // what the options say, else the type's default
	Required bool   // secret and ssh alone
	Size     int64  // of a tmpfs in bytes; 0 is no limit
	Mode     *uint32
	UID, GID *uint32
	Raw      string // the whole value of the flag, as written
}

// Expand gives the mount with every option's value expanded by word, and
// refuses what is not valid then. It must be called even when no variable is
// in sight: it also takes quotes away. Its errors have no place.
func (m Mount) Expand(word func(string) (string, error)) (Mount, error) {
	return parseMount(m.Raw, word)
}

// mountTypes, mountSharing and mountKeys are what an option may be; each key's
// other names follow it.
var (
	mountTypes   = []string{"bind", "cache", "tmpfs", "secret", "ssh"}
	mountSharing = []string{"shared", "private", "locked"}
	mountKeys    = []string{
		"type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro",
		"readwrite", "rw", "id", "sharing", "required", "size", "mode", "uid", "gid", "env",
	}
)

// mountParser reads the options of one mount.
type mountParser struct {
	Mount
	word   func(string) (string, error) // nil while variables are not known
	access bool                         // ro or rw is given
}

func parseMount(raw string, word func(string) (string, error)) (Mount, error) {
	fields, err := csvFields(raw)
	if err != nil {
		return Mount{}, refuse("write --mount=type=..,target=..", "bad mount %q: %v", raw, err)
	}
	p := &mountParser{Mount: Mount{Type: "bind", Raw: raw}, word: word}
	for _, field := range fields {
		if err := p.field(field); err != nil {
			return Mount{}, err
		}
	}
	if word == nil {
		return p.Mount, nil
	}
	if !p.access {
		p.ReadOnly = p.Type != "cache" && p.Type != "tmpfs"
	}
	return p.Mount, p.check()
}

// csvFields splits a flag's value at commas; a field that holds one is put in
// double quotes.
func csvFields(value string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(value))
	fields, err := r.Read()
	if err != nil {
		return nil, err
	}
	return fields, nil
}

func (p *mountParser) field(field string) error {
	key, value, valued := strings.Cut(field, "=")
	key = strings.ToLower(key)
	switch {
	case p.word == nil:
		return p.written(key, value)
	case !slices.Contains(mountKeys, key) && !valued:
		return refuse(didYouMean(key, mountKeys), "invalid field '%s' must be a key=value pair", field)
	case !slices.Contains(mountKeys, key):
		return refuse(didYouMean(key, mountKeys), "unexpected key '%s' in '%s'", key, field)
	case !valued:
		return p.bare(key)
	}
	value, err := p.word(value)
	if err != nil {
		return err
	}
	return p.option(key, value)
}

// written takes an option whose variables are not known yet.
func (p *mountParser) written(key, value string) error {
	if i := strings.IndexByte(value, '$'); key == "from" && i >= 0 && i != len(value)-1 {
		return refuse("FROM may use a variable: give the image a stage of its own and name that",
			"'from' doesn't support variable expansion, define alias stage instead")
	}
	p.keep(key, value)
	return nil
}

// bare takes an option without a value.
func (p *mountParser) bare(key string) error {
	switch key {
	case "readonly", "ro", "readwrite", "rw", "required":
		return p.toggle(key, "true")
	}
	return refuse("write "+key+"=<value>", "invalid field '%s' must be a key=value pair", key)
}

// keep notes a text.
func (p *mountParser) keep(key, value string) {
	if s := p.text(key); s != nil {
		*s = value
	}
}

// text gives the field that holds a key's value as it is.
func (p *mountParser) text(key string) *string {
	switch key {
	case "type":
		return &p.Type
	case "from":
		return &p.From
	case "source", "src":
		return &p.Source
	case "target", "dst", "destination":
		return &p.Target
	case "id":
		return &p.ID
	case "sharing":
		return &p.Sharing
	case "env":
		return &p.Env
	}
	return nil
}

func (p *mountParser) option(key, value string) error {
	switch key {
	case "type":
		return oneOf(&p.Type, value, mountTypes, "unsupported mount type %q")
	case "sharing":
		return oneOf(&p.Sharing, value, mountSharing, "unsupported sharing value %q")
	case "env":
		if value == "" {
			return refuse("write env=<variable>", "a secret's env needs a variable's name")
		}
	case "readonly", "ro", "readwrite", "rw", "required":
		return p.toggle(key, value)
	case "size":
		return p.size(value)
	case "mode":
		return number(&p.Mode, key, value, 8)
	case "uid":
		return number(&p.UID, key, value, 10)
	case "gid":
		return number(&p.GID, key, value, 10)
	}
	p.keep(key, value)
	return nil
}

func oneOf(into *string, value string, words []string, format string) error {
	word := strings.ToLower(value)
	if !slices.Contains(words, word) {
		return refuse(didYouMean(word, words), format, value)
	}
	*into = word
	return nil
}

func number(into **uint32, key, value string, base int) error {
	n, err := strconv.ParseUint(value, base, 32)
	if err != nil {
		kind := "a number"
		if base == 8 {
			kind = "octal, as in 0755"
		}
		return refuse(key+" is "+kind, "invalid value %s for %s", value, key)
	}
	v := uint32(n)
	*into = &v
	return nil
}

func (p *mountParser) toggle(key, value string) error {
	if key == "required" && p.Type != "secret" && p.Type != "ssh" {
		return p.misplaced(key, "secret and ssh mounts alone can be missing")
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return refuse("true or false", "invalid value for %s: %s", key, value)
	}
	switch key {
	case "required":
		p.Required = on
	case "readonly", "ro":
		p.ReadOnly, p.access = on, true
	default:
		p.ReadOnly, p.access = !on, true
	}
	return nil
}

// misplaced refuses a key that the type that stands before it does not have.
func (p *mountParser) misplaced(key, why string) error {
	return refuse(why+"; type stands before "+key, "unexpected key '%s' for mount type '%s'", key, p.Type)
}

func (p *mountParser) size(value string) error {
	if p.Type != "tmpfs" {
		return p.misplaced("size", "tmpfs mounts alone have a size")
	}
	n, err := ParseSize(value)
	if err != nil {
		return refuse("as in 64m or 1g", "invalid value for size: %s", value)
	}
	p.Size = n
	return nil
}

// check refuses options that do not go together.
func (p *mountParser) check() error {
	if err := p.checkOwner(); err != nil {
		return err
	}
	switch {
	case p.Type == "secret" && p.From != "":
		return refuse("secrets come from the command line", "secret mount should not have a from")
	case p.Type == "secret" && p.Sharing != "":
		return refuse("cache mounts alone are shared", "secret mount should not define sharing")
	case p.Type == "secret" && p.Source == "" && p.Target == "" && p.ID == "":
		return refuse("write id=<name>", "invalid secret mount. one of source, target required")
	case p.Type == "secret" && p.Source != "" && p.ID != "":
		return refuse("source is another word for id here", "both source and id can't be set")
	case p.Sharing != "" && p.Type != "cache":
		return refuse("cache mounts alone are shared", "invalid cache sharing set for %s mount", p.Type)
	}
	return nil
}

func (p *mountParser) checkOwner() error {
	if p.Type != "bind" && p.Type != "tmpfs" {
		return nil
	}
	for _, o := range []struct {
		key   string
		value *uint32
	}{{"mode", p.Mode}, {"uid", p.UID}, {"gid", p.GID}} {
		if o.value != nil {
			return refuse("cache, secret and ssh mounts alone have one", "%s not allowed for %q type mounts", o.key, p.Type)
		}
	}
	return nil
}
