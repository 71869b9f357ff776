package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/executor/cdi"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/parser"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxUserFile bounds the passwd and group files that are read from an image.
const maxUserFile = 16 << 20

// pipesDir is where a heredoc with an interpreter line is put for its step.
const pipesDir = "/dev/pipes"

// runProcess is a RUN with everything settled but the numbers behind its user.
type runProcess struct {
	args []string
	// script is the body of a heredoc that is run as a program, scriptName its name.
	script, scriptName string
	env                scope
	user, cwd          string
	network, platform  string
	hostname           string
	insecure           bool
	shared             RunOptions // what all steps have
	mounts             []*stepMount
	devices            []*cdi.Device
}

// settleRun says what a RUN executes.
func settleRun(s *State, in *parser.Run, req *Request) runProcess {
	p := runProcess{
		env: s.Env, user: s.Config.Config.User, cwd: s.Config.Config.WorkingDir,
		network: req.Run.network(in.Network), hostname: req.Plan.Args[hostnameArg],
		insecure: in.Security == "insecure", shared: req.Run,
	}
	args := in.Args
	if in.Shell {
		text, program := in.Script()
		args = []string{text}
		if program != nil {
			p.script, p.scriptName = program.Body, filepath.Base("/"+program.Name)
			args = []string{pipesDir + "/" + p.scriptName}
		}
	}
	p.args = s.command(in.Shell, args)
	return p
}

// checkCommand refuses an exec form without a program: nothing before the step's
// own turn does, so a stage that is not built may have one.
func checkCommand(in *parser.Run) error {
	if in.Shell || len(in.Args) > 0 {
		return nil
	}
	return &Hinted{errors.New("RUN has no command"), `write RUN ["program", "argument"]`}
}

// runOp is one RUN.
type runOp struct {
	r     *run
	step  *Step
	state *State
	p     runProcess
	// proxies reach the command's environment and nothing else.
	proxies []string
	leaks   bool // a secret was left behind, as is allowed
}

func (r *run) newRun(s *Step, in *State) (*runOp, error) {
	instr := s.Instr.(*parser.Run)
	if err := checkCommand(instr); err != nil {
		return nil, err
	}
	o := &runOp{r: r, step: s, state: in, p: settleRun(in, instr, &r.req)}
	o.p.platform = image.FormatPlatform(s.Platform)
	for i, m := range instr.Mounts {
		mount, err := r.newMount(s, in, m, s.Sources[i])
		if err != nil {
			return nil, fmt.Errorf("--mount=%s: %w", m.Raw, err)
		}
		o.p.mounts = append(o.p.mounts, mount)
	}
	host, err := r.hostMounts()
	if err != nil {
		return nil, err
	}
	o.p.mounts = append(host, o.p.mounts...) // the step's own come over them
	if o.p.devices, err = r.stepDevices(instr.Devices); err != nil {
		return nil, err
	}
	settleSSH(o.p.mounts)
	if socket := sshSocketOf(o.p.mounts); socket != "" {
		if _, ok := o.p.env.lookup(sshVariable); !ok {
			o.p.env = o.p.env.with(sshVariable, socket)
		}
	}
	o.proxies = proxyEnv(r.req.Plan.Args)
	return o, nil
}

// proxyEnv gives steps the proxy settings of the build arguments, in both cases. Of
// several spellings of one the last in byte order counts, as with BuildKit.
func proxyEnv(args map[string]string) []string {
	var env []string
	for _, name := range proxyArgs {
		value := ""
		for _, arg := range slices.Sorted(maps.Keys(args)) {
			if strings.EqualFold(arg, name) {
				value = args[arg]
			}
		}
		if value != "" {
			env = append(env, name+"="+value, strings.ToLower(name)+"="+value)
		}
	}
	return env
}

func (o *runOp) history() string {
	var args []string
	at := map[string]int{}
	for _, a := range o.state.Args {
		v, ok := o.state.Env.lookup(a.Name)
		if !ok && a.Value != nil {
			v = *a.Value
		}
		if i, ok := at[a.Name]; ok {
			args[i] = a.Name + "=" + v
			continue
		}
		at[a.Name] = len(args)
		args = append(args, a.Name+"="+v)
	}
	if len(args) > 0 {
		args = append([]string{fmt.Sprintf("|%d", len(args))}, args...)
	}
	return "RUN " + strings.Join(append(args, o.p.args...), " ") + " # buildkit"
}

func (o *runOp) key(ctx context.Context) (cache.Key, cache.Trail, error) {
	parent, err := o.state.contents(ctx)
	if err != nil {
		return "", nil, err
	}
	for _, m := range o.p.mounts {
		if err := m.identify(ctx); err != nil {
			return "", nil, fmt.Errorf("--mount=%s: %w", m.Raw, err)
		}
	}
	key, trail := runKey(parent, o.p)
	return key, trail, nil
}

