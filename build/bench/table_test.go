package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// row is a line of the table: what one builder, or the floor, took.
type row struct {
	scenario, what string
	cost           cost
	floor          cost
	note           string
}

// rows are gathered by the benchmarks and printed when all have run.
var rows []row

// printTable prints what was measured.
func printTable(w io.Writer) {
	if len(rows) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nSCENARIO\tBUILDER\tWALL\tCPU\tPEAK\tX FLOOR\tNOTE")
	last := ""
	for _, r := range rows {
		name := r.scenario
		if name == last {
			name = ""
		}
		last = r.scenario
		fmt.Fprintln(t, strings.TrimRight(strings.Join([]string{name, r.what, seconds(r.cost.Wall), seconds(r.cost.CPU), mebibytes(r.cost.Peak), r.ratio(), r.note}, "\t"), "\t"))
	}
	t.Flush()
}

func (r row) ratio() string {
	if r.floor.Wall == 0 || r.what == "floor" {
		return ""
	}
	return fmt.Sprintf("%.2f", r.cost.Wall.Seconds()/r.floor.Wall.Seconds())
}

// seconds prints three digits, as many as a measurement has.
func seconds(d time.Duration) string {
	switch s := d.Seconds(); {
	case s < 0.1:
		return fmt.Sprintf("%.1f ms", s*1000)
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 10:
		return fmt.Sprintf("%.2f s", s)
	default:
		return fmt.Sprintf("%.1f s", s)
	}
}

// micros prints the time for one of many.
func micros(d time.Duration) string {
	if us := d.Seconds() * 1e6; us < 10_000 {
		return fmt.Sprintf("%.1f us", us)
	}
	return seconds(d)
}

func mebibytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
