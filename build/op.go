package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// op is a step that makes a layer: RUN, COPY, ADD, WORKDIR.
type op interface {
	// key identifies everything the step can see.
	key(ctx context.Context) (cache.Key, cache.Trail, error)
	// run does the work and gives the layer. An op that can finish in the
	// background calls out.later.
	run(ctx context.Context, out *output) error
	// history is the text of the image's history.
	history() string
}

// outcome is what became of an op.
type outcome struct {
	layer  *Layer
	cached bool
	key    cache.Key // of what is cached
}

// recordValue is what a step's cache record holds.
type recordValue struct {
	Layer image.Layer `json:"layer"`
	// Used is what a command took of the machine; nil if none ran.
	Used *executor.Usage `json:"used,omitempty"`
	// Leaks says that the step has left a secret behind and was allowed to.
	Leaks bool `json:"leaks,omitempty"`
}

// UsageOf gives what the command of a recorded step took of the machine; nil if that
// ran none.
func UsageOf(r *cache.Record) *executor.Usage {
	var v recordValue
	if json.Unmarshal(r.Value, &v) != nil {
		return nil
	}
	return v.Used
}

// perform gives the op's layer: from the cache, or by running it.
//
// A step that has never been recorded cannot hit, so it runs at once and its
// key is computed afterwards, which for a RUN means while the next step is
// already running. A lock on its name keeps a second process from doing the
// same; that one waits and then finds the record. Otherwise the key comes
// first, and a lock on the key does the same duty: also for a step that another
// step of the build may be the same as, or the image would hold two results where
// the cache keeps one. Who wants no cache waits for nobody.
func (r *run) perform(ctx context.Context, s *Step, o op) (outcome, error) {
	name := stepName(s)
	if r.uncached(s) {
		return r.execute(ctx, s, o, &output{r: r, step: s, op: o, name: name, unlock: func() {}})
	}
	if !r.b.Detours.KeysFirst && !r.graph.twin(s) && !r.b.Cache.HasName(name) {
		unlock, err := r.b.Store.Lock(ctx, "name-"+digest.FromString(name).Encoded())
		if err != nil {
			return outcome{}, err
		}
		if !r.b.Cache.HasName(name) {
			return r.execute(ctx, s, o, &output{r: r, step: s, op: o, name: name, unlock: unlock})
		}
		unlock()
	}
	key, trail, err := o.key(ctx)
	if err != nil {
		return outcome{}, err
	}
	if l, ok := r.recall(key); ok {
		return outcome{l, true, key}, nil
	}
	unlock, err := r.b.Store.Lock(ctx, "step-"+string(key))
	if err != nil {
		return outcome{}, err
	}
	if l, ok := r.recall(key); ok {
		unlock()
		return outcome{l, true, key}, nil
	}
	return r.execute(ctx, s, o, &output{r: r, step: s, op: o, name: name, key: key, trail: trail, unlock: unlock})
}

// stepName identifies a step across builds: its stage and its instruction as
// it is written.
func stepName(s *Step) string {
	return s.StageName() + " " + s.Instr.Text()
}

// recall finds a usable record: one whose layer is still in the store.
func (r *run) recall(key cache.Key) (*Layer, bool) {
	rec, err := r.b.Cache.Get(key)
	if err != nil {
		return nil, false
	}
	var v recordValue
	if json.Unmarshal(rec.Value, &v) != nil || v.Layer.DiffID == "" || v.Leaks && !r.req.Run.AllowLeak || !r.b.Store.Use(v.Layer.Descriptor.Digest) {
		return nil, false
	}
	l := readyLayer(v.Layer)
	l.created = rec.Created
	return l, true
}

func (r *run) execute(ctx context.Context, s *Step, o op, out *output) (outcome, error) {
	r.expectRuns(o)
	out.layer = &Layer{done: make(chan struct{})}
	out.began = time.Now()
	err := o.run(ctx, out)
	if err != nil {
		r.keepFailure(ctx, out)
		out.fail(err)
		return outcome{}, err
	}
	if !out.deferred {
		out.finish()
	}
	return outcome{layer: out.layer}, nil
}

