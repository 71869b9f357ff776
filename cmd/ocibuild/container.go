package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// containerCommand is `ocibuild run`. The first group of fields is what the flags
// say, the second what Check made of it.
type containerCommand struct {
	envTexts, envFiles, volumeTexts, tmpfsTexts []string
	groupTexts                                  []string
	workdir, user, hostname, pullText           string
	entrypoint                                  string
	input, terminal, remove, readOnly           bool
	insecure                                    []string
	platform                                    platformFlag
	limit                                       limitFlags
	security                                    securityFlags
	net                                         netFlags
	runtime                                     runtimeFlag
	entrypointFlag                              *pflag.Flag

	name   string
	args   []string
	env    []string
	mounts []specs.Mount
	proc   executor.Process
}

func containerDescription() *command {
	return &command{
		name: "run", args: "IMAGE [COMMAND [ARGUMENT...]]", short: "run a command in an image",
		long: "Runs the image's command, or another one, in the foreground, the way that steps of builds are run, and ends with its exit " +
			"code. All that it changes is dropped at the end. An image that is not in the store is pulled.\n" +
			"\n" +
			"Flags of ocibuild come before IMAGE; what comes after it is the command's. Signals are passed on to it. Its network is " +
			"this machine's, if --network says nothing else, so -p has nothing to do.",
		examples: []example{
			{"ocibuild run app:v1", "the image's own command"},
			{"ocibuild run app:v1 app --version", "another one, to see whether the image is any good"},
			{"ocibuild run -it --entrypoint sh app:v1", "a shell (`ocibuild shell` is shorter)"},
			{"ocibuild run -v $PWD:/src:ro -w /src -m 1g golang go test ./...", "with files of this machine, and a limit"},
		},
		enters: true, relays: true,
		make: func() verb { return &containerCommand{} },
	}
}

func (c *containerCommand) flags(fs *pflag.FlagSet) {
	fs.SetInterspersed(false)
	fs.StringArrayVarP(&c.envTexts, "env", "e", nil, "set a variable, `NAME=VALUE`, or NAME to take it from the environment (may be repeated)")
	fs.StringArrayVar(&c.envFiles, "env-file", nil, "set the variables that this `FILE` lists, one a line (may be repeated)")
	fs.StringVarP(&c.workdir, "workdir", "w", "", "begin in this `DIR`")
	fs.StringVarP(&c.user, "user", "u", "", "run as `USER[:GROUP]`, names or numbers")
	fs.StringSliceVar(&c.groupTexts, "group-add", nil, "give the process this `GROUP` too, a number (may be repeated)")
	fs.StringArrayVarP(&c.volumeTexts, "volume", "v", nil, "show a file or directory of this machine, `SOURCE:TARGET[:ro|rw]` (may be repeated)")
	fs.StringArrayVar(&c.tmpfsTexts, "tmpfs", nil, "mount an empty file system in memory, `TARGET[:OPTIONS]` (may be repeated)")
	fs.StringVar(&c.entrypoint, "entrypoint", "", "run this `PROGRAM` and not the image's entrypoint and command")
	c.entrypointFlag = fs.Lookup("entrypoint")
	fs.BoolVarP(&c.input, "interactive", "i", false, "let the command read standard input")
	fs.BoolVarP(&c.terminal, "tty", "t", false, "give the command a terminal of its own")
	fs.BoolVar(&c.remove, "rm", true, "drop what the command has changed: there is nothing else")
	fs.BoolVar(&c.readOnly, "read-only", false, "let the command write to its mounts only")
	fs.StringVarP(&c.hostname, "hostname", "h", "", "the `NAME` of the machine that the command sees (default: the image's id)")
	fs.StringVar(&c.pullText, "pull", string(build.PullMissing), "`WHEN` to ask the registry for the image: always, missing or never (default: missing)")
	c.platform.declare(fs, "run the image for this `OS/ARCH[/VARIANT]`")
	c.limit.flags(fs, "the command")
	c.security.flags(fs, "the command")
	c.net.flags(fs, "the command")
	c.runtime.flags(fs, "the command")
	insecureFlag(fs, &c.insecure)
}

