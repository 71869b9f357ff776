package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Record is what a step gave, under the key of what it read.
type Record struct {
	// Key is the key of the step.
	Key Key `json:"key"`
	// Name identifies the same step in other builds, whatever its inputs are; what it is made of is the caller's choice.
	Name string `json:"name"`
	// Trail holds the fields that Key was made of.
	Trail Trail `json:"trail"`
	// Value is the step's result, for the caller to read.
	Value json.RawMessage `json:"value,omitempty"`
	// Blobs are the blobs that Value speaks of; whoever prunes blobs keeps those of records that stay.
	Blobs []ocispec.Descriptor `json:"blobs,omitempty"`
	// Created says when the step ran.
	Created time.Time `json:"created"`
	// Duration says how long the step took.
	Duration time.Duration `json:"duration"`
	// Used says when the record was last used, to within UseResolution. It is the file's mtime and not in the file.
	Used time.Time `json:"-"`
}

// MissError says why a key has no record that can be used. It wraps fs.ErrNotExist when there is none, and ErrDamaged when
// there is one that cannot be read.
type MissError struct {
	Key    Key
	Reason string
	Err    error
}

// Error describes the miss in one line.
func (e *MissError) Error() string {
	return fmt.Sprintf("cache miss %.12s: %s", string(e.Key), e.Reason)
}

// Unwrap returns the cause.
func (e *MissError) Unwrap() error {
	return e.Err
}

// Get returns the record of a key and marks it used. Its error is always a *MissError.
func (s *Store) Get(key Key) (*Record, error) {
	return s.get(key, s.now())
}

// get reads a record, and marks it used when now is not zero.
func (s *Store) get(key Key, now time.Time) (*Record, error) {
	if !key.valid() {
		return nil, miss(key, fmt.Errorf("%w: %.80q is not a key", ErrDamaged, string(key)))
	}
	path := s.path(stepsDir, string(key))
	body, err := readSealed(path, "record", now)
	if err != nil {
		return nil, miss(key, err)
	}
	r, err := decodeRecord(key, body)
	if err != nil {
		return nil, miss(key, err)
	}
	r.Used = now
	if now.IsZero() {
		if info, err := os.Stat(path); err == nil {
			r.Used = info.ModTime()
		}
	}
	return r, nil
}

// decodeRecord reads the body of a record's file.
func decodeRecord(key Key, body []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if r.Key != key {
		return nil, fmt.Errorf("%w: holds the record of %.80q", ErrDamaged, string(r.Key))
	}
	return &r, nil
}

// miss wraps the error of a read.
func miss(key Key, err error) *MissError {
	reason := err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason = "no record"
	case errors.Is(err, ErrDamaged):
		reason = "record is " + reason
	}
	return &MissError{Key: key, Reason: reason, Err: err}
}

// Put keeps a record in place of any that its key has. The blobs that it names must be safe on disk before.
func (s *Store) Put(r *Record) error {
	if !r.Key.valid() {
		return fmt.Errorf("put record: %.80q is not a key", string(r.Key))
	}
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("put record %s: %w", r.Key, err)
	}
	if err := writeSealed(s.path(stepsDir, string(r.Key)), "record", body); err != nil {
		return fmt.Errorf("put record %s: %w", r.Key, err)
	}
	if err := s.index(r.Name, r.Key); err != nil {
		return fmt.Errorf("index record %s: %w", r.Key, err)
	}
	return nil
}
