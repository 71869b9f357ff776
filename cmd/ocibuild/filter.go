package main

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image"
)

// filterKeys are the filters of images.
var filterKeys = []string{"dangling", "reference", "label", "before", "since", "until"}

// parseFilters reads the values of images --filter.
func parseFilters(texts []string, now time.Time) (image.ListOptions, error) {
	var o image.ListOptions
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || value == "" {
			return o, usagef("--filter=%s: a filter looks like KEY=VALUE", text)
		}
		if err := setFilter(&o, key, value, now); err != nil {
			return o, filterError(text, key, err)
		}
	}
	return o, nil
}

var errUnknownFilter = fmt.Errorf("unknown filter")

func setFilter(o *image.ListOptions, key, value string, now time.Time) (err error) {
	switch key {
	case "dangling":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("dangling is true or false")
		}
		o.Dangling = &b
	case "reference":
		_, err = path.Match(value, "")
		o.References = append(o.References, value)
	case "label":
		o.Labels = append(o.Labels, value)
	case "before":
		o.Before = value
	case "since":
		o.Since = value
	case "until":
		o.Until, err = parseMoment(value, now)
	default:
		return errUnknownFilter
	}
	return err
}

func filterError(text, key string, err error) error {
	e := &usageError{msg: fmt.Sprintf("--filter=%s: %v", text, err)}
	if err != errUnknownFilter {
		return e
	}
	e.msg = fmt.Sprintf("--filter=%s: unknown filter %q", text, key)
	e.hint = "the filters are " + strings.Join(filterKeys, ", ")
	if near := nearest(key, filterKeys); near != "" {
		e.msg += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return e
}

// parseMoment reads a time as docker's filters do: a date with or without a
// time, seconds since 1970, or how long ago.
func parseMoment(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2024-01-31, 2024-01-31T12:00:00, or 24h for a day ago", text)
}
