package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/registry/retry"
)

const (
	// chunkSize is how much of a large blob goes into one request. What is smaller than two of them goes in one piece.
	chunkSize = 16 << 20
	// minChunk is how small chunks become where a registry, or a proxy before it, limits the size of a request.
	minChunk = 1 << 20
	// maxSessions is how often a blob in chunks is begun anew.
	maxSessions = 5
)

// errChunksRefused says that a registry wants blobs in one piece.
var errChunksRefused = errors.New("the registry takes no chunks")

// chunked is an upload in chunks, on its way.
type chunked struct {
	*upload
	e      *endpoint
	at     *url.URL // the session; nil before it is begun
	offset int64    // what the registry has
	size   int64    // of a chunk
	// resumed says that the session is an earlier process's, taken that a chunk has been.
	resumed, taken bool
	sessions       int
	notes          bool // the session is noted for later processes
}

// stream sends a blob while it is made. Its descriptor is known afterwards.
func (u *upload) stream(ctx context.Context) error {
	var err error
	if u.monolithic() {
		if u.desc, err = u.src.Descriptor(ctx); err == nil {
			_, err = u.known(ctx)
		}
		return err
	}
	if err = u.inChunks(ctx, nil); err == nil {
		err = u.remember(true)
	}
	return err
}

// inChunks sends a blob in chunks, and goes on where the registry says that it was when something breaks: in this process, or in the next
// one.
func (u *upload) inChunks(ctx context.Context, session *url.URL) error {
	e, err := u.j.origin(ctx)
	if err != nil {
		return err
	}
	s := &chunked{upload: u, e: e, at: session, size: max(u.j.c.chunkSize, u.least)}
	if u.memory != nil {
		unlock, err := u.memory.TryLock(s.noteName(), false)
		if err != nil {
			return fmt.Errorf("resume upload: %w", err)
		}
		if s.notes = unlock != nil; s.notes {
			defer unlock()
			s.recall(ctx)
		}
	}
	err = s.run(ctx)
	if errors.Is(err, errChunksRefused) {
		u.j.c.noChunks.Store(u.j.repo.Host, true)
		s.keep(nil)
		u.abandon(ctx, s.at)
		if u.desc, err = u.src.Descriptor(ctx); err == nil {
			err = u.send(ctx, nil)
		}
	}
	return err
}

// run sends chunk after chunk.
func (s *chunked) run(ctx context.Context) error {
	for failures := 0; ; {
		before := s.offset
		done, v, err := s.step(ctx)
		if s.offset > before {
			failures = 0
		}
		if err == nil && done {
			s.keep(nil)
			s.report(NotePushing, s.desc.Size, true)
			return nil
		}
		if err == nil {
			continue
		}
		if !v.again || failures == retry.Most || s.sessions > maxSessions {
			return err
		}
		why := fmt.Sprintf("upload of %s broke off at %d bytes", s.display().Digest, s.offset)
		if err := s.j.c.retry.pause(ctx, dialHost(s.j.repo.Host), failures, v, why); err != nil {
			return s.j.transportError(ctx, err)
		}
		failures++
		if s.desc.Digest != "" {
			if there, err := s.j.exists(ctx, "blobs", s.desc.Digest); err == nil && there { // only the answer was lost
				s.keep(nil)
				s.report(NotePushing, s.desc.Size, true)
				return nil
			}
		}
		s.ask(ctx)
	}
}

// step sends one chunk, or ends the upload after the last.
func (s *chunked) step(ctx context.Context) (done bool, v verdict, err error) {
	have, all, err := s.src.Available(ctx, s.offset+s.size)
	if err != nil {
		return false, verdict{}, err
	}
	if s.at == nil {
		if s.at, err = s.beginChunks(ctx); err != nil {
			return false, verdict{}, err
		}
	}
	switch {
	case s.offset < have:
		v, err = s.chunk(ctx, min(s.size, have-s.offset))
		return false, v, err
	case all && s.offset == have:
		v, err = s.finish(ctx)
		return err == nil, v, err
	}
	s.reset() // a session of something longer
	return false, verdict{again: true}, s.j.errorf("", "the registry has more than the %d bytes of %s", have, s.display().Digest)
}

// beginChunks opens a session.
func (s *chunked) beginChunks(ctx context.Context) (*url.URL, error) {
	s.sessions++
	resp, err := s.j.sendTo(ctx, s.e, call{method: http.MethodPost, path: s.j.name("blobs", "uploads", ""), want: []int{http.StatusAccepted}})
	if err != nil {
		return nil, err
	}
	defer discard(resp)
	s.noteLeast(resp)
	s.size = max(s.size, s.least)
	return s.location(s.e, resp)
}

// noteLeast reads how large chunks have to be.
func (u *upload) noteLeast(resp *http.Response) {
	if least, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil {
		u.least = min(max(u.least, least), 1<<30)
	}
}

// chunk sends the next n bytes.
func (s *chunked) chunk(ctx context.Context, n int64) (verdict, error) {
	if err := s.j.c.slots.Acquire(ctx, 1); err != nil {
		return verdict{}, s.j.transportError(ctx, err)
	}
	defer s.j.c.slots.Release(1)
	resp, v, err := s.put(ctx, s.e, call{
		method: http.MethodPatch, url: s.at,
		header: http.Header{"Content-Range": {fmt.Sprintf("%d-%d", s.offset, s.offset+n-1)}},
	}, s.offset, n)
	if err != nil {
		return v, err
	}
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusCreated, http.StatusNoContent, http.StatusOK:
		defer discard(resp)
		return verdict{}, s.accepted(resp, n)
	}
	return s.refused(resp, v)
}

