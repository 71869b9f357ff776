package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// scenarios are what builders are compared in. Aims are ratios to the floor
// where nothing else is said.
var scenarios = []scenario{
	{"S1-noop", "2x + 20 ms, < 0.1 s", false, noop},
	{"S1c-cold-20-steps", "", true, twentySteps},
	{"S2-30-runs", "< 12 ms a step", false, thirtyRuns},
	{"S3a-50k-files-scratch", "1.5x", true, func(p *place) *job { return manyFiles(p, "") }},
	{"S3b-50k-files-busybox", "1.5x", true, func(p *place) *job { return manyFiles(p, "small") }},
	{"S4a-1GiB-random", "1.5x", true, func(p *place) *job { return bigFile(p, true) }},
	{"S4b-1GiB-text", "1.5x", true, func(p *place) *job { return bigFile(p, false) }},
	{"S5-one-file-changed", "< 0.8 s", false, oneFileChanged},
	{"S6-parallel-stages", "< 1.2 s", false, parallelStages},
	{"S7-pull-and-run", "", true, pullAndRun},
	{"S8-build-and-push", "< 8 s", true, buildAndPush},
	{"S8a-first-push", "", true, firstPush},
	{"S8b-push-again", "< 60 ms", false, pushAgain},
	{"S9a-go-project-cold", "1.1x", true, goProject},
	{"S9b-go-line-changed", "1.1x", false, goLineChanged},
	{"S10a-untar-20k-files", "1.3x", false, untar},
	{"S10b-run-on-50k-files", "< 25 ms", false, runOnManyFiles},
}

func BenchmarkBuild(b *testing.B) {
	for _, s := range scenarios {
		b.Run(s.name, s.measure)
	}
}

// build is what most scenarios measure.
func build(t turn) (cost, error) { return t.buildIt() }

// settle builds twice with a pause: files that have just changed are not remembered.
func settle(t turn) error {
	_, first := t.buildIt()
	time.Sleep(3 * time.Second)
	_, second := t.buildIt()
	return errors.Join(first, second)
}

// once builds once, so that bases are unpacked.
func once(t turn) error {
	_, err := t.buildIt()
	return err
}

// twenty is a Dockerfile of 20 steps on a context of 10,000 files.
func twenty(p *place) source {
	s := source{p.tree("context", 10000, 4096), ""}
	text := "FROM scratch\nARG V=1\nENV A=1 B=2\nLABEL x=y\nWORKDIR /app\n"
	for i := range 12 {
		text += fmt.Sprintf("COPY d%04d /app/d%04d\n", i, i)
	}
	s.file = p.write("Dockerfile", text+"COPY . /all\nEXPOSE 80\nCMD [\"/app/run\"]\n")
	return s
}

func noop(p *place) *job {
	s := twenty(p)
	return &job{source: s, prepare: settle, run: build, floor: func(int) (cost, error) {
		return here(func() error { return walk(s.context) })
	}}
}

func twentySteps(p *place) *job {
	s := twenty(p)
	return &job{source: s, run: build, floor: tarFloor(p, s.context)}
}

// tarFloor is a directory as a tar, hashed, in a file.
func tarFloor(p *place, dir string) func(int) (cost, error) {
	return func(i int) (cost, error) {
		return here(func() error { return tarTo(dir, p.path(fmt.Sprintf("floor%d.tar", i)), nil) })
	}
}

// smallBase is a base image with a shell, and its directory.
func smallBase(p *place) (s *server, ref, dir string) {
	s = p.registry()
	dir = p.busybox("small")
	return s, s.base("small", dir, "PATH=/bin"), dir
}

func thirtyRuns(p *place) *job {
	r, ref, dir := smallBase(p)
	j := &job{registry: r, bases: []string{ref}, source: source{p.tree("context", 1, 1), p.path("Dockerfile")}, prepare: once, run: build}
	j.before = func(i int) error {
		text := "FROM " + ref + "\n"
		for n := range 30 {
			text += fmt.Sprintf("RUN true %d.%d\n", i, n) // no two alike: those would be one step
		}
		return os.WriteFile(j.file, []byte(text), 0o600)
	}
	check(p.b, j.before(0))
	j.floor = func(int) (cost, error) { return p.steps(30, dir, "/bin/true") }
	return j
}

func manyFiles(p *place, base string) *job {
	j := &job{source: source{context: p.tree("context", 50000, 8000)}, run: build}
	from := "scratch"
	if base != "" {
		j.registry, from, _ = smallBase(p)
		j.bases = []string{from}
	}
	j.file = p.write("Dockerfile", "FROM "+from+"\nCOPY . /files/\n")
	j.floor = tarFloor(p, j.context)
	return j
}

