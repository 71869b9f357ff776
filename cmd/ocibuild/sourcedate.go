package main

import (
	"strconv"
	"time"
)

// sourceDate reads a SOURCE_DATE_EPOCH; empty means that none is set.
func sourceDate(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return nil, &usageError{
			msg:  "SOURCE_DATE_EPOCH=" + text + " is not a time",
			hint: "it is a number of seconds since 1970, such as `git log -1 --format=%ct` prints",
		}
	}
	t := time.Unix(n, 0).UTC()
	return &t, nil
}
