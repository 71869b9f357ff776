package build

import (
	"time"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/parser"
)

// EventKind says what an Event reports.
type EventKind string

// The kinds of events. Every step has one Started and one Finished; Log lies
// between them.
const (
	Planned  EventKind = "planned"  // the graph is known; Total is set
	Started  EventKind = "started"  // a step has its inputs and begins
	Log      EventKind = "log"      // a piece of the step's output (Data)
	Status   EventKind = "status"   // what the step is doing now, and how far (Text, Current, Total)
	Finished EventKind = "finished" // a step ended: Cached, Duration, Err
	Warned   EventKind = "warning"  // Text, Rule and Range of a warning
)

// Event is one piece of progress. It is a value; Data must not be kept after
// the call.
type Event struct {
	Kind EventKind
	Time time.Time
	// Step is the step the event is about; nil for Planned, and for a Warned
	// that is no step's.
	Step *Step
	// Data is output of the step, its standard output and error in the order
	// they were written.
	Data []byte
	Text string
	// Rule is the rule of package parser that found what is warned of, or empty.
	Rule string
	// Current and Total are bytes for a Status; Total is the number of steps for Planned.
	Current, Total int64
	Cached         bool
	Duration       time.Duration
	// Used is what the commands of a Finished step took of the machine; nil if none ran.
	Used  *executor.Usage
	Err   error
	Range parser.Range
}