func bigFile(p *place, random bool) *job {
	big := p.file("context/big", 1<<30, random)
	j := &job{source: source{p.path("context"), p.write("Dockerfile", "FROM scratch\nCOPY big /\n")}, run: build}
	j.floor = func(i int) (cost, error) {
		return here(func() error { return fileTo(big, p.path(fmt.Sprintf("floor%d", i))) })
	}
	return j
}

func oneFileChanged(p *place) *job {
	r, ref, _ := smallBase(p)
	j := &job{registry: r, bases: []string{ref}, source: source{context: p.tree("context", 10000, 4096)}, prepare: settle, run: build}
	text := "FROM " + ref + "\n"
	for i := range 17 {
		text += fmt.Sprintf("COPY d%04d /app/d%04d\n", i, i)
	}
	j.file = p.write("Dockerfile", text+"COPY . /all\nRUN true\n")
	j.before = func(i int) error {
		return os.WriteFile(filepath.Join(j.context, "d0099", "f009999"), []byte(fmt.Sprint(i)), 0o600)
	}
	j.floor = tarFloor(p, j.context)
	return j
}

func parallelStages(p *place) *job {
	r, ref, _ := smallBase(p)
	j := &job{registry: r, bases: []string{ref}, source: source{p.tree("context", 1, 1), p.path("Dockerfile")}, prepare: once, run: build, floor: sleep(time.Second)}
	j.before = func(i int) error {
		text, copies := "", ""
		for n := range 6 {
			text += fmt.Sprintf("FROM %s AS s%d\nRUN sleep 1; echo %d.%d > /out%d\n", ref, n, i, n, n)
			copies += fmt.Sprintf("COPY --from=s%d /out%d /\n", n, n)
		}
		return os.WriteFile(j.file, []byte(text+"FROM "+ref+"\n"+copies), 0o600)
	}
	check(p.b, j.before(0))
	return j
}

// pullAndRun has a base as large as a small distribution: 7,000 files, 110 MB, that compress to half.
func pullAndRun(p *place) *job {
	r := p.registry()
	dir := p.busybox("distribution")
	p.textTree("distribution/usr", 7000, 16000)
	ref := r.base("distribution", dir, "PATH=/bin")
	j := &job{registry: r, source: source{p.tree("context", 1, 1), p.write("Dockerfile", "FROM "+ref+"\nRUN true\n")}, run: build}
	layer := r.layer("distribution")
	j.floor = func(int) (cost, error) { return p.download(layer) }
	return j
}

// pushFloor is a tar of the files, compressed in parallel, and its bare upload.
func pushFloor(p *place, r *server, dir string) func(int) (cost, error) {
	return func(i int) (cost, error) {
		file := p.path(fmt.Sprintf("floor%d.tgz", i))
		return here(func() error {
			return errors.Join(tarTo(dir, file, parallelGzip), r.upload(fmt.Sprintf("floor%d", i), file))
		})
	}
}

func buildAndPush(p *place) *job {
	j := manyFiles(p, "small")
	j.floor = pushFloor(p, j.registry, j.context)
	j.fresh(p)
	j.run = func(t turn) (cost, error) {
		if s, ok := t.store.(streamer); ok {
			return s.buildAndPush(t.source, t.tag)
		}
		built, err := t.buildIt()
		if err != nil {
			return built, err
		}
		pushed, err := t.pushIt()
		return built.plus(pushed), err
	}
	return j
}

// fresh makes each turn's blobs ones that the registry has not seen: one file is another.
func (j *job) fresh(p *place) {
	j.before = func(i int) error {
		return os.WriteFile(filepath.Join(j.context, "d0000", "f000000"), []byte(fmt.Sprint(i)), 0o600)
	}
	check(p.b, j.before(0))
}

func firstPush(p *place) *job {
	j := manyFiles(p, "small")
	j.floor = pushFloor(p, j.registry, j.context)
	n := 0
	j.prepare = func(t turn) error { // cold: before every turn
		n++
		return errors.Join(os.WriteFile(filepath.Join(j.context, "d0000", "f000000"), []byte(fmt.Sprint("a", n)), 0o600), once(t))
	}
	j.run = func(t turn) (cost, error) { return t.pushIt() }
	return j
}

func pushAgain(p *place) *job {
	j := manyFiles(p, "small")
	layer := j.registry.layer("small")
	j.prepare = func(t turn) error {
		_, err := t.buildIt()
		if err != nil {
			return err
		}
		_, err = t.pushIt()
		return err
	}
	j.run = func(t turn) (cost, error) { return t.pushIt() }
	j.floor = func(int) (cost, error) {
		return here(func() error { return j.registry.heads(layer, 2) })
	}
	return j
}

