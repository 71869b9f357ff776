package hosts

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Places says where the files are.
type Places struct {
	// Registries is a registries.conf that must be there; empty if there need be none.
	Registries string
	// Maybe is a registries.conf that counts if it is there and Registries is empty.
	Maybe []string
	// DropIns are the directories with more of them, of which later ones count more.
	DropIns []string
	// Certs are directories that have one for each host, with hosts.toml or certificates. The first that knows a host counts.
	Certs []string
}

// DefaultPlaces gives the usual places: those of the user, then those of the system. getenv gives the environment.
func DefaultPlaces(getenv func(string) string) Places {
	config := getenv("XDG_CONFIG_HOME")
	if home := getenv("HOME"); !filepath.IsAbs(config) && filepath.IsAbs(home) {
		config = filepath.Join(home, ".config")
	}
	var p Places
	p.Registries = getenv("CONTAINERS_REGISTRIES_CONF")
	system := "/etc/containers/registries.conf"
	p.DropIns = []string{system + ".d"}
	if filepath.IsAbs(config) {
		user := filepath.Join(config, "containers/registries.conf")
		p.Maybe = append(p.Maybe, user)
		p.DropIns = append(p.DropIns, user+".d")
		for _, of := range []string{"containerd", "docker", "containers"} {
			p.Certs = append(p.Certs, filepath.Join(config, of, "certs.d"))
		}
		if _, err := os.Stat(user); err == nil && p.Registries == "" {
			p.DropIns = []string{user + ".d"} // who has a file of their own does not see the system's
		}
	}
	p.Maybe = append(p.Maybe, system)
	if dir := getenv("CONTAINERS_REGISTRIES_CONF_DIR"); dir != "" {
		p.DropIns = []string{dir}
	}
	p.Certs = append(p.Certs, "/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d")
	if dirs := getenv("OCIBUILD_CERTS_DIR"); dirs != "" {
		p.Certs = filepath.SplitList(dirs)
	}
	return p
}

// readRegistries reads all registries.conf.
func (p Places) readRegistries() (*registries, error) {
	all := &registries{}
	files := p.Maybe
	if p.Registries != "" {
		files = []string{p.Registries}
	}
	for _, file := range files {
		one, err := readRegistries(file)
		if missing(err) && p.Registries == "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = one
		break
	}
	for _, dir := range p.DropIns {
		files, err := dropIns(dir)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			one, err := readRegistries(file)
			if err != nil {
				return nil, err
			}
			all.add(one)
		}
	}
	return all, nil
}

// dropIns lists the files of a directory by name.
func dropIns(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fileError(dir, err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".conf") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

// hostsFile finds the hosts.toml of a host: its own, else the one for all that have none.
func (p Places) hostsFile(host string) (string, error) {
	for _, names := range [][]string{hostDirs(host), {"_default"}} {
		for _, root := range p.Certs {
			for _, name := range names {
				file := filepath.Join(root, name, "hosts.toml")
				info, err := os.Stat(file)
				switch {
				case err == nil && info.Size() > 0:
					return file, nil
				case err != nil && !missing(err):
					return "", fileError(file, err)
				}
			}
			if names[0] != "_default" && hasDir(root, names) {
				return "", nil // it has certificates there, and no hosts.toml
			}
		}
	}
	return "", nil
}

func hasDir(root string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		info, err := os.Stat(filepath.Join(root, name))
		return err == nil && info.IsDir()
	})
}

// hostDirs are the names that the directory of a host may have.
func hostDirs(host string) []string {
	if i := strings.LastIndexByte(host, ':'); i > 0 && !strings.HasSuffix(host, "]") {
		return []string{host[:i] + "_" + host[i+1:] + "_", host}
	}
	return []string{host}
}

// certificates reads what certs.d has for a host: authorities in *.crt, and a client's certificates in *.cert, each beside its *.key.
func (p Places) certificates(host string) (TLS, error) {
	for _, root := range p.Certs {
		for _, name := range hostDirs(host) {
			dir := filepath.Join(root, name)
			entries, err := os.ReadDir(dir)
			if err != nil && !missing(err) {
				return TLS{}, fileError(dir, err)
			}
			if t, err := certificatesIn(dir, entries); err != nil || len(t.CAs)+len(t.Pairs) > 0 {
				return t, err
			}
		}
	}
	return TLS{}, nil
}

func certificatesIn(dir string, entries []fs.DirEntry) (TLS, error) {
	var t TLS
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		base, ext := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())), filepath.Ext(e.Name())
		switch {
		case ext == ".crt":
			t.CAs = append(t.CAs, file)
		case ext == ".cert" && !has(base+".key"):
			return t, &Error{File: file, Message: "its key " + base + ".key is missing", Hint: "authorities have names that end in .crt"}
		case ext == ".key" && !has(base+".cert"):
			return t, &Error{File: file, Message: "its certificate " + base + ".cert is missing"}
		case ext == ".cert":
			t.Pairs = append(t.Pairs, [2]string{file, filepath.Join(dir, base+".key")})
		}
	}
	return t, nil
}

// missing says that a file is not there, or is where this user may not even look.
func missing(err error) bool {
	if err == nil {
		return false
	}
	return isAny(err, fs.ErrNotExist, fs.ErrPermission)
}
