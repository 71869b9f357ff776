package main

import (
	"errors"
	"fmt"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

// parseChanges reads the values of --change.
func parseChanges(texts []string) ([]build.Change, error) {
	var changes []build.Change
	for _, text := range texts {
		change, err := build.ParseChange(text)
		if err != nil {
			return nil, changeError(text, err)
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// applyChanges carries out changes on an image's config.
func applyChanges(cfg image.Config, changes []build.Change) (image.Config, error) {
	changed, err := build.ApplyChanges(cfg, changes)
	var at *build.ChangeError
	if errors.As(err, &at) {
		return cfg, changeError(at.Change.String(), at.Err)
	}
	return changed, err
}

// changeError words what is wrong with a change.
func changeError(text string, err error) error {
	e := &usageError{msg: fmt.Sprintf("--change %q: %v", text, err)}
	var bad *parser.Error
	var hinted *build.Hinted
	switch {
	case errors.As(err, &bad):
		e.msg, e.hint = fmt.Sprintf("--change %q: %s", text, bad.Msg), bad.Hint
	case errors.As(err, &hinted):
		e.hint = hinted.Hint
	}
	return e
}