// output is where an op puts what it made.
type output struct {
	r      *run
	step   *Step
	op     op
	name   string
	key    cache.Key // "" when it is computed after the run
	trail  cache.Trail
	unlock func()
	began  time.Time

	layer    *Layer
	made     image.Layer
	stored   bool // made is new in the store
	deferred bool
	leaks    bool // a secret was left behind, as is allowed
}

// write makes the step's layer.
func (o *output) write(also io.Writer, produce func(*layer.Writer) error) (err error) {
	o.made, o.stored, err = o.r.bytes.store(also, o.began, produce)
	return err
}

// writeUnpacked is write for a layer that a RUN may follow: the tar is
// unpacked into a snapshot in the same pass.
func (o *output) writeUnpacked(ctx context.Context, produce func(*layer.Writer) error) error {
	if o.r.b.Detours.CopiesPacked || !o.r.graph.runFollows(o.step) {
		return o.write(nil, produce)
	}
	name := "copy-" + unique()
	dir, commit, abort, err := o.r.b.Snapshots.Create(name)
	if err != nil {
		return err
	}
	defer abort()
	pr, pw := io.Pipe()
	applied := make(chan error, 1)
	go func() {
		_, _, err := layer.Apply(ctx, pr, dir, o.r.b.applyOptions(layer.Overlay))
		pr.CloseWithError(err)
		applied <- err
	}()
	err = o.write(pw, produce)
	pw.CloseWithError(err)
	if aerr := <-applied; err == nil {
		err = aerr
	}
	if err != nil || !o.stored {
		return err // a layer that was there before is unpacked when it is needed
	}
	if err := commit(); err != nil {
		return err
	}
	return o.r.b.Cache.PutFact(SnapshotFacts, cache.Key(o.made.DiffID.Encoded()), []byte(name))
}

// later lets the next step start on the snapshot dir while work makes the
// layer of it.
func (o *output) later(dir string, work func(context.Context) error) {
	o.deferred = true
	if !o.r.b.Detours.Repacked {
		o.layer.dir = dir
	}
	o.layer.created = o.r.now()
	o.r.background.start(func(ctx context.Context) error {
		if err := work(ctx); err != nil {
			err = o.r.stepError(o.step, err)
			o.fail(err)
			return err
		}
		o.finish()
		return nil
	})
}

// finish publishes the layer and, in the background, records it once its
// blob is on the disk: data before the record that names it.
func (o *output) finish() {
	if o.layer.created.IsZero() {
		o.layer.created = o.r.now()
	}
	o.layer.image = o.made
	close(o.layer.done)
	o.r.background.start(func(ctx context.Context) error {
		defer o.unlock()
		if err := o.record(ctx); err != nil {
			return o.r.stepError(o.step, fmt.Errorf("record step: %w", err))
		}
		return nil
	})
}

func (o *output) record(ctx context.Context) error {
	if o.key == "" {
		var err error
		if o.key, o.trail, err = o.op.key(ctx); err != nil {
			return err
		}
	}
	o.op = nil // what it has selected is much, and syncing takes its time
	if err := o.r.b.Store.Sync(ctx, o.made.Descriptor.Digest); err != nil {
		return err
	}
	value, err := json.Marshal(recordValue{Layer: o.made, Used: o.r.used(o.step), Leaks: o.leaks})
	if err != nil {
		return err
	}
	o.r.keepLog(o.step, o.key)
	return o.r.b.Cache.Put(&cache.Record{
		Key: o.key, Name: o.name, Trail: o.trail, Value: value,
		Blobs: []ocispec.Descriptor{o.made.Descriptor}, Created: o.layer.created, Duration: time.Since(o.began),
	})
}

// fail tells everyone who waits for the layer that there will be none.
func (o *output) fail(err error) {
	o.layer.err = err
	close(o.layer.done)
	o.unlock()
}