func (o *runOp) run(ctx context.Context, out *output) error {
	if err := o.possible(ctx); err != nil {
		return err
	}
	if err := o.identifyHost(ctx); err != nil {
		return err
	}
	parents, err := o.r.directories(ctx, o.state)
	if err != nil {
		return err
	}
	sn, err := o.r.b.Snapshots.Prepare(ctx, parents)
	if err != nil {
		return err
	}
	defer sn.Discard() //nolint:errcheck // what stays behind, the next prune removes
	if err := o.execute(ctx, sn); err != nil {
		err = o.lookAtFailure(ctx, sn, err)
		o.keepFailed(ctx, sn, parents, err)
		return err
	}
	if err := o.checkFiles(ctx, sn); err != nil {
		return err
	}
	out.leaks = o.leaks
	upper, err := os.Open(sn.Upper()) // stays the same directory when Commit renames it
	if err != nil {
		return err
	}
	lower := o.r.b.Snapshots.Dirs(parents)
	slices.Reverse(lower)
	name := "run-" + unique()
	if err := o.r.b.Snapshots.Commit(sn, name); err != nil {
		upper.Close()
		return err
	}
	out.later(name, func(ctx context.Context) error {
		defer upper.Close()
		dir := fmt.Sprintf("/proc/self/fd/%d", upper.Fd())
		var left [][]string
		err := out.write(nil, func(w *layer.Writer) error {
			err := layer.DiffOver(ctx, dir, lower, w)
			left = w.Left()
			return err
		})
		if err != nil {
			return fmt.Errorf("archive what the step changed: %w", err)
		}
		if err := o.r.b.keepLeft(out.made.DiffID, left); err != nil {
			return err
		}
		return o.r.b.Cache.PutFact(SnapshotFacts, cache.Key(out.made.DiffID.Encoded()), []byte(name))
	})
	return nil
}

// expectRuns lets the executor get ready for the RUNs that are left: o has missed the
// cache, and what comes after it will hardly be there.
func (r *run) expectRuns(o op) {
	if r.b.Executor == nil || r.b.Detours.Unprepared {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.b.Executor.Expect(r.runsLeft)
	if _, ok := o.(*runOp); ok {
		r.runsLeft--
	}
}

// execute runs the command in the snapshot.
func (o *runOp) execute(ctx context.Context, sn *executor.Snapshot) error {
	return o.onScene(ctx, func(p executor.Process) error {
		log := o.r.log(o.step)
		out := newMask(log, o.secrets()) // one writer for both keeps their order
		err := o.limited(ctx, func(ctx context.Context) error {
			return o.r.b.Executor.Run(ctx, sn, p, executor.IO{Stdout: out, Stderr: out, Used: o.use()})
		})
		if ferr := out.Flush(); err == nil {
			err = ferr
		}
		if leak := o.checkOutput(log, out); err == nil {
			err = leak
		}
		return o.explain(err)
	})
}

// onScene calls do with the step's process when all that it mounts is there.
func (o *runOp) onScene(ctx context.Context, do func(executor.Process) error) error {
	proc, cleanup, err := o.process()
	if err != nil {
		return err
	}
	defer cleanup()
	scene := &scene{r: o.r, proc: &proc}
	defer scene.close()
	if err := scene.lockCaches(ctx, o.p.mounts); err != nil {
		return err
	}
	for i, m := range o.p.mounts {
		if m.hiddenBy(o.p.mounts[i+1:]) {
			continue
		}
		if err := scene.add(ctx, m); err != nil {
			return fmt.Errorf("--mount=%s: %w", m.Raw, err)
		}
	}
	if err := o.r.giveDevices(&proc, o.p.devices); err != nil {
		return err
	}
	return do(proc)
}

// process settles the environment, and puts a heredoc that is a program where
// the step can be shown it.
func (o *runOp) process() (executor.Process, func(), error) {
	none := func() {}
	env := o.p.env
	for _, e := range o.proxies {
		k, v, _ := strings.Cut(e, "=")
		env = env.with(k, v)
	}
	proc := executor.Process{
		Args: o.p.args, Env: env, Cwd: o.p.cwd, User: &o.p.user, Network: executor.NetworkHost,
		Hostname: o.p.hostname, ExtraHosts: o.p.shared.Hosts, ShmSize: o.p.shared.ShmSize, Limits: o.p.shared.Limits,
		DNS: o.p.shared.DNS, Certificates: o.p.shared.Certificates, Resources: o.p.shared.Resources, Insecure: o.p.insecure, Security: o.p.shared.Security,
	}
	if o.p.network == executor.NetworkNone || o.p.network == executor.NetworkIsolated {
		proc.Network = o.p.network
	}
	if o.p.scriptName == "" {
		return proc, none, nil
	}
	dir, err := o.scriptDir()
	if err != nil {
		return executor.Process{}, none, err
	}
	proc.Mounts = []specs.Mount{{Destination: pipesDir, Type: "bind", Source: dir, Options: []string{"bind", "ro"}}}
	return proc, func() { os.RemoveAll(dir) }, nil
}

// scriptDir puts a heredoc where the step can be shown it as a program.
func (o *runOp) scriptDir() (string, error) {
	dir, err := os.MkdirTemp(o.r.temp(), "tmp-script-*")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	file := filepath.Join(dir, o.p.scriptName)
	if err := os.WriteFile(file, []byte(o.p.script), 0o755); err != nil {
		return "", err
	}
	return dir, os.Chmod(file, 0o755)
}
