package main

import (
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
)

// disableVariable names shortcuts that are not to be taken, with commas between.
const disableVariable = "OCIBUILD_DISABLE"

// everyShortcut stands for all of them.
const everyShortcut = "all"

// shortcut is a way to the same result with less work. Tests disable one, or all, and
// compare: each package knows the longer way only, and its own alone.
type shortcut struct {
	name string
	// does is what saves the work.
	does    string
	disable func(d *detours)
}

// detours are the longer ways that the parts of the program take. The zero value has none.
type detours struct {
	forgotten []cache.Memory // what the build cache does not find
	build     build.Detours
	snapshots executor.Detours
	store     image.Detours
	// serial does one thing at a time, also with registries.
	serial bool
	// pullFirst fetches all of an image before a build begins, wholeBlobs in one piece each.
	pullFirst, wholeBlobs bool
	// pushLast sends layers when the build has ended.
	pushLast bool
}

// shortcuts lists all there are. What has no name here has no longer way beside it: a diff
// that looks at what changed alone, or layers that are streamed; or its result is another
// one, as where steps work on copies of layers because overlays cannot be mounted.
func shortcuts() []shortcut {
	return []shortcut{
		{"memo", "digests of a context's files are remembered", forget(cache.FileDigests)},
		{"tables", "tables of contents of layers are remembered", forget(cache.TOCs)},
		{"spots", "where COPY lands, and what it selects of a stage, is remembered", forget(cache.Facts(build.SpotFacts), cache.Facts(build.SourceFacts))},
		{"cutoff", "a step that gives what was there before gives that layer", forget(cache.Facts(build.ContentFacts))},
		{"orphans", "layers that need those below them to be unpacked are remembered", forget(cache.Facts(build.LowerFacts))},
		{"upper", "a step begins on the directory that the one before it has left", func(d *detours) {
			forget(cache.Facts(build.SnapshotFacts))(d)
			d.build.Repacked = true
		}},
		{"overlap", "a step's layer is archived and recorded while the next one runs", func(d *detours) { d.build.Waiting = true }},
		{"latekey", "a step that was never recorded runs before its key is made", func(d *detours) { d.build.KeysFirst = true }},
		{"unpack", "what COPY makes is unpacked in the same pass", func(d *detours) { d.build.CopiesPacked = true }},
		{"spare", "the first process of a step waits for it", func(d *detours) { d.build.Unprepared = true }},
		{"parallel", "steps, layers, blocks to compress and blobs are worked on side by side", func(d *detours) {
			d.serial, d.build.OneByOne, d.store.OneBlock = true, true, true
		}},
		{"trees", "where there are copies, a step goes on with that of the one before it", func(d *detours) { d.snapshots.FreshCopies = true }},
		{"reflink", "copies share blocks, or the kernel makes them", func(d *detours) { d.snapshots.Bytes = true }},
		{"lazy", "layers of base images are fetched when something reads them", func(d *detours) { d.pullFirst = true }},
		{"ahead", "layers of base images that are certain to be needed come from the beginning", func(d *detours) { d.build.OnDemand = true }},
		{"ranges", "large blobs move in pieces", func(d *detours) { d.wholeBlobs = true }},
		{"stream", "layers are pushed while later steps run", func(d *detours) { d.pushLast = true }},
		{"compressed", "what a layer was compressed to is remembered", func(d *detours) { d.store.Recompress = true }},
		{"writeback", "a large blob goes to the disk while it is made", func(d *detours) { d.store.SyncOnly = true }},
		{"summaries", "what documents of images say is remembered", func(d *detours) { d.store.Reread = true }},
	}
}

// forget disables the remembering of answers.
func forget(what ...cache.Memory) func(*detours) {
	return func(d *detours) { d.forgotten = append(d.forgotten, what...) }
}

// parseDetours reads the names of shortcuts that are disabled.
func parseDetours(text string) (d detours, err error) {
	if text == "" {
		return d, nil
	}
	names := strings.Split(text, ",")
	all := shortcuts()
	words := []string{everyShortcut}
	for _, s := range all {
		words = append(words, s.name)
		if slices.Contains(names, s.name) || slices.Contains(names, everyShortcut) {
			s.disable(&d)
		}
	}
	for _, name := range names {
		if !slices.Contains(words, name) {
			return detours{}, oneOf("$"+disableVariable, name, words)
		}
	}
	return d, nil
}
