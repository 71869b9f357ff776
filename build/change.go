package build

import (
	"errors"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

// Change is an instruction that changes an image's config without a build: an
// option of import, mutate and the like.
type Change struct{ instr parser.Instruction }

// ParseChange reads a Change. The error is a *parser.Error, or a *Hinted for an
// instruction that takes a build.
func ParseChange(text string) (Change, error) {
	const from = "FROM scratch\n"
	df, err := parser.Parse("--change", []byte(from+text+"\n"))
	if err != nil {
		return Change{}, err
	}
	if len(df.Stages) != 1 || len(df.Stages[0].Body) != 1 {
		return Change{}, &Hinted{errors.New("it is not one instruction"), "repeat the flag for each"}
	}
	in := df.Stages[0].Body[0]
	switch in.(type) {
	case *parser.Cmd, *parser.Entrypoint, *parser.Env, *parser.Expose, *parser.Healthcheck, *parser.Label, *parser.OnBuild,
		*parser.Shell, *parser.StopSignal, *parser.User, *parser.Volume, *parser.Workdir:
		return Change{in}, nil
	}
	return Change{}, &Hinted{
		errors.New(in.Keyword() + " cannot be applied to an image"),
		"these can: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR",
	}
}

// String is the instruction as it was written.
func (c Change) String() string { return c.instr.Text() }

// ApplyChanges gives the config after changes, as a Dockerfile on the image would
// make it, without entries in the history and without a directory for WORKDIR.
func ApplyChanges(cfg image.Config, changes []Change) (image.Config, error) {
	state := &State{Config: cloneConfig(cfg), Env: scopeOf(cfg.Config.Env)}
	for _, change := range changes {
		c := scoped{x: parser.Expander{Escape: '\\'}, state: state}
		next, err := c.change(change.instr)
		if err != nil {
			return cfg, &ChangeError{change, err}
		}
		state = next
	}
	state.Config.History = cfg.History
	return state.Config, nil
}

func (c scoped) change(in parser.Instruction) (*State, error) {
	at, ok := in.(*parser.Workdir)
	if !ok {
		return applyConfig(c, in)
	}
	dir, err := c.word(at.Path)
	n := c.state.clone()
	n.Config.Config.WorkingDir = workdir(n.Config.Config.WorkingDir, dir)
	return n, err
}

// ChangeError is an error about one change.
type ChangeError struct {
	Change Change
	Err    error
}

// Error names the change and the cause.
func (e *ChangeError) Error() string { return e.Change.String() + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *ChangeError) Unwrap() error { return e.Err }