func (c *containerCommand) accept(s *stdio, args []string) error {
	if len(args) == 0 {
		return &usageError{msg: "one IMAGE is missing", hint: "`ocibuild images` lists what is there"}
	}
	c.name, c.args = args[0], args[1:]
	pulls := []string{"always", "missing", "never"}
	switch {
	case !slices.Contains(pulls, c.pullText):
		return oneOf("--pull", c.pullText, pulls)
	case !c.remove:
		return &usageError{msg: "--rm=false: what a command changes is not kept", hint: "a RUN instruction keeps what its command changes"}
	case c.terminal && !s.inTTY:
		return &usageError{msg: "-t needs a terminal, and standard input is none", hint: "leave -t out; -i alone passes standard input on"}
	case c.workdir != "" && !path.IsAbs(c.workdir):
		return usagef("--workdir=%s: it takes an absolute path", c.workdir)
	}
	if err := c.platform.check(); err != nil {
		return err
	}
	if err := c.limit.check(); err != nil {
		return err
	}
	var err error
	if c.proc.Security, err = c.security.check(); err != nil {
		return err
	}
	if err = c.net.check(); err != nil {
		return err
	}
	if c.proc.MoreGroups, err = groups(c.groupTexts); err != nil {
		return err
	}
	if c.env, err = variables(c.envTexts, c.envFiles, s.env); err != nil {
		return err
	}
	return c.checkMounts()
}

func groups(texts []string) ([]uint32, error) {
	var list []uint32
	for _, text := range texts {
		var n uint32
		if _, err := fmt.Sscanf(text+"\n", "%d\n", &n); err != nil {
			return nil, usagef("--group-add=%s: it takes a number", text)
		}
		list = append(list, n)
	}
	return list, nil
}

// variables reads -e and --env-file; the flags count more than the files.
func variables(texts, files []string, env func(string) (string, bool)) ([]string, error) {
	var all []string
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("--env-file=%s: %s", name, plainCause(err))
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if line := strings.TrimLeft(lines.Text(), " \t"); line != "" && line[0] != '#' {
				all = append(all, line)
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, usagef("--env-file=%s: %v", name, err)
		}
	}
	var out []string
	for _, text := range append(all, texts...) {
		name, value, ok := strings.Cut(text, "=")
		if name == "" || strings.ContainsAny(name, " \t") {
			return nil, usagef("%q is no variable: write NAME=VALUE or NAME", text)
		}
		if !ok {
			if value, ok = env(name); !ok {
				continue
			}
		}
		out = append(out, name+"="+value)
	}
	return out, nil
}

// checkMounts reads -v and --tmpfs.
func (c *containerCommand) checkMounts() error {
	for _, text := range c.volumeTexts {
		m, err := parseVolume(text)
		if err != nil {
			return err
		}
		c.mounts = append(c.mounts, m)
	}
	for _, text := range c.tmpfsTexts {
		target, options, _ := strings.Cut(text, ":")
		if !path.IsAbs(target) || path.Clean(target) == "/" {
			return usagef("--tmpfs=%s: it takes an absolute path", text)
		}
		m := specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev"}}
		if options != "" {
			m.Options = append(m.Options, strings.Split(options, ",")...)
		}
		c.mounts = append(c.mounts, m)
	}
	return nil
}

// parseVolume reads SOURCE:TARGET[:ro|rw].
func parseVolume(text string) (specs.Mount, error) {
	fields := strings.Split(text, ":")
	hint := "write SOURCE:TARGET, SOURCE:TARGET:ro, with a path of this machine as SOURCE"
	if len(fields) < 2 || len(fields) > 3 || fields[0] == "" || !path.IsAbs(fields[1]) || path.Clean(fields[1]) == "/" {
		return specs.Mount{}, &usageError{msg: fmt.Sprintf("%s: this is not how a mount is written", text), hint: hint}
	}
	if !strings.ContainsRune(fields[0], '/') && fields[0] != "." && fields[0] != ".." {
		return specs.Mount{}, &usageError{msg: fmt.Sprintf("%s: there are no volumes with names", text), hint: hint}
	}
	m := specs.Mount{Destination: fields[1], Type: "bind", Options: []string{"rbind"}}
	if len(fields) == 3 {
		switch fields[2] {
		case "ro", "readonly":
			m.Options = append(m.Options, "rro")
		case "rw", "z", "Z":
		default:
			return m, &usageError{msg: fmt.Sprintf("%s: unknown option %q", text, fields[2]), hint: "it is ro or rw"}
		}
	}
	var err error
	if m.Source, err = filepath.Abs(fields[0]); err != nil {
		return m, err
	}
	if _, err := os.Stat(m.Source); err != nil {
		return m, usagef("%s: %s", fields[0], plainCause(err))
	}
	return m, nil
}

