package build

import (
	"bytes"
	"io"
	"maps"
	"slices"
)

// mask passes output on with every secret in it replaced. It holds back no more than
// what may be the beginning of one.
type mask struct {
	w       io.Writer
	needles []needle
	held    []byte
	found   *needle // the first that is certainly one

	// What is broken into lines is found in what was written, not in what is held.
	watch *seeker
	seen  []byte
}

// masked is what stands for a secret.
const masked = "***"

// newMask masks secrets: each whole, or line by line and in pieces if it is long.
func newMask(w io.Writer, secrets map[string][]byte) *mask {
	m := &mask{w: w}
	for _, id := range slices.Sorted(maps.Keys(secrets)) {
		secret := bytes.TrimRight(secrets[id], "\r\n")
		if len(secret) <= maxNeedle {
			m.needles = append(m.needles, needles(id, secret)...)
		}
		if len(secret) > maxNeedle || bytes.IndexByte(secret, '\n') >= 0 {
			m.addPieces(id, secret)
		}
	}
	m.watch = newSeeker(secrets)
	m.watch.needles = slices.DeleteFunc(m.watch.needles, func(n needle) bool { return n.word })
	m.addBroken()
	slices.SortStableFunc(m.needles, func(a, b needle) int { return len(b.text) - len(a.text) })
	return m
}

func (m *mask) addPieces(id string, secret []byte) {
	for line := range bytes.SplitSeq(secret, []byte("\n")) {
		for piece := range slices.Chunk(bytes.TrimSpace(line), maxNeedle) {
			if len(piece) >= surelySecret {
				m.needles = append(m.needles, needle{id: id, text: piece, word: true})
			}
		}
	}
	for _, n := range needles(id, secret) {
		if n.form != "" || len(secret) > maxNeedle {
			m.needles = append(m.needles, n)
		}
	}
}

// pieceOf64 is how much of an encoded secret is masked by itself, for it may be broken into
// lines anywhere; maxBroken is how long one may be for that.
const (
	pieceOf64 = 8
	maxBroken = 256
)

// addBroken masks encoded secrets in pieces too.
func (m *mask) addBroken() {
	for _, n := range slices.Clone(m.needles) {
		if !n.flat || len(n.text) > maxBroken {
			continue
		}
		for piece := range slices.Chunk(n.text, pieceOf64) {
			if len(piece) == pieceOf64 {
				m.needles = append(m.needles, needle{id: n.id, text: piece, word: true})
			}
		}
	}
}

// look notes the first secret in what is written, in lines or not.
func (m *mask) look(p []byte) {
	if m.found != nil || len(m.watch.needles) == 0 {
		return
	}
	m.seen = append(m.seen, p...)
	m.found = m.watch.inPart(m.seen, false, false)
	m.seen = append(m.seen[:0], m.seen[max(0, len(m.seen)-m.watch.keep()):]...)
}

// Write passes on all that can hold no part of a secret.
func (m *mask) Write(p []byte) (int, error) {
	if len(m.needles) == 0 {
		return m.w.Write(p)
	}
	m.look(p)
	m.held = append(m.held, p...)
	return len(p), m.pass(false)
}

// Flush passes the rest on: nothing comes after it.
func (m *mask) Flush() error { return m.pass(true) }

func (m *mask) pass(last bool) error {
	var out []byte
	for {
		at, n := m.first()
		if n == nil || !last && len(m.held)-m.begun() <= at { // or it may become a longer one
			break
		}
		out = append(append(out, m.held[:at]...), masked...)
		m.held = m.held[at+len(n.text):]
	}
	rest := len(m.held)
	if !last {
		rest -= m.begun()
	}
	out = append(out, m.held[:rest]...)
	m.held = append([]byte(nil), m.held[rest:]...)
	if len(out) == 0 {
		return nil
	}
	_, err := m.w.Write(out)
	return err
}

// first finds the secret that comes first; of several there, the longest.
func (m *mask) first() (at int, found *needle) {
	for i := range m.needles {
		n := &m.needles[i]
		text := m.held
		if found != nil {
			text = text[:min(len(text), at+len(n.text)-1)]
		}
		if j := bytes.Index(text, n.text); j >= 0 {
			at, found = j, n
		}
	}
	return at, found
}

// begun is how long the longest beginning of a secret at the end is.
func (m *mask) begun() int {
	longest := 0
	for _, n := range m.needles {
		for k := min(len(n.text)-1, len(m.held)); k > longest; k-- {
			if bytes.HasSuffix(m.held, n.text[:k]) {
				longest = k
				break
			}
		}
	}
	return longest
}
