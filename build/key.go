package build

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/opencontainers/go-digest"
)

// Every recipe of a key stands in this file. A key is made of what the step
// can see and of nothing else; fields are named and framed by cache.Hasher,
// and the trail it keeps is stored in the step's record. A change to any
// recipe must bump recipeVersion.
const recipeVersion = 6

func newHasher(kind string) *cache.Hasher {
	h := cache.NewHasher(kind)
	h.Int("recipe", recipeVersion)
	return h
}

// runKey identifies a RUN: the content below it, the command as it will be
// executed, and the environment it sees. Proxy settings and the addresses of hosts
// are not part of it.
func runKey(parent []digest.Digest, p runProcess) (cache.Key, cache.Trail) {
	h := newHasher("run")
	h.Strings("command", p.args)
	h.String("script", p.script)
	for _, e := range p.env {
		name, value, _ := strings.Cut(e, "=")
		h.String("env "+name, value)
	}
	h.String("user", p.user)
	h.String("workdir", p.cwd)
	h.String("network", p.network)
	h.Bool("insecure", p.insecure)
	h.Strings("devices", deviceNames(p.devices))
	h.String("hostname", p.hostname)
	hosts, limits := p.shared.identity()
	h.Strings("hosts", hosts)
	h.Strings("limits", limits)
	h.Int("shm", p.shared.ShmSize)
	for name, values := range p.shared.security() {
		h.Strings(name, values)
	}
	for _, m := range p.mounts {
		h.Strings("mount "+m.target, m.identity())
	}
	h.String("platform", p.platform)
	contents(h, parent)
	return h.Sum()
}

// contents adds a root filesystem: the contents of its layers, not how they came to be.
func contents(h *cache.Hasher, layers []digest.Digest) {
	list := make([]string, len(layers))
	for i, d := range layers {
		list[i] = string(d)
	}
	h.Strings("parent", list)
}

// transferKey identifies a COPY or ADD: the selected files, and where and how
// they land. Of the tree below only what decides that is part of it.
func transferKey(t *transfer, sources digest.Digest, s spot) (cache.Key, cache.Trail) {
	h := newHasher("copy")
	h.String("destination", t.dest)
	h.String("chown", s.Owner)
	h.String("chmod", t.chmod.text)
	h.Bool("link", t.link)
	h.Bool("unpack", t.unpack)
	for _, d := range t.docs {
		h.String("document "+d.name, d.body)
	}
	facts(h, s.Facts)
	h.Digest("sources", sources)
	return h.Sum()
}

// workdirKey identifies a WORKDIR: the directory, whose it becomes, what of the
// way there exists, and the time it gets if that is set.
func workdirKey(dir string, s spot, epoch *time.Time) (cache.Key, cache.Trail) {
	h := newHasher("workdir")
	h.String("directory", dir)
	if epoch != nil {
		h.String("time", unixText(epoch))
	}
	h.String("owner", s.Owner)
	facts(h, s.Facts)
	return h.Sum()
}

func facts(h *cache.Hasher, facts map[string]string) {
	for _, p := range slices.Sorted(maps.Keys(facts)) {
		h.String("base /"+p, facts[p])
	}
}

// spotKey identifies the question where a transfer lands on a tree.
func spotKey(parent []digest.Digest, t *transfer, sources digest.Digest) cache.Key {
	h := newHasher("spot")
	contents(h, parent)
	h.String("destination", t.dest)
	h.String("chown", t.chown)
	h.Int("parents", t.chmod.parents())
	h.Bool("unpack", t.unpack)
	for _, d := range t.docs {
		h.String("document", d.name)
	}
	h.Digest("sources", sources)
	key, _ := h.Sum()
	return key
}

// workdirSpotKey identifies the question what of a WORKDIR exists.
func workdirSpotKey(parent []digest.Digest, dir, user string) cache.Key {
	h := newHasher("workdir-spot")
	contents(h, parent)
	h.String("directory", dir)
	h.String("user", user)
	key, _ := h.Sum()
	return key
}

// sourcesKey identifies the question what the sources of a COPY --from select.
func sourcesKey(from []digest.Digest, t *transfer) cache.Key {
	h := newHasher("sources")
	contents(h, from)
	h.Strings("sources", paths(t.sources))
	h.Strings("exclude", t.exclude)
	h.Bool("parents", t.parents)
	key, _ := h.Sum()
	return key
}

// contentKey identifies a layer's content, for early cut-off: a step that
// gives what some step gave before gives that very layer.
func contentKey(content digest.Digest) cache.Key {
	h := newHasher("content")
	h.Digest("content", content)
	key, _ := h.Sum()
	return key
}

// selectionDigest identifies what a selection holds: the names that decide
// where it lands, types, modes, owners, links, devices, attributes and bytes;
// no times.
func selectionDigest(s *selection) digest.Digest {
	f := framer{h: sha256.New()}
	for _, m := range s.matches {
		f.text("match")
		f.text(lastName(m.name))
		for _, text := range m.whole {
			f.text(text)
		}
		if m.whole != nil {
			continue
		}
		groups := linkGroups(m)
		for _, it := range m.items {
			e := it.entry
			f.text(it.rel)
			if it.passing {
				f.text("passing")
			}
			f.number(int64(e.Type), e.Mode, int64(e.UID), int64(e.GID), e.Size, e.Devmajor, e.Devminor, groups[it.link])
			f.text(e.Linkname)
			f.text(string(it.digest))
			for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
				f.text(k)
				f.text(e.Xattrs[k])
			}
		}
	}
	return digest.NewDigestFromBytes(digest.SHA256, f.h.Sum(nil))
}

// linkGroups numbers the groups of hard links within a match from 1, by first
// appearance. A file whose other names are not selected stands alone: 0.
func linkGroups(m match) map[string]int64 {
	seen := map[string]bool{}
	groups := map[string]int64{}
	for _, it := range m.items {
		switch {
		case it.link == "":
		case !seen[it.link]:
			seen[it.link] = true
		case groups[it.link] == 0:
			groups[it.link] = int64(len(groups)) + 1
		}
	}
	return groups
}

func lastName(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }

// framer hashes texts and numbers with their lengths.
type framer struct {
	h   hash.Hash
	buf []byte
}

func (f *framer) text(s string) {
	f.buf = binary.BigEndian.AppendUint64(f.buf[:0], uint64(len(s)))
	f.buf = append(f.buf, s...)
	f.h.Write(f.buf)
}

func (f *framer) number(list ...int64) {
	f.buf = f.buf[:0]
	for _, n := range list {
		f.buf = binary.BigEndian.AppendUint64(f.buf, uint64(n))
	}
	f.h.Write(f.buf)
}
