package executor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// streams are the pipes between a command and what it is to read and write: it never
// gets a descriptor of the caller's own.
type streams struct {
	theirs []*os.File // output, errors, and input if there is one
	from   io.Reader  // what the input is, if there is one
	to     *os.File   // where it is written to
	copies sync.WaitGroup
	mu     sync.Mutex
	err    error // of the copies
}

// streams makes the pipes. With a terminal the command has them for what goes wrong before
// that is there.
func (j job) streams() (*streams, error) {
	s := &streams{}
	if err := s.open(j.io); err != nil {
		s.close()
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	return s, nil
}

func (s *streams) open(to IO) error {
	if err := s.output(to.Stdout); err != nil {
		return err
	}
	if sameWriter(to.Stdout, to.Stderr) { // one pipe keeps their order
		s.theirs = append(s.theirs, s.theirs[0])
	} else if err := s.output(to.Stderr); err != nil {
		return err
	}
	if to.Stdin == nil || to.Terminal != nil {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.theirs, s.from, s.to = append(s.theirs, r), to.Stdin, w
	return nil
}

// output makes a pipe whose other end w gets.
func (s *streams) output(w io.Writer) error {
	r, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	if w == nil {
		w = io.Discard
	}
	s.theirs = append(s.theirs, theirs)
	s.copies.Go(func() {
		_, err := io.Copy(w, r)
		r.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = errors.Join(s.err, err)
	})
	return nil
}

// sameWriter reports whether two writers are one. Those that cannot be compared are not.
func sameWriter(a, b io.Writer) (yes bool) {
	defer func() { _ = recover() }() //nolint:errcheck // there is nothing in it
	return a == b
}

// begin is called when the process has their ends. Input is copied until one of the two
// ends has had enough.
func (s *streams) begin() {
	s.closeTheirs()
	if s.from == nil {
		return
	}
	go func() {
		_, _ = io.Copy(s.to, s.from)
		s.to.Close()
	}()
}

// wait waits until all output is copied. The process has ended.
func (s *streams) wait() error {
	s.copies.Wait()
	return s.err
}

// close is for what does not begin.
func (s *streams) close() {
	s.closeTheirs()
	if s.to != nil {
		s.to.Close()
	}
	s.copies.Wait()
}

func (s *streams) closeTheirs() {
	for _, f := range s.theirs {
		f.Close()
	}
}
