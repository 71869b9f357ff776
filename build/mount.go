package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// stepMount is one --mount of a RUN, expanded.
type stepMount struct {
	parser.Mount
	r *run
	// target is absolute; "" for a secret that is only a variable.
	target string
	// from is the stage that a bind shows or a cache begins with; nil is the context,
	// or an empty directory.
	from *State
	// files are what a context holds, where from is nil.
	files tree
	// dir is the directory of a host mount.
	dir string
	// content identifies what a bind shows or a cache begins with, once it is known.
	content digest.Digest
	// root is what a cache's new directory is like. It is owned if the mount says so.
	root  cacheRoot
	owned bool
}

// newMount settles what a --mount says for a step that continues in.
func (r *run) newMount(step *Step, in *State, m parser.Mount, from *Step) (*stepMount, error) {
	s, err := r.scoped(step, in).mount(m)
	if err != nil {
		return nil, err
	}
	s.r = r
	if from != nil || s.Type == "bind" {
		s.files, s.from = r.source(from)
	}
	if s.Type == "cache" {
		s.settleSeed()
	}
	return s, nil
}

// mount settles all of a --mount but where its files come from.
func (c scoped) mount(m parser.Mount) (*stepMount, error) {
	m, err := m.Expand(c.word)
	if err != nil {
		return nil, err
	}
	s := &stepMount{Mount: m, target: m.Target}
	switch {
	case m.Type == "secret":
		s.settleSecret()
	case m.Type != "ssh" && m.Target == "":
		s.target = "." // the working directory
	}
	if s.target != "" && !path.IsAbs(s.target) {
		s.target = path.Join("/", c.state.Config.Config.WorkingDir, s.target)
	}
	if s.target != "" && path.Clean(s.target) == "/" {
		return nil, &Hinted{fmt.Errorf("invalid mount target %q", s.target), "write target=/directory"}
	}
	if m.Type == "ssh" && m.Source != "" {
		return nil, &Hinted{errors.New("an ssh mount has no source"), "an agent comes from the command line: --ssh"}
	}
	if m.Type == "cache" {
		s.settleCache()
	}
	return s, nil
}

// settleSecret fills in the id and the target that a secret does not give.
func (m *stepMount) settleSecret() {
	if m.Source != "" {
		m.ID = m.Source
	}
	if m.ID == "" {
		m.ID = path.Base(m.target)
	}
	if m.target == "" && m.Env == "" {
		m.target = "/run/secrets/" + path.Base(m.ID)
	}
}

// identity is what of the mount is part of its step's key: what a bind shows and
// a cache begins with, never what a secret, a cache or an agent holds.
func (m *stepMount) identity() []string {
	id := []string{m.Type}
	switch m.Type {
	case "bind", "cache", hostType:
		id = append(id, string(m.content))
	case "tmpfs":
		id = append(id, strconv.FormatInt(m.Size, 10))
	default:
		id = append(id, m.ID, m.Env)
	}
	for _, n := range []*uint32{m.Mode, m.UID, m.GID} {
		if n != nil {
			id = append(id, strconv.FormatUint(uint64(*n), 10))
		} else {
			id = append(id, "")
		}
	}
	return append(id, strconv.FormatBool(m.ReadOnly))
}

// identify finds out what a bind shows or a cache begins with.
func (m *stepMount) identify(ctx context.Context) error {
	if m.content != "" || !m.reads() && m.Type != "bind" || m.Type != "bind" && m.Type != "cache" && m.Type != hostType {
		return nil
	}
	if m.from == nil {
		return m.selectContent(ctx)
	}
	from, err := m.from.contents(ctx)
	if err != nil {
		return err
	}
	key := sourcesKey(from, &transfer{sources: []origin{{text: m.Type + " mount"}, {text: m.Source}}})
	if data, ok := m.r.b.Cache.GetFact(SourceFacts, key); ok {
		m.content = digest.Digest(data)
		return nil
	}
	if err := m.selectContent(ctx); err != nil {
		return err
	}
	return m.r.b.Cache.PutFact(SourceFacts, key, []byte(m.content))
}

// noContent identifies nothing at all.
const noContent = digest.Digest("none")

func (m *stepMount) selectContent(ctx context.Context) error {
	choose := m.selection
	if m.Type == "cache" {
		choose = m.seed
	}
	sel, err := choose(ctx)
	if err != nil {
		return err
	}
	if sel == nil {
		m.content = noContent
		return nil
	}
	m.content, err = sel.identify(ctx)
	return err
}

// tree is where the mount's source is looked up.
func (m *stepMount) tree(ctx context.Context) (tree, error) {
	if m.from == nil {
		return m.files, nil
	}
	layers, err := m.from.layers(ctx)
	if err != nil {
		return nil, err
	}
	return m.r.bytes.tree(ctx, layers)
}

// selection is what the source stands for, as a COPY would select it.
func (m *stepMount) selection(ctx context.Context) (*selection, error) {
	t, err := m.tree(ctx)
	if err != nil {
		return nil, err
	}
	found, err := matchTree(ctx, t, clean(m.Source), source{})
	return &selection{matches: []match{found}}, err
}

