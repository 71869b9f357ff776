package build

import (
	"strconv"

	"github.com/ocibuild/ocibuild/parser"
)

// stageOf finds the stage that --from of an instruction names. COPY knows stages
// by their numbers too, a mount does not.
func (p *planner) stageOf(in parser.Instruction, name string, r parser.Range) (int, bool, error) {
	i, ok := p.stageNamed(name)
	if _, mount := in.(*parser.Run); mount {
		return i, ok, nil
	}
	n, err := strconv.Atoi(name)
	if err != nil {
		return i, ok, nil
	}
	if n < 0 || n >= len(p.df.Stages) {
		return 0, false, p.fail(r, "the Dockerfile has "+p.stageList(), "invalid stage index %d", n)
	}
	return n, true, nil
}

// need is a stage that an instruction of another one names.
type need struct {
	stage int
	at    parser.Range
}

// checkSources refuses what --from cannot mean, and stages that copy from each
// other in a circle, also where nothing of it is built.
func (p *planner) checkSources() error {
	needs := make([][]need, len(p.df.Stages))
	for i, st := range p.df.Stages {
		for _, in := range st.Body {
			for _, name := range sourceNames(in) {
				if name == "" {
					continue
				}
				n, ok, err := p.stageOf(in, name, in.Range())
				if err != nil {
					return err
				}
				if ok {
					needs[i] = append(needs[i], need{n, in.Range()})
				}
			}
		}
	}
	seen := make([]visit, len(needs))
	for i := range needs {
		if at, ok := circle(needs, i, seen); ok {
			return p.fail(at.at, "a stage copies from the stages above it; without --from COPY reads the context",
				"circular dependency detected on stage: %s", stageLabel(p.df.Stages[at.stage]))
		}
	}
	return nil
}

// visit is how far a search for circles has come with a stage.
type visit int

const (
	notSeen visit = iota
	onPath
	done
)

// circle gives a need that leads from stage i back to where the search came from.
func circle(needs [][]need, i int, seen []visit) (need, bool) {
	seen[i] = onPath
	defer func() { seen[i] = done }()
	for _, n := range needs[i] {
		if seen[n.stage] == onPath {
			return n, true
		}
		if seen[n.stage] == notSeen {
			if at, ok := circle(needs, n.stage, seen); ok {
				return at, true
			}
		}
	}
	return need{}, false
}
