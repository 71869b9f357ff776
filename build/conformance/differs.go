package conformance

import (
	"fmt"
	"os"
	"strings"
)

// Known are differences that are known, and why: by builder and case.
type Known map[string]string

// ReadKnown reads a file of lines "BUILDER CASE: REASON".
func ReadKnown(file string) (Known, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	k := Known{}
	for i, line := range lines(string(text)) {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, reason, ok := strings.Cut(line, ": ")
		if !ok || len(strings.Fields(key)) != 2 || k[key] != "" {
			return nil, fmt.Errorf("%s:%d: want BUILDER CASE: REASON, once for each", file, i+1)
		}
		k[key] = reason
	}
	return k, nil
}

// Has reports whether a difference of a builder is known for a case.
func (k Known) Has(builder, name string) bool { return k[builder+" "+name] != "" }

// Judge compares a difference with what is known of the builder and the case.
// The verdict is for people; an error says that the two do not agree.
func (k Known) Judge(builder, name, difference string) (verdict string, err error) {
	reason, listed := k[builder+" "+name]
	switch {
	case difference == "" && listed:
		return "", fmt.Errorf("equal, but listed as different: %s", reason)
	case difference == "":
		return "equal", nil
	case listed:
		return "differs, as listed: " + reason, nil
	}
	return "", fmt.Errorf("differs (- is ours, + is %s's):\n%s", builder, difference)
}