// reads reports whether the mount shows, or begins with, what its from names.
func (m *stepMount) reads() bool { return m.from != nil || m.files != nil }

// scene is what a step's mounts need while it runs.
type scene struct {
	r       *run
	proc    *executor.Process
	closers []func()
	caches  map[string]string // the directories of cache mounts by their names
}

func (s *scene) close() {
	for _, c := range slices.Backward(s.closers) {
		c()
	}
}

// hiddenBy reports whether one of the mounts after it has the same target.
func (m *stepMount) hiddenBy(later []*stepMount) bool {
	return m.shows() && slices.ContainsFunc(later, func(l *stepMount) bool { return l.shows() && path.Clean(l.target) == path.Clean(m.target) })
}

// shows reports whether the mount is there in any case.
func (m *stepMount) shows() bool {
	return m.Type == "bind" || m.Type == "cache" || m.Type == "tmpfs" || m.Type == hostType
}

// add makes a mount part of the process.
func (s *scene) add(ctx context.Context, m *stepMount) error {
	switch m.Type {
	case "bind":
		return s.bind(ctx, m)
	case hostType:
		return s.host(m)
	case "cache":
		return s.cache(ctx, m)
	case "secret":
		return s.secret(m)
	case "ssh":
		return s.ssh(ctx, m)
	case "tmpfs":
		options := []string{"nosuid"}
		if m.Size > 0 {
			options = append(options, "size="+strconv.FormatInt(m.Size, 10))
		}
		if m.ReadOnly {
			options = append(options, "ro")
		}
		s.proc.Mounts = append(s.proc.Mounts, specs.Mount{Destination: m.target, Type: "tmpfs", Source: "tmpfs", Options: options})
		return nil
	}
	return fmt.Errorf("type %s is not supported", m.Type)
}

// bind shows a part of a stage, or of the context. What is written to it is
// thrown away.
func (s *scene) bind(ctx context.Context, m *stepMount) error {
	parents, part, err := s.bound(ctx, m)
	if err != nil {
		return err
	}
	var tree *os.File
	if m.ReadOnly {
		tree, err = s.r.b.Snapshots.View(ctx, parents)
	} else {
		var sn *executor.Snapshot
		if sn, err = s.r.b.Snapshots.Prepare(ctx, parents); err != nil {
			return err
		}
		s.closers = append(s.closers, func() { _ = sn.Discard() })
		tree, err = s.r.b.Snapshots.Mount(ctx, sn)
	}
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() { tree.Close() })
	s.proc.Binds = append(s.proc.Binds, executor.Bind{Target: m.target, Tree: tree, Path: part, ReadOnly: m.ReadOnly})
	return nil
}

// bound gives the snapshots that hold what a bind shows, and where in them it is.
func (s *scene) bound(ctx context.Context, m *stepMount) (parents []string, part string, err error) {
	if m.from != nil {
		parents, err = s.r.directories(ctx, m.from)
		return parents, clean(m.Source), err
	}
	sel, err := m.selection(ctx)
	if err != nil {
		return nil, "", err
	}
	ly, part, err := s.r.contextLayer(ctx, sel)
	if err != nil {
		return nil, "", err
	}
	parents, err = s.r.bytes.snapshots(ctx, []image.Layer{ly})
	return parents, part, err
}

// contextLayer makes a layer of a part of the context, without what is
// ignored, and tells where in it the part is.
func (r *run) contextLayer(ctx context.Context, sel *selection) (ly image.Layer, part string, err error) {
	const dir = "context"
	m := sel.matches[0]
	l := newLanding(emptyTree{}, r.now())
	t := &transfer{dest: "/" + dir + "/"}
	if err := t.land(ctx, l, sel, nil, nil); err != nil {
		return ly, "", err
	}
	part = dir
	if m.dir() {
		l.added[dir].entry.Mode = m.items[0].entry.Mode
	} else {
		part = path.Join(dir, path.Base(m.name))
	}
	ly, _, err = r.bytes.store(nil, time.Time{}, func(w *layer.Writer) error { return l.write(ctx, w) })
	return ly, part, err
}

// secret gives a step a secret: as a file in memory, as a variable, or both.
func (s *scene) secret(m *stepMount) error {
	data, ok := s.r.req.Secrets[m.ID]
	if !ok && m.Required {
		hint := "give it: --secret id=" + m.ID + ",src=FILE or --secret id=" + m.ID + ",env=NAME"
		if near := parser.Nearest(m.ID, slices.Sorted(maps.Keys(s.r.req.Secrets))); near != "" {
			hint = "did you mean id=" + near + "?"
		}
		return &Hinted{fmt.Errorf("secret %s: not found", m.ID), hint}
	}
	if m.Env != "" { // also for one that is not there, which is empty then
		s.proc.Env = scope(s.proc.Env).with(m.Env, string(data))
	}
	if ok && m.target != "" {
		s.proc.Files = append(s.proc.Files, executor.File{
			Target: m.target, Data: data, Mode: numberOr(m.Mode, 0o400) & 0o777, UID: numberOr(m.UID, 0), GID: numberOr(m.GID, 0),
		})
	}
	return nil
}

func numberOr(n *uint32, other uint32) uint32 {
	if n != nil {
		return *n
	}
	return other
}
