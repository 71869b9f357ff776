package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/registry"
)

// ttyDisplay keeps a block of lines at the bottom of a terminal up to date:
// what is under way, with timers and the last lines of output. What is done is
// printed once above the block and scrolls away.
type ttyDisplay struct {
	mu   sync.Mutex
	w    io.Writer
	size func() (columns, rows int)
	now  func() time.Time
	rows rows

	start       time.Time
	total, done int
	finished    []string // lines to print above the block in the next frame
	drawn       []int    // columns of each line of the block on the screen

	held bool // the screen is somebody else's
	stop chan struct{}
	wait sync.WaitGroup
}

// frameInterval is the time between two frames.
const frameInterval = 100 * time.Millisecond

// newTTYDisplay begins to draw.
func newTTYDisplay(w io.Writer, size func() (int, int)) *ttyDisplay {
	d := &ttyDisplay{w: w, size: size, now: time.Now, rows: newRows(), start: time.Now(), stop: make(chan struct{})}
	d.wait.Add(1)
	go d.run()
	return d
}

func (d *ttyDisplay) run() {
	defer d.wait.Done()
	tick := time.NewTicker(frameInterval)
	defer tick.Stop()
	for {
		select {
		case <-d.stop:
			return
		case <-tick.C:
			d.mu.Lock()
			if !d.held {
				d.draw(false)
			}
			d.mu.Unlock()
		}
	}
}

func (d *ttyDisplay) close() {
	close(d.stop)
	d.wait.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.draw(true)
}

func (d *ttyDisplay) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.draw(true)
	d.held = true
}

func (d *ttyDisplay) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = false
}

func (d *ttyDisplay) event(e build.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case e.Kind == build.Planned:
		d.total += int(e.Total)
		return
	case e.Step == nil, e.Kind == build.Warned:
		return
	case !e.Step.Working():
		if e.Kind == build.Finished {
			d.done++
		}
		return
	}
	r := d.rows.steps[e.Step]
	if r == nil {
		r = d.rows.step(e.Step, e.Time)
	}
	switch e.Kind {
	case build.Log:
		r.log(e.Data, func(string) {})
	case build.Status:
		r.status = statusText(e.Text, e.Current, e.Total)
	case build.Finished:
		d.finish(r, outcome(e.Cached, e.Duration, e.Err), e.Duration)
	}
}

func (d *ttyDisplay) status(r *row, text string, done, total int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.status = statusText(text, done, total)
}

func statusText(text string, done, total int64) string {
	text = sanitizeLine(text)
	if total > 0 {
		text += fmt.Sprintf(" %s / %s", humanSize(done), humanSize(total))
	}
	return text
}

// finish moves a row from the block to the lines above it.
func (d *ttyDisplay) finish(r *row, outcome string, took time.Duration) {
	d.rows.remove(r)
	d.done++
	word, rest, _ := strings.Cut(outcome, " ")
	switch strings.TrimSuffix(word, ":") {
	case "DONE":
		word, rest = "", ""
	case "ERROR":
		rest = ": " + rest
	default:
		rest = ""
	}
	if word = strings.TrimSuffix(word, ":"); word != "" {
		word += " "
	}
	width, _ := d.screen()
	d.finished = append(d.finished, aligned(" => "+word+r.name+rest, seconds(took), width))
}

func (d *ttyDisplay) begin(name, repo string) *row {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total++
	return d.rows.add(name, repo, d.now())
}

func (d *ttyDisplay) end(r *row, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	took := d.now().Sub(r.start)
	d.finish(r, outcome(false, took, err), took)
}

func (d *ttyDisplay) transfer(p registry.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if text, ok := hostNote(p); ok {
		if r := d.rows.of(p); r != nil {
			r.status = sanitizeLine(text)
		}
		return
	}
	d.rows.transfer(p, d.now())
}

// screen is the size to draw for.
func (d *ttyDisplay) screen() (width, height int) {
	width, height = d.size()
	if width < 20 {
		width = 80
	}
	if height < 4 {
		height = 24
	}
	return width, height
}

// draw writes one frame in one piece: back to the top of the block, the lines
// that are done, the block anew. The last frame has no block.
func (d *ttyDisplay) draw(last bool) {
	width, height := d.screen()
	var block []string
	if !last {
		block = d.block(width, height)
	}
	if len(block) == 0 && len(d.drawn) == 0 && len(d.finished) == 0 {
		return
	}
	var b strings.Builder
	b.WriteString("\x1b[?2026h\x1b[?25l")
	if up := d.height(width); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	b.WriteString("\r")
	for _, line := range append(d.finished, block...) {
		b.WriteString(clip(line, width) + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	if last {
		b.WriteString("\x1b[?25h")
	}
	b.WriteString("\x1b[?2026l")
	d.finished, d.drawn = nil, d.drawn[:0]
	for _, line := range block {
		d.drawn = append(d.drawn, columns(clip(line, width)))
	}
	_, _ = io.WriteString(d.w, b.String())
}

// height is how many rows the block takes on a screen of that width; lines
// drawn on a wider one have been wrapped by the terminal.
func (d *ttyDisplay) height(width int) int {
	n := 0
	for _, c := range d.drawn {
		n += max(1, (c+width-1)/width)
	}
	return n
}

// block gives the lines for what is under way, as many as fit.
func (d *ttyDisplay) block(width, height int) []string {
	if len(d.rows.live) == 0 {
		return nil
	}
	now := d.now()
	lines := []string{aligned(fmt.Sprintf("[+] %d/%d", d.done, d.total), seconds(now.Sub(d.start)), width)}
	room := height - 2 - len(d.rows.live)
	for _, r := range d.rows.live {
		r.sum(now)
		right := seconds(now.Sub(r.start))
		if r.moving() > 1 {
			right = r.all.text() + "  " + right
		}
		lines = append(lines, aligned(" => "+r.name, right, width))
		detail := r.detail(now, max(0, min(room, tailLines)))
		room -= len(detail)
		for _, l := range detail {
			lines = append(lines, clip(" => => "+l, width))
		}
	}
	return lines[:min(len(lines), height-1)]
}

// detail gives at most n lines below a row: transfers under way, else status
// and output.
func (r *row) detail(now time.Time, n int) []string {
	var out []string
	for _, t := range r.transfers {
		if !t.done && t.note != registry.NoteWaiting {
			t.rate.add(now, t.offset) // one that has stopped gets slower
			out = append(out, transferText(t))
		}
	}
	if r.status != "" {
		out = append(out, r.status)
	}
	for _, line := range r.tail {
		out = append(out, "# "+line)
	}
	return out[max(0, len(out)-n):]
}

// aligned puts right at the end of a line of that width.
func aligned(left, right string, width int) string {
	room := width - columns(right) - 1
	left = clip(left, room)
	return left + strings.Repeat(" ", max(1, room-columns(left)+1)) + right
}