func (c *containerCommand) run(ctx context.Context, s *session) error {
	show := newDisplay("plain", s.stdio)
	b, err := s.builder(show, c.insecure, 0)
	if err != nil {
		return err
	}
	if b.Executor == nil {
		return noRunError(s)
	}
	if err := c.runtime.use(b.Executor); err != nil {
		return err
	}
	lease, err := b.Store.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	img, err := c.find(ctx, s, b)
	if err != nil {
		return err
	}
	layers, err := b.Unpack(ctx, img.Layers)
	if err != nil {
		return err
	}
	show.close()
	if err := c.settle(s, img); err != nil {
		return err
	}
	c.limit.tell(s.err, b.Executor)
	sn, err := b.Snapshots.Prepare(ctx, layers)
	if err != nil {
		return err
	}
	defer sn.Discard() //nolint:errcheck // what stays behind, the next prune removes
	return containerError(c.start(ctx, s, func(ctx context.Context, io executor.IO) error {
		return b.Executor.Run(ctx, sn, c.proc, io)
	}))
}

// noRunError is why no command can be run here.
func noRunError(s *session) error {
	return &storeError{msg: "commands cannot be run here: " + s.noRun, hint: "`ocibuild doctor` says what would change that"}
}

// find gives the image: the store's, by whatever it can be called, or a registry's.
func (c *containerCommand) find(ctx context.Context, s *session, b *build.Builder) (*image.Image, error) {
	img, err := selectImage(ctx, s, c.name, c.platform.want)
	ref, refErr := image.ParseRef(c.name)
	if c.pullText == "never" || refErr != nil || c.pullText == "missing" && (err == nil || !errors.Is(err, image.ErrNotFound)) {
		return img, err
	}
	p := image.HostPlatform()
	if c.platform.want != nil {
		p = *c.platform.want
	}
	return b.Bases.Image(ctx, ref, p, build.PullPolicy(c.pullText))
}

// settle says what is run, from what the image says and the flags.
func (c *containerCommand) settle(s *session, img *image.Image) error {
	config := img.Config.Config
	p := &c.proc
	p.Args = slices.Concat(config.Entrypoint, c.args)
	switch {
	case c.entrypointFlag.Changed && c.entrypoint != "":
		p.Args = append([]string{c.entrypoint}, c.args...)
	case c.entrypointFlag.Changed:
		p.Args = c.args
	case len(c.args) == 0:
		p.Args = slices.Concat(config.Entrypoint, config.Cmd)
	}
	if len(p.Args) == 0 {
		return &usageError{msg: c.name + " names no command to run", hint: fmt.Sprintf("`ocibuild run %s COMMAND`", c.name)}
	}
	p.Env = build.Environment(config.Env, c.env)
	if c.terminal {
		p.Env = build.Environment([]string{"TERM=" + s.terminalName()}, p.Env)
	}
	p.Cwd, p.User = config.WorkingDir, &config.User
	if c.workdir != "" {
		p.Cwd = c.workdir
	}
	if c.user != "" {
		p.User = &c.user
	}
	if p.Hostname = c.hostname; p.Hostname == "" {
		p.Hostname = shortID(img.ID())
	}
	if p.Network = executor.NetworkHost; c.net.network != "default" {
		p.Network = c.net.network
	}
	p.ExtraHosts, p.DNS, p.Certificates = c.net.hosts, c.net.dns, c.net.certificates
	p.ReadOnly, p.Mounts = c.readOnly, c.mounts
	p.Resources, p.Limits, p.ShmSize = c.limit.resources, c.limit.limits, c.limit.shmSize
	return nil
}

// patience is how many signals a command gets before it is killed.
const patience = 3

// start runs the command with what of ours it is to have: the input, the terminal,
// the signals.
func (c *containerCommand) start(ctx context.Context, s *session, run func(context.Context, executor.IO) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	relayed := make(chan os.Signal)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case sig := <-signals:
				if n >= patience {
					cancel()
					return
				}
				select {
				case relayed <- sig:
				case <-ctx.Done():
				}
			}
		}
	}()
	if c.terminal {
		return withTerminal(s.out, func(io executor.IO) error {
			if !c.input {
				io.Stdin = nil
			}
			io.Signals = relayed
			return run(ctx, io)
		})
	}
	io := executor.IO{Stdout: s.out, Stderr: s.err, Signals: relayed}
	if c.input {
		io.Stdin = s.in
	}
	return run(ctx, io)
}
