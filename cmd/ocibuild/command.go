package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// verb is what a command does, in three phases.
type verb interface {
	// flags declares the verb's flags.
	flags(fs *pflag.FlagSet)
	// accept looks at the flags and the arguments. It must not write anything
	// and must not need a store.
	accept(io *stdio, args []string) error
	// run does the work.
	run(ctx context.Context, s *session) error
}

// command describes a verb.
type command struct {
	name string
	// args is the usage line's part after the flags.
	args string
	// short is one line for the overview, long the help text.
	short, long string
	// examples are command lines with what they do.
	examples []example
	// enters says that the verb touches files whose owners differ from the
	// user, so that an ordinary user needs a user namespace for it.
	enters bool
	// relays says that signals are for a process that the verb runs.
	relays bool
	// grows says that the verb adds to the store, which is kept below its limit then.
	grows bool
	// sends says that the verb stores only what saves work later: it goes on without
	// where the store is full.
	sends bool
	make  func() verb
	// subs are the verbs of a group, whose names begin with the group's. A group
	// has no make.
	subs []*command
	// also are other names that the verb goes by, each as a whole.
	also []string
}

type example struct{ line, does string }

// invocation is a command line that has been understood.
type invocation struct {
	command *command
	verb    verb
	globals globals
	args    []string
}

// usageError is a command line that cannot be meant.
type usageError struct {
	msg, hint string
}

// Error is what is wrong with the command line, without the hint.
func (e *usageError) Error() string { return e.msg }

// usagef makes a usageError without a hint.
func usagef(format string, args ...any) error {
	return &usageError{msg: fmt.Sprintf(format, args...)}
}

// helpRequest is not a mistake: the user asked for a command's help.
type helpRequest struct{ command *command }

// Error is never printed: the help is.
func (e *helpRequest) Error() string { return "help requested" }

// parse finds the command in args and has its flags and arguments checked.
func parse(args []string, io *stdio) (*invocation, error) {
	root, args, err := leadingRoot(args)
	if err != nil {
		return nil, err
	}
	cmd, args, err := findCommand(args)
	if err != nil {
		return nil, err
	}
	inv := &invocation{command: cmd, verb: cmd.make()}
	fs := flagSet(cmd, inv.verb, &inv.globals)
	inv.globals.root = root
	if err := fs.Parse(args); err != nil {
		return nil, flagError(cmd, fs, err)
	}
	inv.args = fs.Args()
	return inv, inv.verb.accept(io, inv.args)
}

// leadingRoot takes --root from before the verb.
func leadingRoot(args []string) (root string, rest []string, err error) {
	for len(args) > 0 {
		switch {
		case args[0] == "--root" && len(args) == 1:
			return "", nil, usagef("--root needs a directory")
		case args[0] == "--root":
			root, args = args[1], args[2:]
		case strings.HasPrefix(args[0], "--root="):
			root, args = strings.TrimPrefix(args[0], "--root="), args[1:]
		default:
			return root, args, nil
		}
	}
	return root, args, nil
}

// findCommand gives the command that args name, and its arguments. What is no
// verb is the beginning of a build, unless it can only be a mistyped verb.
func findCommand(args []string) (*command, []string, error) {
	all := commands()
	if len(args) == 0 {
		return nil, nil, &usageError{
			msg:  "a verb or a context directory is missing",
			hint: "`ocibuild -t app:v1 .` builds the Dockerfile here; `ocibuild help` lists the verbs",
		}
	}
	switch first := args[0]; {
	case first == "-h" || first == "--help":
		return lookupCommand(all, "help"), args[1:], nil
	case first == "-v" || first == "--version":
		return lookupCommand(all, "version"), args[1:], nil
	case lookupCommand(all, first) != nil:
		return findSub(lookupCommand(all, first), args[1:])
	case strings.HasPrefix(first, "-") && first != "-", looksLikePath(first):
		return lookupCommand(all, "build"), args, nil
	default:
		return nil, nil, unknownVerb(first, all)
	}
}

// lookupCommand finds a command by its whole name, or another that it goes by.
func lookupCommand(list []*command, name string) *command {
	for _, c := range list {
		if c.name == name || slices.Contains(c.also, name) {
			return c
		}
	}
	for _, c := range list {
		if sub := lookupCommand(c.subs, name); sub != nil {
			return sub
		}
	}
	return nil
}

