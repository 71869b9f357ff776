package main

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/parser"
)

// notes gathers the warnings of a build, each once, to be told at its end:
// above the progress of the steps nobody would see them.
type notes struct {
	mu   sync.Mutex
	list []parser.Warning
}

// tee gives a receiver of events that notes warnings and passes all on.
func (n *notes) tee(to func(build.Event)) func(build.Event) {
	return func(e build.Event) {
		if e.Kind == build.Warned {
			n.add(parser.Warning{Range: e.Range, Rule: e.Rule, Msg: e.Text})
		}
		to(e)
	}
}

func (n *notes) add(w parser.Warning) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.list, w) {
		n.list = append(n.list, w)
	}
}

// write prints the warnings much as buildx does with --debug: what was found,
// where more is written, and the lines.
func (n *notes) write(w io.Writer, src *source) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n %s found:\n", plural(len(n.list), "warning"))
	for _, found := range byLine(n.list) {
		fmt.Fprintf(w, " - %s\n", sanitizeLine(shortWarning(found)))
		if url := parser.RuleNamed(found.Rule).URL; url != "" {
			fmt.Fprintf(w, "More info: %s\n", url)
		}
		writeExcerpt(w, src.name, src.text, found.Range)
		fmt.Fprintln(w)
	}
}

// shortWarning words a warning in a line: "Rule: what was found (line 3)".
func shortWarning(w parser.Warning) string {
	text := w.Msg
	if w.Rule != "" {
		text = w.Rule + ": " + text
	}
	if w.Range.Start > 0 {
		text += fmt.Sprintf(" (line %d)", w.Range.Start)
	}
	return text
}

// byLine sorts warnings by their place; those without one come first.
func byLine(list []parser.Warning) []parser.Warning {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b parser.Warning) int { return a.Range.Start - b.Range.Start })
	return list
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
