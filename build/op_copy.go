package build

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
)

// spot is where a transfer or WORKDIR lands, as far as its key is concerned.
type spot struct {
	// Facts are what was asked of the tree below, by path.
	Facts map[string]string
	// Owner is the resolved owner as "uid:gid", or "".
	Owner string
}

// copyOp is one COPY or ADD.
type copyOp struct {
	r     *run
	step  *Step
	state *State
	// files are what a context holds; from is the stage where that is nil.
	files tree
	from  *State
	t     *transfer

	sel *selection // once somebody has needed the files themselves
}

func (r *run) newCopy(s *Step, in *State) (*copyOp, error) {
	t, err := expandTransfer(r.scoped(s, in), s.Instr)
	if err != nil {
		return nil, err
	}
	o := &copyOp{r: r, step: s, state: in, t: t}
	var source *Step
	if len(s.Sources) > 0 {
		source = s.Sources[0]
	}
	o.files, o.from = r.source(source)
	return o, nil
}

func (o *copyOp) history() string { return o.t.history() }

func (o *copyOp) key(ctx context.Context) (cache.Key, cache.Trail, error) {
	sources, err := o.sources(ctx)
	if err != nil {
		return "", nil, err
	}
	s, err := o.spot(ctx, sources)
	if err != nil {
		return "", nil, err
	}
	key, trail := transferKey(o.t, sources, s)
	return key, trail, nil
}

// sources identifies the selected files. Those of a stage are looked up by
// the stage's content; those of the context are looked at each time.
func (o *copyOp) sources(ctx context.Context) (digest.Digest, error) {
	if o.sel != nil || o.from == nil {
		if err := o.selectFiles(ctx); err != nil {
			return "", err
		}
		return o.sel.identify(ctx)
	}
	from, err := o.from.contents(ctx)
	if err != nil {
		return "", err
	}
	key := sourcesKey(from, o.t)
	if data, ok := o.r.b.Cache.GetFact(SourceFacts, key); ok {
		return digest.Digest(data), nil
	}
	if err := o.selectFiles(ctx); err != nil {
		return "", err
	}
	d, err := o.sel.identify(ctx)
	if err != nil {
		return "", err
	}
	return d, o.r.b.Cache.PutFact(SourceFacts, key, []byte(d))
}

// selectFiles finds the files that the instruction names.
func (o *copyOp) selectFiles(ctx context.Context) error {
	if o.sel != nil {
		return nil
	}
	t := o.files
	if o.from != nil {
		layers, err := o.from.layers(ctx)
		if err != nil {
			return err
		}
		if t, err = o.r.bytes.tree(ctx, layers); err != nil {
			return err
		}
	}
	sel, err := o.selection(ctx, t)
	if err != nil {
		return err
	}
	o.sel = sel
	return nil
}

// selection is what the sources stand for, in their order.
func (o *copyOp) selection(ctx context.Context, t tree) (*selection, error) {
	fetched, err := o.fetches(ctx)
	if err != nil {
		return nil, err
	}
	local, err := o.t.selectors()
	if err != nil {
		return nil, err
	}
	sel := &selection{}
	for i := range o.t.sources {
		if m, ok := fetched[i]; ok {
			sel.matches = append(sel.matches, m)
			continue
		}
		found, err := selectSource(ctx, t, local[0])
		if err != nil {
			return nil, err
		}
		sel.matches = append(sel.matches, found...)
		local = local[1:]
	}
	return sel, nil
}

// spot tells what of the tree below decides where the files land: from the
// memo, or by landing them on the tree's table of contents.
func (o *copyOp) spot(ctx context.Context, sources digest.Digest) (spot, error) {
	if o.t.link {
		own, err := o.owner(ctx, nil)
		if err != nil || own == nil {
			return spot{}, err
		}
		return spot{Owner: own.String()}, nil
	}
	parent, err := o.state.contents(ctx)
	if err != nil {
		return spot{}, err
	}
	key := spotKey(parent, o.t, sources)
	var s spot
	if data, ok := o.r.b.Cache.GetFact(SpotFacts, key); ok && json.Unmarshal(data, &s) == nil {
		return s, nil
	}
	_, s, err = o.land(ctx)
	if err != nil {
		return spot{}, err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return spot{}, err
	}
	return s, o.r.b.Cache.PutFact(SpotFacts, key, data)
}

// land lands the files on the tree below.
func (o *copyOp) land(ctx context.Context) (*landing, spot, error) {
	if err := o.selectFiles(ctx); err != nil {
		return nil, spot{}, err
	}
	if err := o.sel.fill(ctx); err != nil {
		return nil, spot{}, err
	}
	below := tree(emptyTree{})
	layers, err := o.state.layers(ctx)
	if err != nil {
		return nil, spot{}, err
	}
	lt, err := o.r.lazyTree(ctx, layers, o.t)
	if err != nil {
		return nil, spot{}, err
	}
	if lt != nil && !o.t.link {
		below = lt
	}
	own, err := o.owner(ctx, lt)
	if err != nil {
		return nil, spot{}, err
	}
	l := newLanding(below, o.r.now())
	arch := &archives{dir: o.r.temp()}
	o.r.keep(arch)
	if err := o.t.land(ctx, l, o.sel, own, arch); err != nil {
		return nil, spot{}, err
	}
	s := spot{Facts: l.facts}
	if own != nil {
		s.Owner = own.String()
	}
	return l, s, nil
}

