package bench

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// growths are how cost grows with one size: linear in what changed, flat in
// what did not, and flat in memory. Each has a row a size.
var growths = []struct {
	name  string
	unit  string
	sizes []int64
	make  func(p *place, size int64) *job
	cold  bool
}{
	{"files-copied", "file", []int64{1000, 10_000, 100_000}, copyFiles, true},
	{"files-unchanged", "file", []int64{1000, 10_000, 100_000}, keepFiles, false},
	{"files-one-changed", "file", []int64{1000, 10_000, 100_000}, changeFile, false},
	{"MB-copied", "MB", []int64{10, 100, 1000, 10_000}, copyBytes, true},
	{"MB-unchanged", "MB", []int64{10, 100, 1000, 10_000}, keepBytes, false},
	{"steps-run", "step", []int64{10, 100, 500}, runSteps, false},
	{"steps-cached", "step", []int64{10, 100, 500}, keepSteps, false},
	{"layers-below-a-run", "layer", []int64{1, 10, 50, 126}, layersBelow, false},
	{"layers-unchanged", "layer", []int64{1, 10, 50, 126}, layersUnchanged, false},
	{"images-in-the-store", "image", []int64{10, 100, 1000, 10_000}, imagesBeside, false},
}

// BenchmarkGrowth measures ours alone. The floor of each is what a program can
// not do without: for what is unchanged it is the start of the program.
func BenchmarkGrowth(b *testing.B) {
	for _, g := range growths {
		for _, size := range g.sizes {
			name := fmt.Sprintf("%s=%d", g.name, size)
			s := scenario{name: name, cold: g.cold, make: func(p *place) *job {
				j := g.make(p, size)
				j.size, j.unit = size, g.unit
				return j
			}}
			b.Run(name, func(b *testing.B) { s.measureWith(b, ours()) })
		}
	}
}

// start is the least that any run of the program takes.
func start(int) (cost, error) {
	bin, err := binary()
	if err != nil {
		return cost{}, err
	}
	return command{argv: []string{bin, "version"}}.run()
}

func copyFiles(p *place, files int64) *job {
	j := &job{source: source{p.tree("context", int(files), 1000), p.write("Dockerfile", "FROM scratch\nCOPY . /\n")}, run: build}
	j.floor = tarFloor(p, j.context)
	return j
}

func keepFiles(p *place, files int64) *job {
	j := copyFiles(p, files)
	j.prepare = settle
	j.floor = func(int) (cost, error) { return here(func() error { return walk(j.context) }) }
	return j
}

// changeFile has the files in ten directories that are copied one by one; what
// changed is one of them.
func changeFile(p *place, files int64) *job {
	text := "FROM scratch\n"
	for n := range 10 {
		p.tree(fmt.Sprintf("context/part%d", n), int(files)/10, 1000)
		text += fmt.Sprintf("COPY part%d /part%d\n", n, n)
	}
	j := &job{source: source{p.path("context"), p.write("Dockerfile", text)}, prepare: settle, run: build}
	j.floor = tarFloor(p, p.path("context/part9"))
	j.before = func(i int) error {
		return os.WriteFile(filepath.Join(j.context, "part9/d0000/f000000"), fmt.Append(nil, i), 0o600)
	}
	return j
}

func copyBytes(p *place, megabytes int64) *job {
	file := p.file("context/big", megabytes*1e6, true)
	j := &job{source: source{p.path("context"), p.write("Dockerfile", "FROM scratch\nCOPY big /\n")}, run: build}
	j.floor = func(i int) (cost, error) {
		return here(func() error { return fileTo(file, p.path(fmt.Sprintf("floor%d", i))) })
	}
	return j
}

func keepBytes(p *place, megabytes int64) *job {
	j := copyBytes(p, megabytes)
	j.prepare, j.floor = settle, start
	return j
}

func runSteps(p *place, steps int64) *job {
	r, ref, dir := smallBase(p)
	j := &job{registry: r, bases: []string{ref}, source: source{p.tree("context", 1, 1), p.path("Dockerfile")}, prepare: once, run: build}
	j.before = func(i int) error { return os.WriteFile(j.file, chain(ref, steps, i), 0o600) }
	check(p.b, j.before(0))
	j.floor = func(int) (cost, error) { return p.steps(int(steps), dir, "/bin/true") }
	return j
}

