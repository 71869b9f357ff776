package main

import (
	"fmt"
	"math"
	"time"
)

const (
	// rateStep is the shortest time that a speed is measured over.
	rateStep = 500 * time.Millisecond
	// rateMemory is how long what was measured counts for most of what is shown.
	rateMemory = 3 * time.Second
)

// rate is how fast bytes move, smoothed.
type rate struct {
	begun  bool
	known  bool
	at     time.Time
	offset int64
	speed  float64 // bytes a second
}

// add takes note of where a transfer is. One that has gone back begins anew.
func (r *rate) add(now time.Time, offset int64) {
	if !r.begun || offset < r.offset {
		*r = rate{begun: true, at: now, offset: offset}
		return
	}
	took := now.Sub(r.at)
	if took < rateStep {
		return
	}
	speed := float64(offset-r.offset) / took.Seconds()
	weight := 1.0
	if r.known {
		weight = 1 - math.Exp(-float64(took)/float64(rateMemory))
	}
	r.speed += (speed - r.speed) * weight
	r.known, r.at, r.offset = true, now, offset
}

// left is how long the bytes that are missing will take; negative if nobody
// knows.
func (r *rate) left(missing int64) time.Duration {
	if !r.known || r.speed < 1 || missing <= 0 {
		return -1
	}
	return time.Duration(min(float64(missing)/r.speed, 1e6) * float64(time.Second))
}

// text words the speed and the time that is left: " 3.4MB/s 12s left". It is
// empty as long as nothing has been measured.
func (r *rate) text(missing int64) string {
	if !r.known {
		return ""
	}
	text := " " + humanSize(int64(r.speed)) + "/s"
	if left := r.left(missing); left >= 0 {
		text += fmt.Sprintf(" %s left", left.Round(time.Second))
	}
	return text
}

// amount is bytes on the way: of one blob, or of all.
type amount struct {
	offset, total int64
	rate          rate
}

func (a *amount) missing() int64 { return max(0, a.total-a.offset) }

// text words it: "1.2MB / 3.4MB 1MB/s 2s left".
func (a *amount) text() string {
	text := humanSize(a.offset)
	if a.total > 0 {
		text += " / " + humanSize(a.total)
	}
	return text + a.rate.text(a.missing())
}

// jsonAmount is an amount in an event.
type jsonAmount struct {
	Current     int64    `json:"current"`
	Total       int64    `json:"total"`
	Rate        int64    `json:"bytes_per_second,omitempty"`
	SecondsLeft *float64 `json:"seconds_left,omitempty"`
}

func (a *amount) event() jsonAmount {
	j := jsonAmount{Current: a.offset, Total: a.total, Rate: int64(a.rate.speed)}
	if left := a.rate.left(a.missing()); left >= 0 {
		s := math.Round(left.Seconds()*10) / 10
		j.SecondsLeft = &s
	}
	return j
}
