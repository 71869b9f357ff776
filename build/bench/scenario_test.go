package bench

import (
	"fmt"
	"testing"
	"time"
)

// scenario is one thing that is measured.
type scenario struct {
	name string // as -bench chooses it
	aim  string // what we want, as a ratio to the floor or a time
	cold bool   // each turn begins with an empty store
	make func(p *place) *job
}

// job is a scenario with its inputs made.
type job struct {
	source
	registry *server                  // nil: no names of a registry
	bases    []string                 // pulled before the clock starts
	before   func(i int) error        // changes the inputs, once for each builder's turn
	prepare  func(turn) error         // beside it, once a store, not measured
	run      func(turn) (cost, error) // what is measured; nil is a build
	floor    func(i int) (cost, error)
	// size and unit say how much of what there is, where the cost of each tells something.
	size int64
	unit string
}

// turn is one builder's store when it is about to be measured.
type turn struct {
	*job
	store
	tag string
}

func (t turn) buildIt() (cost, error) { return t.build(t.source, t.tag) }

func (t turn) pushIt() (cost, error) { return t.push(t.tag) }

// measure runs the floor and every builder in turns, as long as -benchtime says.
func (s scenario) measure(b *testing.B) { s.measureWith(b, builders(b)) }

func (s scenario) measureWith(b *testing.B, all []builder) {
	p := newPlace(b)
	j := s.make(p)
	m := &measurement{scenario: s, job: j, costs: map[string][]cost{}}
	stores := make([]*turn, len(all))
	i := 0
	for b.Loop() {
		m.add(b, "floor", func() (cost, error) { return j.floor(i) })
		for k, builder := range all {
			if stores[k] == nil || s.cold {
				if stores[k] != nil {
					check(b, stores[k].close())
				}
				stores[k] = j.open(p, builder)
			}
			i++
			if j.before != nil {
				check(b, j.before(i))
			}
			m.add(b, builder.name, func() (cost, error) { return j.run(*stores[k]) })
		}
	}
	for _, t := range stores {
		check(b, t.close())
	}
	m.report(b, all)
}

// open gives a builder an empty store with the bases.
func (j *job) open(p *place, builder builder) *turn {
	p.b.Helper()
	st, err := builder.open(p.fresh())
	check(p.b, err)
	for _, ref := range j.bases {
		check(p.b, st.pull(ref))
	}
	t := &turn{j, st, "bench-" + builder.name + ":v1"}
	if j.registry != nil {
		t.tag = j.registry.host + "/" + t.tag
	}
	if j.prepare != nil {
		check(p.b, j.prepare(*t))
	}
	return t
}

// measurement gathers what a scenario's turns took.
type measurement struct {
	scenario
	job   *job
	costs map[string][]cost
}

func (m *measurement) add(b *testing.B, what string, work func() (cost, error)) {
	b.Helper()
	c, err := work()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
	m.costs[what] = append(m.costs[what], c)
}

// report gives the figures of ours to the benchmark's line, and all to the table.
func (m *measurement) report(b *testing.B, all []builder) {
	b.Helper()
	floor, ours := median(m.costs["floor"]), median(m.costs["ocibuild"])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours.Wall.Seconds()*1000, "ms")
	b.ReportMetric(ours.CPU.Seconds()*1000, "cpu-ms")
	b.ReportMetric(float64(ours.Peak)/(1<<20), "peak-MiB")
	b.ReportMetric(floor.Wall.Seconds()*1000, "floor-ms")
	b.ReportMetric(ours.Wall.Seconds()/floor.Wall.Seconds(), "x-floor")
	rows = append(rows, row{scenario: m.name, what: "floor", cost: floor, note: fmt.Sprintf("medians of %d", len(m.costs["floor"]))})
	for _, builder := range all {
		r := row{scenario: m.name, what: builder.name, cost: median(m.costs[builder.name]), floor: floor}
		if builder.name == "ocibuild" {
			r.note = m.goal() + m.job.each(r.cost)
		}
		rows = append(rows, r)
	}
}

// each is the time on processors for each of what there is: the same from row to row
// where cost is linear, a tenth where it is flat.
func (j *job) each(c cost) string {
	if j.unit == "" {
		return ""
	}
	return fmt.Sprintf("CPU: %s a %s", micros(c.CPU/time.Duration(j.size)), j.unit)
}

func (s scenario) goal() string {
	if s.aim == "" {
		return ""
	}
	return "aim: " + s.aim
}