func keepSteps(p *place, steps int64) *job {
	j := runSteps(p, steps)
	j.before, j.floor = nil, start
	return j
}

// chain is a Dockerfile of that many steps that run one after the other: stages
// of 100, for no image may have more than 127 layers. Each stage reads a file of
// the one before it.
func chain(ref string, steps int64, turn int) []byte {
	var text []byte
	for n := range steps {
		if n%100 == 0 {
			text = fmt.Appendf(text, "FROM %s AS s%d\n", ref, n/100)
			if n > 0 {
				text = fmt.Appendf(text, "COPY --from=s%d /made /made\n", n/100-1)
			}
		}
		if n%100 == 98 || n == steps-1 {
			text = fmt.Appendf(text, "RUN echo %d.%d > /made\n", turn, n)
			continue
		}
		text = fmt.Appendf(text, "RUN true %d.%d\n", turn, n)
	}
	return text
}

// layersBelow runs one step on an image of that many layers with a file each.
func layersBelow(p *place, layers int64) *job {
	r, ref, dir := smallBase(p)
	j := &job{registry: r, bases: []string{ref}, source: source{p.tree("context", 1, 1), p.path("Dockerfile")}, prepare: once, run: build}
	j.before = func(i int) error {
		text := fmt.Appendf(nil, "FROM %s\n", ref)
		for n := range layers - 1 {
			text = fmt.Appendf(text, "COPY <<EOF /f%d\n%d\nEOF\n", n, n)
		}
		return os.WriteFile(j.file, fmt.Appendf(text, "RUN true %d\n", i), 0o600)
	}
	check(p.b, j.before(0))
	j.floor = func(int) (cost, error) { return p.steps(1, dir, "/bin/true") }
	return j
}

// layersUnchanged is that with nothing to do.
func layersUnchanged(p *place, layers int64) *job {
	j := layersBelow(p, layers)
	j.prepare, j.before, j.floor = settle, nil, start
	return j
}

// imagesBeside rebuilds with nothing to do in a store that has that many other images, a name each.
// They share their layers, as those of one base do.
func imagesBeside(p *place, images int64) *job {
	j := &job{source: source{p.tree("context", 10, 10), p.write("Dockerfile", "FROM scratch\nCOPY . /\n")}, run: build, floor: start}
	j.prepare = func(t turn) error {
		if err := settle(t); err != nil {
			return err
		}
		return addImages(t.store.(ocibuild).root, images)
	}
	return j
}

// addImages adds images to a store as other programs add them to a layout.
func addImages(root string, images int64) error {
	l := layout{root: root}
	var index, manifest, config map[string]any
	l.read(filepath.Join(root, "index.json"), &index)
	if l.err != nil {
		return l.err
	}
	list := index["manifests"].([]any)
	l.read(l.blob(list[0].(map[string]any)["digest"].(string)), &manifest)
	l.read(l.blob(manifest["config"].(map[string]any)["digest"].(string)), &config)
	for n := range images {
		config["author"] = fmt.Sprint(n)
		manifest["config"] = l.put(config, manifest["config"].(map[string]any)["mediaType"])
		d := l.put(manifest, manifest["mediaType"])
		name := fmt.Sprintf("other%d:v%d", n%50, n)
		d["annotations"] = map[string]string{"org.opencontainers.image.ref.name": name, "io.containerd.image.name": "docker.io/library/" + name}
		list = append(list, d)
	}
	index["manifests"] = list
	text, err := json.Marshal(index)
	return errors.Join(l.err, err, os.WriteFile(filepath.Join(root, "index.json"), text, 0o644))
}

// layout reads and writes documents; its first error stays.
type layout struct {
	root string
	err  error
}

func (l *layout) blob(digest string) string {
	return filepath.Join(l.root, "blobs", strings.ReplaceAll(digest, ":", "/"))
}

func (l *layout) read(path string, v any) {
	text, err := os.ReadFile(path)
	l.err = errors.Join(l.err, err, json.Unmarshal(text, v))
}

// put stores a document and describes it.
func (l *layout) put(v, mediaType any) map[string]any {
	text, err := json.Marshal(v)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(text))
	l.err = errors.Join(l.err, err, os.WriteFile(l.blob(digest), text, 0o644))
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(text)}
}