const goProgram = `package main

import (
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
)

func main() {
	fmt.Println("turn %d")
	page := template.Must(template.New("").Parse("{{.}}"))
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_ = page.Execute(w, r.URL)
		_ = json.NewEncoder(w).Encode(r.Header)
	})
	slog.Error(http.ListenAndServe("127.0.0.1:0", nil).Error())
}
`

// goSource is a program in two stages; the toolchain is this machine's own.
func goSource(p *place) (j *job, goroot string) {
	r, small, _ := smallBase(p)
	out, err := exec.Command("go", "env", "GOROOT").Output()
	check(p.b, err)
	p.busybox("golang")
	goroot = p.path("golang/usr/local/go")
	check(p.b, os.MkdirAll(goroot, 0o755))
	from := strings.TrimSpace(string(out))
	for _, part := range []string{"bin", "src", "pkg", "lib", "go.env", "VERSION"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(from, part), goroot).CombinedOutput(); err != nil {
			p.b.Fatalf("copy the toolchain: %v\n%s", err, out)
		}
	}
	golang := r.base("golang", p.path("golang"), "PATH=/usr/local/go/bin:/bin", "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOPROXY=off", "GOCACHE=/cache", "HOME=/tmp")
	p.write("context/go.mod", "module example.org/app\n\ngo 1.24\n")
	j = &job{registry: r, bases: []string{small, golang}, run: build}
	j.context = p.path("context")
	j.file = p.write("Dockerfile", "FROM "+golang+" AS build\nWORKDIR /src\nCOPY go.mod ./\nRUN go mod download\nCOPY . .\n"+
		"RUN --mount=type=cache,target=/cache go build -o /app .\nFROM "+small+"\nCOPY --from=build /app /app\nCMD [\"/app\"]\n")
	j.before = func(i int) error {
		return os.WriteFile(filepath.Join(j.context, "main.go"), fmt.Appendf(nil, goProgram, i), 0o600)
	}
	check(p.b, j.before(0))
	return j, goroot
}

// compile runs the commands of the Dockerfile by hand.
func compile(j *job, goroot, cache string) (cost, error) {
	return command{
		argv: []string{filepath.Join(goroot, "bin/go"), "build", "-o", filepath.Join(cache, "app"), "."}, dir: j.context,
		env: []string{"CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOPROXY=off", "GOFLAGS=", "GOROOT=" + goroot, "GOCACHE=" + cache},
	}.run()
}

func goProject(p *place) *job {
	j, goroot := goSource(p)
	j.floor = func(int) (cost, error) { return compile(j, goroot, p.fresh()) }
	return j
}

func goLineChanged(p *place) *job {
	j, goroot := goSource(p)
	cache := p.fresh()
	_, err := compile(j, goroot, cache)
	check(p.b, err)
	j.prepare = once
	j.floor = func(i int) (cost, error) {
		check(p.b, j.before(-i-1))
		return compile(j, goroot, cache)
	}
	return j
}

func untar(p *place) *job {
	r := p.registry()
	dir := p.busybox("archive")
	files := p.tree("files", 20000, 1000)
	check(p.b, tarTo(files, filepath.Join(dir, "files.tar"), nil))
	ref := r.base("archive", dir, "PATH=/bin")
	j := &job{registry: r, bases: []string{ref}, source: source{p.tree("context", 1, 1), p.path("Dockerfile")}, prepare: once, run: build}
	j.before = func(i int) error {
		return os.WriteFile(j.file, fmt.Appendf(nil, "FROM %s\nRUN mkdir /to%d && tar -xf /files.tar -C /to%d\n", ref, i, i), 0o600)
	}
	check(p.b, j.before(0))
	j.floor = func(int) (cost, error) {
		return commandFloor([]string{filepath.Join(dir, "bin/busybox"), "tar", "-xf", filepath.Join(dir, "files.tar"), "-C", p.fresh()})
	}
	return j
}

func runOnManyFiles(p *place) *job {
	r := p.registry()
	dir := p.busybox("large")
	p.tree("large/files", 50000, 500)
	ref := r.base("large", dir, "PATH=/bin")
	j := &job{registry: r, bases: []string{ref}, source: source{p.tree("context", 1, 1), p.path("Dockerfile")}, prepare: once, run: build}
	j.before = func(i int) error {
		return os.WriteFile(j.file, fmt.Appendf(nil, "FROM %s\nRUN touch /files/d0001/new%d\n", ref, i), 0o600)
	}
	check(p.b, j.before(0))
	j.floor = func(int) (cost, error) { return p.steps(1, dir, "/bin/true") }
	return j
}
