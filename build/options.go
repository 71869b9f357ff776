package build

import (
	"context"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PullPolicy says when a base image is asked from its registry.
type PullPolicy string

// The pull policies, as `--pull` takes them.
const (
	PullMissing PullPolicy = "missing" // the store's image if there is one
	PullAlways  PullPolicy = "always"  // ask the registry each time; unchanged layers are not transferred
	PullNewer   PullPolicy = "newer"   // ask the registry whether its image is another; the store's if it gives no answer
	PullNever   PullPolicy = "never"   // the store's image or an error
)

// Bases finds base images. Image returns the image of ref for platform p,
// present in the store (pulled when policy wants it) but for layers, which may be
// where the store finds them when something reads them. The returned error is
// shown to the user beside the FROM line.
type Bases interface {
	Image(ctx context.Context, ref image.Ref, p ocispec.Platform, policy PullPolicy) (*image.Image, error)
}

// Builder holds what builds share: the store and the engines that work on it.
// All fields but Events are required, save Executor and Remotes, without which
// what needs them is refused.
type Builder struct {
	Store     *image.Store
	Cache     *cache.Store
	Snapshots *executor.Snapshots
	Executor  *executor.Executor
	Bases     Bases
	// Remotes fetches the sources of ADD that are URLs and repositories; without it
	// they are refused.
	Remotes Remotes
	// NoRun is why RUN is impossible here when Executor is nil.
	NoRun string
	// Level is what this process may do: whose files can be made, and how steps run.
	Level executor.Level
	// Jobs bounds the steps that work at once; 0 means a default that suits the machine.
	Jobs int
	// Detours are taken in place of shortcuts.
	Detours Detours
	// Now is the clock for created times; nil means time.Now.
	Now func() time.Time
	// Events receives progress, one call at a time; nil drops it.
	Events func(Event)
}

// Detours are longer ways to the same result, one for each shortcut that a build
// takes: tests compare what the two give. The zero value takes none.
type Detours struct {
	// Waiting archives and records what a step has made before the next one begins.
	Waiting bool
	// KeysFirst makes the key of a step before the step runs, although nothing can
	// be recorded under it yet.
	KeysFirst bool
	// Repacked has no step begin on the directory that the one before it has left,
	// but on what its layer's tar is unpacked to.
	Repacked bool
	// CopiesPacked leaves what COPY makes to be unpacked when a step needs it.
	CopiesPacked bool
	// OneByOne unpacks one layer at a time.
	OneByOne bool
	// Unprepared starts a step's first process when the step begins.
	Unprepared bool
	// OnDemand leaves the layers of bases to the step that reads them first.
	OnDemand bool
}

// The kinds of facts that the cache keeps for a build, and that it does without: they
// are found out anew.
const (
	// SpotFacts tell where what COPY copies lands, SourceFacts what is selected of a stage.
	SpotFacts   = "spot"
	SourceFacts = "sources"
	// ContentFacts tell which layer had a content first, for early cut-off.
	ContentFacts = "content"
	// SnapshotFacts tell in which directory a layer is that was never packed.
	SnapshotFacts = "snapshot"
	// LowerFacts tell which layers can be unpacked on those below them alone.
	LowerFacts = "needs-lower"
)

// Request is one build.
type Request struct {
	Dockerfile *parser.Dockerfile
	// ContextDir is the directory that COPY and ADD read. Empty: there is none.
	ContextDir string
	// Fetched is the context instead of ContextDir, or nil.
	Fetched *Fetched
	// Ignore holds the rules of the .dockerignore file; nil ignores nothing.
	Ignore *parser.Ignore
	Plan   PlanOptions
	Run    RunOptions
	// Results are what to build, each an image or, for several platforms, an
	// index. Empty stands for one, of Plan's Target and Platform with Tags.
	Results []Want
	// Labels are set on the result after all LABEL instructions.
	Labels map[string]string
	// Tags are given to the result.
	Tags []image.Ref
	Pull PullPolicy
	// OnLayer, if set, is told of each layer of the results as soon as it is known,
	// while later steps still run: from any goroutine, several at once, each once.
	OnLayer func(image.Layer)
	// LeaveLayers names results though layers of theirs that no step has read are
	// at registries alone. Else those are fetched first.
	LeaveLayers bool
	// NoCache makes every step run; NoCacheStages those of the named stages.
	NoCache       bool
	NoCacheStages []string
	Stops         Stops
	// ReplayLogs shows the output of steps that are cached as if they ran.
	ReplayLogs bool
	// Secrets are what RUN --mount=type=secret may show a step, by id. They
	// are never stored and never part of a key.
	Secrets map[string][]byte
}

// PlanOptions are what the plan depends on besides the Dockerfile.
type PlanOptions struct {
	// Args are the --build-arg values.
	Args map[string]string
	// Target is the stage to build, by name or index; empty is the last one.
	Target string
	// AllStages plans every stage, also those that the target does not need.
	AllStages bool
	// Platform is the platform of the result, BuildPlatform that of this machine.
	Platform, BuildPlatform ocispec.Platform
	// Implied says that nobody asked for Platform: a base image for another one that
	// runs here will do.
	Implied bool
	// Contexts are the named contexts, by name or "name::platform". They win over
	// images and over stages of the name.
	Contexts map[string]*Context
	// Triggers holds the ONBUILD instructions of base images by their
	// reference as written in the plan; see Graph.Bases.
	Triggers map[string][]string
	// Epochs holds the times of what SOURCE_DATE_EPOCH names, nil for what has
	// none; see Graph.EpochSources.
	Epochs map[string]*time.Time
	// Allow are the privileges that steps may ask for.
	Allow Allowed
}

// Wanted is a result of a plan: a stage, by name or index, for a platform.
type Wanted struct {
	Target   string
	Platform ocispec.Platform
}

// Want is a result of a build: a stage for one platform or more.
type Want struct {
	Target    string
	Platforms []ocispec.Platform
	// Chosen says that somebody asked for the platforms: the images name them
	// even where their base is for another one.
	Chosen bool
	// Index makes an index also of one platform's image.
	Index bool
	// Tags are given to the result.
	Tags []image.Ref
}

// Made is one result of a build.
type Made struct {
	Target string
	Tags   []image.Ref
	// Image is the manifest's descriptor, or that of the index.
	Image ocispec.Descriptor
	// ID is the image id: the config's digest, or the index's.
	ID digest.Digest
	// Platforms are the images of an index; one for an image alone.
	Platforms []ocispec.Descriptor
	// State is what the last step gave for the first platform.
	State *State
}

// Result is a finished build.
type Result struct {
	// Made is the last result; Others come before it.
	Made
	Others []Made
	// Steps, Cached and Ran count the graph's steps: all, taken from the
	// cache, executed. Config-only steps count in Steps alone.
	Steps, Cached, Ran int
	Warnings           []parser.Warning
}