// lazyTree is the tree below a transfer, unless nothing of it matters.
func (r *run) lazyTree(ctx context.Context, layers []image.Layer, t *transfer) (*layerTree, error) {
	if t.link {
		return nil, nil
	}
	return r.bytes.tree(ctx, layers)
}

// owner resolves --chown in the passwd and group files of the tree below.
func (o *copyOp) owner(ctx context.Context, below *layerTree) (*owner, error) {
	if o.t.chown == "" {
		return nil, nil
	}
	who := parseOwnership(o.t.chown)
	if who.byName() && len(o.state.Layers) == 0 {
		return nil, noAccounts("--chown=" + o.t.chown)
	}
	own, unknown, err := who.resolve(ctx, below)
	if err != nil {
		return nil, err
	}
	for _, name := range unknown {
		o.r.warn(o.step, fmt.Sprintf("--chown=%s: the image has no %s; as with BuildKit, root owns the files", o.t.chown, name))
	}
	return &own, nil
}

// noAccounts is the error for names where there is no root filesystem at all
// to look them up in.
func noAccounts(what string) error {
	return &Hinted{fmt.Errorf("%s: the stage is empty, and has no /etc/passwd and /etc/group to find names in", what), "use numbers: uid[:gid]"}
}

// String is UID:GID, in decimal.
func (o owner) String() string { return fmt.Sprintf("%d:%d", o.uid, o.gid) }

func (o *copyOp) run(ctx context.Context, out *output) error {
	l, _, err := o.land(ctx)
	if err != nil {
		return err
	}
	return out.writeUnpacked(ctx, func(w *layer.Writer) error { return l.write(ctx, w) })
}

// workdirOp is one WORKDIR: the missing directories of its path, which belong
// to the image's user.
type workdirOp struct {
	r     *run
	step  *Step
	state *State
	dir   string
}

func (r *run) newWorkdir(s *Step, in *State) (*workdirOp, error) {
	dir, err := r.scoped(s, in).word(s.Instr.(*parser.Workdir).Path)
	if err != nil {
		return nil, err
	}
	return &workdirOp{r: r, step: s, state: in, dir: workdir(in.Config.Config.WorkingDir, dir)}, nil
}

func (o *workdirOp) history() string { return "WORKDIR " + o.dir }

func (o *workdirOp) key(ctx context.Context) (cache.Key, cache.Trail, error) {
	parent, err := o.state.contents(ctx)
	if err != nil {
		return "", nil, err
	}
	key := workdirSpotKey(parent, o.dir, o.state.Config.Config.User)
	var s spot
	data, ok := o.r.b.Cache.GetFact(SpotFacts, key)
	if !ok || json.Unmarshal(data, &s) != nil {
		if _, s, err = o.land(ctx); err != nil {
			return "", nil, err
		}
		if data, err = json.Marshal(s); err != nil {
			return "", nil, err
		}
		if err := o.r.b.Cache.PutFact(SpotFacts, key, data); err != nil {
			return "", nil, err
		}
	}
	k, trail := workdirKey(o.dir, s, o.step.epoch)
	return k, trail, nil
}

func (o *workdirOp) land(ctx context.Context) (*landing, spot, error) {
	layers, err := o.state.layers(ctx)
	if err != nil {
		return nil, spot{}, err
	}
	below, err := o.r.bytes.tree(ctx, layers)
	if err != nil {
		return nil, spot{}, err
	}
	own, err := o.owner(ctx, below)
	if err != nil {
		return nil, spot{}, err
	}
	now := o.r.now()
	if o.step.epoch != nil {
		now = *o.step.epoch
	}
	l := newLanding(below, now)
	if _, err := l.mkdirAll(o.dir, 0o755, own); err != nil {
		return nil, spot{}, err
	}
	s := spot{Facts: l.facts}
	if own != nil {
		s.Owner = own.String()
	}
	return l, s, nil
}

// owner is the image's user, if it has one.
func (o *workdirOp) owner(ctx context.Context, below *layerTree) (*owner, error) {
	user := o.state.Config.Config.User
	if user == "" {
		return nil, nil
	}
	who := parseOwnership(user)
	if who.byName() && len(o.state.Layers) == 0 {
		return nil, noAccounts("USER " + user)
	}
	own, _, err := who.resolve(ctx, below)
	return &own, err
}

func (o *workdirOp) run(ctx context.Context, out *output) error {
	l, _, err := o.land(ctx)
	if err != nil {
		return err
	}
	return out.write(nil, func(w *layer.Writer) error { return l.write(ctx, w) })
}