// findSub gives the verb of a group that args name; a command without verbs is
// itself.
func findSub(c *command, args []string) (*command, []string, error) {
	switch {
	case len(c.subs) == 0:
		return c, args, nil
	case len(args) == 0:
		return nil, nil, &usageError{msg: c.name + " needs a verb after it", hint: "`ocibuild help " + c.name + "` lists them"}
	case args[0] == "-h" || args[0] == "--help":
		return nil, nil, &helpRequest{c}
	}
	if sub := lookupCommand(c.subs, c.name+" "+args[0]); sub != nil {
		return sub, args[1:], nil
	}
	e := &usageError{msg: fmt.Sprintf("unknown verb %q after %s", args[0], c.name), hint: "`ocibuild help " + c.name + "` lists them"}
	var names []string
	for _, sub := range c.subs {
		names = append(names, sub.verbName())
	}
	if near := nearest(args[0], names); near != "" {
		e.msg += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return nil, nil, e
}

// verbName is the last word of a command's name.
func (c *command) verbName() string { return c.name[strings.LastIndexByte(c.name, ' ')+1:] }

// looksLikePath tells a build's context from a mistyped verb.
func looksLikePath(word string) bool {
	if strings.ContainsAny(word, "/.:") || word == "-" || word == "" {
		return true
	}
	_, err := os.Stat(word)
	return err == nil
}

func unknownVerb(word string, all []*command) error {
	names := make([]string, 0, len(all))
	for _, c := range all {
		names = append(names, c.name)
	}
	msg := fmt.Sprintf("unknown verb %q, and there is no such directory to build", word)
	if near := nearest(word, names); near != "" {
		msg = fmt.Sprintf("unknown verb %q (did you mean %s?)", word, near)
	}
	return &usageError{msg: msg, hint: "`ocibuild help` lists the verbs"}
}

// globals are the values of flags that are no verb's own.
type globals struct{ root, storeMax, isolation string }

// flagSet declares the flags of a command: its own and the global ones.
func flagSet(cmd *command, v verb, g *globals) *pflag.FlagSet {
	fs := pflag.NewFlagSet(cmd.name, pflag.ContinueOnError)
	fs.SortFlags = true
	fs.Usage = func() {}
	v.flags(fs)
	if cmd.enters {
		fs.StringVar(&g.isolation, "isolation", "", "work at this `LEVEL` of isolation: auto, root, rootless, rootless-single, chroot or none (default $OCIBUILD_ISOLATION, or auto)")
	}
	if cmd.grows {
		fs.StringVar(&g.storeMax, limitFlag, "", "let the store take at most this `SIZE`: what was not used for longest goes, and what has no room then ends; save and push keep no compressed layers then (default $"+limitVariable+", the store's config file, or none)")
	}
	fs.StringVar(&g.root, "root", "", "keep images and the build cache in this `DIR` (default $OCIBUILD_ROOT, /var/lib/ocibuild for root, ~/.local/share/ocibuild for others)")
	return fs
}

// flagError words what pflag found wrong.
func flagError(cmd *command, fs *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	hint := fmt.Sprintf("`ocibuild help %s` lists the flags", cmd.name)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return &helpRequest{cmd}
	case errors.As(err, &unknown):
		return unknownFlag(cmd, fs, unknown)
	case errors.As(err, &missing):
		return &usageError{msg: fmt.Sprintf("%s needs a value", flagWord(missing.GetSpecifiedName())), hint: hint}
	case errors.As(err, &invalid):
		return &usageError{msg: fmt.Sprintf("--%s=%s: %v", invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap()), hint: hint}
	}
	return &usageError{msg: err.Error(), hint: hint}
}

func flagWord(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func unknownFlag(cmd *command, fs *pflag.FlagSet, unknown *pflag.NotExistError) error {
	name := unknown.GetSpecifiedName()
	e := &usageError{
		msg:  fmt.Sprintf("unknown flag %s for %s", flagWord(name), cmd.name),
		hint: fmt.Sprintf("`ocibuild help %s` lists the flags", cmd.name),
	}
	var names []string
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if why := instead[cmd.name][name]; why != "" {
		e.hint = why
	} else if near := nearest(name, names); near != "" && len(name) > 1 {
		e.msg += fmt.Sprintf(" (did you mean --%s?)", near)
	}
	return e
}

// count checks the number of arguments; want words it for the error.
func count(args []string, low, high int, want string) error {
	switch {
	case len(args) < low && len(args) == 0:
		return usagef("%s is missing", want)
	case len(args) < low, high >= 0 && len(args) > high:
		return usagef("want %s, got %s", want, strings.Join(args, " "))
	}
	return nil
}
