package build

import (
	"path"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

// The rules of our own tie a Dockerfile to what building it costs: what the
// cache cannot keep, what an image carries along, what is slow. A false alarm
// is worse here than a miss: where something is not known they find nothing.

// own asks the rules of our own, when the stages have been carried out. last
// is how the target stands at its end.
func (l *linter) own(g *Graph, last *standing) {
	l.unpinned(g)
	l.emulated(g)
	for _, d := range last.deeds {
		l.leftovers(d)
		l.gitDir(d)
	}
	l.chowned(last.deeds)
}

// ownStep asks those that are about one stage, at a RUN. deeds are what came
// before it.
func (l *linter) ownStep(d deed, deeds []deed) {
	l.copyBefore(d, deeds)
	l.staleLists(d, deeds)
}

// unpinned warns of base images whose name stands for another image each month.
func (l *linter) unpinned(g *Graph) {
	for _, s := range g.Bases() {
		name := l.writtenBase(g, s)
		if f, ok := s.Instr.(*parser.From); ok && strings.Contains(f.Image, "$") {
			continue // who calls decides
		}
		ref, err := image.ParseRef(name)
		if err != nil || ref.Digest() != "" || ref.Tag() != "" && ref.Tag() != "latest" {
			continue
		}
		what := "has no tag"
		if ref.Tag() != "" {
			what = "is whatever is latest"
		}
		l.warnBase(s, "UnpinnedBase", "%s %s, so that a later build begins with another image: name a version, %s:VERSION",
			name, what, strings.TrimSuffix(name, ":latest"))
	}
}

// warnBase is warnStep for an image, which may have no instruction of its own.
func (l *linter) warnBase(s *Step, rule, format string, args ...any) {
	check := l.df.Check
	if s.Instr != nil {
		check = check.With(s.Instr.Comments())
	}
	l.warn(check, s.Range(), rule, format, args...)
}

// emulated warns of the first RUN of each stage that an emulator has to run.
func (l *linter) emulated(g *Graph) {
	host := l.plan.BuildPlatform
	told := map[*parser.Stage]bool{}
	for _, s := range g.Steps {
		if _, ok := s.Instr.(*parser.Run); !ok || told[s.Stage] || s.Platform.OS != host.OS || native(host.Architecture, s.Platform.Architecture) {
			continue
		}
		told[s.Stage] = true
		l.warnStep(s, "EmulatedRun", "Stage %s is for %s and runs on %s through an emulator, slowly: where it compiles, begin it with "+
			"FROM --platform=$BUILDPLATFORM and compile for $TARGETARCH", s.StageName(), image.FormatPlatform(s.Platform), image.FormatPlatform(host))
	}
}

// copyBefore warns of a COPY of the whole context with only installations
// between it and an installation that needs few files of it.
func (l *linter) copyBefore(d deed, deeds []deed) {
	needs, ok := firstInstall(d.calls)
	if !ok || len(d.mounts) > 0 || l.ignore.Allowlist() {
		return
	}
	var context *deed
	for i, before := range slices.Backward(deeds) {
		if context == nil && before.whole() {
			context = &deeds[i]
			continue
		}
		if context == nil && !independent(before.calls) {
			return
		}
		if context != nil && slices.ContainsFunc(before.calls, func(c call) bool { return c.manager() == needs.manager() }) {
			return // what can be installed before has been
		}
	}
	if context == nil || l.toldCopies[context.step] || needs.system() && context.step.Stage != d.step.Stage {
		return
	}
	l.toldCopies[context.step] = true
	l.warnStep(context.step, "CopyBeforeInstall", "Every change in the context repeats %q (line %d), since %s comes before it: %s",
		strings.Join(needs.words, " "), d.step.Range().Start, context.step.instructionName(), needs.advice())
}

// firstInstall is the first installation of a script, if nothing before it in
// the script could be what it needs the context for.
func firstInstall(calls []call) (install, bool) {
	for _, c := range calls {
		if in, ok := c.installs(); ok {
			return in, true
		}
		if !c.independent() {
			break
		}
	}
	return install{}, false
}

func independent(calls []call) bool {
	return !slices.ContainsFunc(calls, func(c call) bool { return !c.independent() })
}

// advice says how to install before the context is copied.
func (in install) advice() string {
	switch {
	case in.manifests == "":
		return "move that RUN above it"
	case in.manager() == "cargo":
		return "give the RUN --mount=type=cache,target=/usr/local/cargo/registry and --mount=type=cache,target=target (copy the result out of target in the same RUN)"
	}
	return "put COPY " + in.manifests + " ./ and that RUN above it"
}

// staleLists warns of packages that are installed from a list which the cache
// keeps for as long as the line that fetched it does not change.
func (l *linter) staleLists(d deed, deeds []deed) {
	fetches := func(c call) bool { return c.manager() == "apt" && c.verb == "update" }
	at := slices.IndexFunc(d.calls, func(c call) bool {
		return c.manager() == "apt" && c.verb == "install" && !slices.ContainsFunc(c.words, isFileOrUnknown)
	})
	if at < 0 || slices.ContainsFunc(d.calls[:at], fetches) || d.mounted("/var/lib/apt/lists") || !independent(d.calls[:at]) {
		return
	}
	for _, before := range slices.Backward(deeds) {
		if slices.ContainsFunc(before.calls, fetches) && !before.mounted("/var/lib/apt/lists") {
			l.warnStep(d.step, "StalePackageLists", "%q takes packages from the lists that line %d fetched, which stay in the cache as they are: "+
				"write RUN apt-get update && apt-get install in one", strings.Join(d.calls[at].words, " "), before.step.Range().Start)
			return
		}
	}
}

// leftovers warns of what a RUN leaves in the image that nobody needs there.
func (l *linter) leftovers(d deed) {
	for _, left := range leftovers(d.script, d.calls, d.mounted, d.sets) {
		if strings.HasPrefix(left.by, "pip") && !d.known {
			continue // the base may have told pip to keep nothing
		}
		l.warnStep(d.step, "PackageCacheInLayer", "%s leaves %s in the image: %s", left.by, left.what, left.instead)
	}
}

// gitDir warns of a repository's history in the image.
func (l *linter) gitDir(d deed) {
	if l.gitInContext && d.whole() {
		l.warnStep(d.step, "GitDirInImage", "%s takes the directory .git along: the image holds the whole history, and each commit makes the step run again. "+
			"Add .git to .dockerignore", d.step.instructionName())
	}
}

// chowned warns of files that one layer holds and the next one holds again,
// under another owner.
func (l *linter) chowned(deeds []deed) {
	for i, d := range deeds {
		for _, c := range d.calls {
			if c.program != "chown" || !c.recursive() || strings.ContainsAny(c.verb, "$`") {
				continue
			}
			for _, target := range c.args {
				if from := d.filledBy(target, deeds[:i]); from != nil {
					l.warnStep(d.step, "ChownAfterCopy", "chown -R %s writes the files of line %d into a second layer: write %s --chown=%s there, below the line that makes the user",
						target, from.step.Range().Start, from.copied.keyword, c.verb)
				}
			}
		}
	}
}

// recursive tells whether chown has been asked for whole trees.
func (c call) recursive() bool {
	return slices.ContainsFunc(c.options, func(o string) bool {
		return o == "--recursive" || !strings.HasPrefix(o, "--") && strings.Contains(o, "R")
	})
}

// filledBy gives the first COPY or ADD that put files into a directory.
func (d deed) filledBy(dir string, deeds []deed) *deed {
	if strings.ContainsAny(dir, "$`*?[~") || !path.IsAbs(dir) && !d.known && !d.workdir {
		return nil
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", d.state.Config.Config.WorkingDir, dir)
	}
	dir = path.Clean(dir)
	for i, before := range deeds {
		if before.copied == nil || before.copied.chown != "" || !before.known && !before.workdir && !path.IsAbs(before.copied.destText) {
			continue
		}
		dest := path.Clean(before.copied.dest)
		if dest == dir || strings.HasPrefix(dest, strings.TrimSuffix(dir, "/")+"/") {
			return &deeds[i]
		}
	}
	return nil
}
