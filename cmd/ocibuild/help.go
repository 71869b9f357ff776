package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

type helpCommand struct{ write func(io.Writer) error }

// topics are what help explains besides the verbs and the instructions.
var topics = []struct {
	name  string
	write func(io.Writer) error
}{
	{"dockerfile", writeReference},
	{"checks", writeChecks},
	{"exit-codes", writeExitCodes},
	{"registries", writeRegistries},
}

func helpDescription() *command {
	return &command{
		name: "help", args: "[VERB... | INSTRUCTION | dockerfile | checks | registries | exit-codes]",
		short: "explain a verb, a Dockerfile instruction or a topic",
		long: "Prints the overview, the help of one verb, one instruction of Dockerfiles or all of them, the rules of lint, where registries and " +
			"credentials are configured, or the table of exit codes.",
		examples: []example{
			{"ocibuild help build", "all flags of build"},
			{"ocibuild help dockerfile", "the instructions of a Dockerfile and their flags"},
			{"ocibuild help COPY", "everything about one of them"},
			{"ocibuild help exit-codes", "what the exit codes mean"},
		},
		make: func() verb { return &helpCommand{} },
	}
}

func (h *helpCommand) flags(*pflag.FlagSet) {}

func (h *helpCommand) accept(_ *stdio, args []string) error {
	if len(args) == 0 {
		h.write = writeOverview
		return nil
	}
	if c := lookupCommand(commands(), args[0]); c != nil {
		return h.checkVerb(c, args[1:])
	}
	if h.write = helpOn(args[0]); h.write == nil {
		return unknownTopic(args[0])
	}
	return count(args, 1, 1, "at most one topic")
}

// checkVerb finds the verb or its part that help is asked for.
func (h *helpCommand) checkVerb(c *command, rest []string) error {
	if len(c.subs) > 0 && len(rest) > 0 {
		var err error
		if c, rest, err = findSub(c, rest); err != nil {
			return err
		}
	}
	h.write = func(w io.Writer) error { return writeHelp(w, c) }
	return count(rest, 0, 0, "at most one verb")
}

// helpOn gives what prints the help on a topic or an instruction, or nil.
func helpOn(topic string) func(io.Writer) error {
	for _, t := range topics {
		if t.name == topic {
			return t.write
		}
	}
	if in, ok := findInstruction(topic); ok {
		return func(w io.Writer) error { return writeInstruction(w, in) }
	}
	return nil
}

func unknownTopic(topic string) error {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	for _, t := range topics {
		names = append(names, t.name)
	}
	near := nearest(topic, names)
	for _, in := range dockerfileReference {
		if near == "" && nearest(topic, []string{strings.ToLower(in.keyword)}) != "" {
			near = in.keyword
		}
	}
	msg := fmt.Sprintf("there is no help on %q", topic)
	if near != "" {
		msg += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return &usageError{msg: msg, hint: "`ocibuild help` lists the verbs, `ocibuild help dockerfile` the instructions"}
}

func (h *helpCommand) run(_ context.Context, s *session) error { return h.write(s.out) }

// writeOverview prints what ocibuild is and its verbs.
func writeOverview(w io.Writer) error {
	var b strings.Builder
	b.WriteString("ocibuild builds container images from Dockerfiles, without a daemon.\n\n" +
		"Usage:\n  ocibuild [build] [flags] CONTEXT\n  ocibuild VERB [flags] [arguments]\n\nVerbs:\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-9s %s\n", c.name, c.short)
	}
	b.WriteString("\nExamples:\n" +
		"  ocibuild -t app:v1 .              build the Dockerfile here and call the image app:v1\n" +
		"  ocibuild images                   list the images\n" +
		"  ocibuild push ghcr.io/me/app:v1   send an image to its registry\n" +
		"\nMore:\n" +
		"  ocibuild help VERB                explain a verb\n" +
		"  ocibuild help dockerfile          the instructions of a Dockerfile; ocibuild help COPY, for one\n" +
		"  ocibuild help checks, exit-codes  what lint finds, how ocibuild ends\n" +
		"  ocibuild help registries          mirrors, certificates and credentials\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// writeGroup prints the verbs of a group.
func writeGroup(w io.Writer, c *command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage:\n  ocibuild %s VERB [flags] [arguments]\n\n%s\n\nVerbs:\n", c.name, c.short, c.name, wrap(c.long, 80, ""))
	for _, sub := range c.subs {
		fmt.Fprintf(&b, "  %-9s %s\n", sub.verbName(), sub.short)
	}
	fmt.Fprintf(&b, "\nMore:\n  ocibuild help %s VERB\n", c.name)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeHelp prints a command's help.
func writeHelp(w io.Writer, c *command) error {
	if len(c.subs) > 0 {
		return writeGroup(w, c)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage:\n  ocibuild %s [flags]", c.name, c.short, c.name)
	if c.args != "" {
		b.WriteString(" " + c.args)
	}
	long := c.long
	if len(c.also) > 0 {
		long += "\n\nAlso: ocibuild " + strings.Join(c.also, ", ocibuild ")
	}
	fmt.Fprintf(&b, "\n\n%s\n\nFlags:\n", wrap(long, 80, ""))
	flagSet(c, c.make(), &globals{}).VisitAll(func(f *pflag.Flag) { writeFlag(&b, f) })
	if len(c.examples) > 0 {
		b.WriteString("\nExamples:\n")
		for _, e := range c.examples {
			fmt.Fprintf(&b, "  %s\n", e.line)
			if e.does != "" {
				fmt.Fprintf(&b, "      %s\n", e.does)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeFlag prints one flag with its value's name and what it does.
func writeFlag(b *strings.Builder, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	name, usage := pflag.UnquoteUsage(f)
	left := "      --" + f.Name
	if f.Shorthand != "" {
		left = "  -" + f.Shorthand + ", --" + f.Name
	}
	switch {
	case f.Value.Type() == "bool":
	case f.NoOptDefVal != "":
		left += "[=" + name + "]"
	default:
		left += " " + name
	}
	if len(left) > 26 {
		fmt.Fprintf(b, "%s\n%28s%s\n", left, "", wrap(usage, 72, strings.Repeat(" ", 28)))
		return
	}
	fmt.Fprintf(b, "%-28s%s\n", left, wrap(usage, 72, strings.Repeat(" ", 28)))
}

// wrap breaks text into lines of at most width columns; lines after the first
// begin with indent. Lines that are there already stay.
func wrap(text string, width int, indent string) string {
	var out []string
	for _, paragraph := range strings.Split(text, "\n") {
		if strings.HasPrefix(paragraph, " ") {
			out = append(out, paragraph)
			continue
		}
		line := ""
		for _, word := range strings.Fields(paragraph) {
			if line != "" && len(line)+1+len(word) > width {
				out, line = append(out, line), ""
			}
			if line != "" {
				line += " "
			}
			line += word
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n"+indent)
}