// accepted moves on by what the registry says that it has.
func (s *chunked) accepted(resp *http.Response, n int64) error {
	got, told := receivedBytes(resp)
	switch {
	case !told:
		got = s.offset + n
	case got < s.offset || got > s.offset+n:
		return s.j.errorf("the registry, or a proxy before it, is at fault", "the registry says that it has %d bytes of %s, and it was sent those from %d to %d", got, s.display().Digest, s.offset, s.offset+n)
	}
	if resp.Header.Get("Location") != "" {
		at, err := s.location(s.e, resp)
		if err != nil {
			return err
		}
		s.at = at
	}
	s.offset, s.taken = got, true
	s.keep(s.at)
	return nil
}

// refused finds out what a refused chunk or end means for the next attempt.
func (s *chunked) refused(resp *http.Response, v verdict) (verdict, error) {
	status := resp.StatusCode
	answer := s.j.answerError(resp)
	first := !s.taken && !s.resumed
	switch {
	case v.again:
		return v, answer
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return v, answer
	case status == http.StatusRequestEntityTooLarge && s.size > minChunk:
		s.size = max(s.size/4, minChunk)
		v.again = true
	case status == http.StatusRequestedRangeNotSatisfiable && !first:
		v.again = true
	case answer.Code == "DIGEST_INVALID":
		v.again = s.resumed // by a process whose bytes were others
		s.reset()
	case first && status != http.StatusRequestEntityTooLarge:
		return verdict{}, errChunksRefused
	case status == http.StatusNotFound, answer.Code == "BLOB_UPLOAD_UNKNOWN", answer.Code == "BLOB_UPLOAD_INVALID":
		v.again = true // the session has got lost, say in a restart
		s.reset()
	}
	return v, answer
}

// finish ends the upload: the registry compares the digest.
func (s *chunked) finish(ctx context.Context) (verdict, error) {
	desc, err := s.src.Descriptor(ctx)
	if err != nil {
		return verdict{}, err
	}
	s.desc = desc
	resp, v, err := s.put(ctx, s.e, call{method: http.MethodPut, url: finishing(s.at, desc.Digest)}, s.offset, 0)
	if err != nil {
		return v, err
	}
	switch resp.StatusCode {
	case http.StatusCreated, http.StatusOK, http.StatusNoContent:
		discard(resp)
		return verdict{}, nil
	}
	s.taken = true
	return s.refused(resp, v)
}

// ask asks the registry how far the session has come. Without an answer to that it is given up.
func (s *chunked) ask(ctx context.Context) {
	if s.at == nil {
		return
	}
	resp, err := s.j.answer(ctx, s.e, call{method: http.MethodGet, url: s.at})
	if err != nil {
		s.reset()
		return
	}
	defer discard(resp)
	got, told := receivedBytes(resp)
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted || !told {
		s.reset()
		return
	}
	if resp.Header.Get("Location") != "" {
		if at, err := s.location(s.e, resp); err == nil {
			s.at = at
		}
	}
	s.offset = got
}

// reset begins anew with the next step.
func (s *chunked) reset() {
	s.at, s.offset, s.resumed = nil, 0, false
	s.keep(nil)
}

// receivedBytes reads from an answer how many bytes a session has: "0-99" says 100, but "0-0" is what many say of none.
func receivedBytes(resp *http.Response) (n int64, told bool) {
	span := strings.TrimPrefix(resp.Header.Get("Range"), "bytes=")
	first, last, ok := strings.Cut(span, "-")
	end, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || first != "0" || end < -1 {
		return 0, false
	}
	if end <= 0 {
		return 0, true
	}
	return end + 1, true
}

// sessionNote is what a later process is told.
type sessionNote struct {
	URL string `json:"url"`
}

func (u *upload) noteName() string { return "upload " + u.place() + " " + u.key }

// Unfinished reports whether an earlier process has sent a part of a stream, which a PushStream under the same key goes on with.
func (c *Client) Unfinished(repo Repository, key string, memory Memory) bool {
	u := &upload{j: job{c: c, repo: Repository{Host: nameHost(repo.Host), Name: repo.Name}}, key: key}
	return memory.Note(u.noteName()) != nil
}

// keep notes the session, or that there is none. It helps, and is not needed.
func (s *chunked) keep(at *url.URL) {
	if !s.notes {
		return
	}
	var text []byte
	if at != nil {
		text, _ = json.Marshal(sessionNote{at.String()})
	}
	_ = s.memory.PutNote(s.noteName(), text)
}

// recall takes up the session of an earlier process.
func (s *chunked) recall(ctx context.Context) {
	var note sessionNote
	if json.Unmarshal(s.memory.Note(s.noteName()), &note) != nil {
		return
	}
	at, err := url.Parse(note.URL)
	if err == nil {
		at, err = s.acceptable(s.e, at)
	}
	if err != nil {
		s.keep(nil)
		return
	}
	fresh := s.at
	s.at, s.resumed = at, true
	if s.ask(ctx); s.at == nil {
		s.at = fresh
	} else if fresh != nil {
		s.abandon(ctx, fresh)
	}
}
