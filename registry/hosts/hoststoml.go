package hosts

import (
	"maps"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// hostTable is what a hosts.toml says of one server.
type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   *bool          `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// hostsFile is a hosts.toml as it is written.
type hostsFile struct {
	hostTable
	Server string               `toml:"server"`
	Host   map[string]hostTable `toml:"host"`
}

// readHosts reads a hosts.toml. It gives the servers that are asked first and, last, the host's own, whose Host is empty if the file
// names none.
func readHosts(file string) ([]Endpoint, error) {
	var text hostsFile
	d, err := readTOML(file, &text)
	if err != nil {
		return nil, err
	}
	return d.endpoints(text)
}

func (d *document) endpoints(text hostsFile) ([]Endpoint, error) {
	order := d.hosts
	for _, host := range slices.Sorted(maps.Keys(text.Host)) { // those that have no table header of their own
		if !slices.Contains(order, host) {
			order = append(order, host)
		}
	}
	var list []Endpoint
	for _, host := range order {
		e, err := d.endpoint("host."+host, host, text.Host[host])
		if err != nil {
			return nil, err
		}
		e.Mirror = true
		list = append(list, e)
	}
	own, err := d.endpoint("", text.Server, text.hostTable)
	return append(list, own), err
}

// endpoint reads one table. The keys of the server itself stand at the top.
func (d *document) endpoint(key, server string, t hostTable) (Endpoint, error) {
	e := Endpoint{Root: "/v2"}
	at := func(name string) string { return joined(key, name) }
	if server != "" {
		if err := d.server(&e, key, server, t.OverridePath); err != nil {
			return e, err
		}
	}
	var err error
	if e.Can, err = d.capabilities(at("capabilities"), t.Capabilities); err != nil {
		return e, err
	}
	if e.TLS, err = d.tls(at, t); err != nil {
		return e, err
	}
	if e.Header, err = d.header(at("header"), t.Header); err != nil {
		return e, err
	}
	if t.DialTimeout != "" {
		e.DialTimeout, err = time.ParseDuration(t.DialTimeout)
		if err != nil || e.DialTimeout < 0 {
			return e, d.errorf(at("dial_timeout"), "dial_timeout = %q: it looks like 500ms or 1s", t.DialTimeout)
		}
	}
	return e, nil
}

// server reads the URL of a server.
func (d *document) server(e *Endpoint, key, server string, override bool) error {
	if key == "" {
		key = "server"
	}
	text := server
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !searchPattern().MatchString(u.Host) || u.User != nil {
		return d.errorf(key, "%q is no server: it looks like https://mirror.example.com", redacted(server))
	}
	e.Scheme, e.Host = u.Scheme, u.Host
	switch {
	case u.Path == "" && override:
		e.Root = ""
	case u.Path != "":
		e.Root = path.Clean(u.Path)
		if !override && !strings.HasSuffix(e.Root, "/v2") {
			e.Root += "/v2"
		}
		e.Root = strings.TrimSuffix(e.Root, "/")
		if strings.HasPrefix(e.Root, "//") {
			e.Root = e.Root[1:]
		}
	}
	return nil
}

// redacted leaves out what may be a password in a URL.
func redacted(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return "..." + s[i:]
	}
	return s
}

func (d *document) capabilities(key string, words []string) (Can, error) {
	var can Can
	for _, word := range words {
		switch strings.ToLower(word) {
		case "pull":
			can |= CanPull
		case "resolve":
			can |= CanResolve
		case "push":
			can |= CanPush
		case "referrers":
			can |= CanReferrers
		default:
			return 0, d.errorf(key, "there is no capability %q: it is one of pull, resolve, push, referrers", word)
		}
	}
	if len(words) == 0 {
		can = canAll
	}
	return can, nil
}

// tls reads ca, client and skip_verify. Files are relative to the directory of hosts.toml.
func (d *document) tls(at func(string) string, t hostTable) (TLS, error) {
	var conf TLS
	conf.SkipVerify = t.SkipVerify != nil && *t.SkipVerify
	var ok bool
	if conf.CAs, ok = d.files(t.CA); !ok {
		return conf, d.errorf(at("ca"), "ca is a file or a list of files")
	}
	wrong := d.errorf(at("client"), "client is a file with certificate and key, a list of such files, or a list of pairs of a certificate and its key")
	if one, ok := t.Client.(string); ok {
		t.Client = []any{one}
	}
	list, ok := t.Client.([]any)
	if !ok && t.Client != nil {
		return conf, wrong
	}
	for _, item := range list {
		files, ok := d.files(item)
		switch {
		case !ok || len(files) == 0 || len(files) > 2:
			return conf, wrong
		case len(files) == 1:
			if _, pair := item.([]any); pair {
				return conf, wrong
			}
			files = append(files, files[0])
		case files[1] == "": // the key is in the same file
			files[1] = files[0]
		}
		conf.Pairs = append(conf.Pairs, [2]string{files[0], files[1]})
	}
	return conf, nil
}

// files reads a file's name or a list of names.
func (d *document) files(v any) ([]string, bool) {
	words, ok := words(v)
	for i, file := range words {
		if file != "" && !filepath.IsAbs(file) {
			words[i] = filepath.Join(filepath.Dir(d.file), file)
		}
	}
	return words, ok
}

// words reads a string or a list of strings.
func words(v any) ([]string, bool) {
	switch v := v.(type) {
	case nil:
		return nil, true
	case string:
		return []string{v}, true
	case []any:
		var list []string
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, false
			}
			list = append(list, s)
		}
		return list, true
	}
	return nil, false
}

func (d *document) header(key string, table map[string]any) (http.Header, error) {
	if len(table) == 0 {
		return nil, nil
	}
	h := http.Header{}
	for name, v := range table {
		values, ok := words(v)
		if !ok {
			return nil, d.errorf(joined(key, name), "the header %s is a string or a list of strings", name)
		}
		for _, value := range values {
			if strings.ContainsAny(name+value, "\r\n\x00") || name == "" {
				return nil, d.errorf(joined(key, name), "the header %q cannot be sent", name)
			}
			h.Add(name, value)
		}
	}
	return h, nil
}
