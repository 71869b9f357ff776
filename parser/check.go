package parser

import (
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Check is what a "# check=" directive asks for, or in its place the build
// argument BUILDKIT_DOCKERFILE_CHECK.
type Check struct {
	Skip            []string // rules to leave out
	SkipAll         bool
	Experimental    []string // rules to use that are off by default
	ExperimentalAll bool
	Error           bool // findings are errors
}

// Wants tells whether a rule's findings are asked for.
func (c Check) Wants(rule string) bool {
	if RuleNamed(rule).Experimental {
		return c.ExperimentalAll || slices.Contains(c.Experimental, rule)
	}
	return !c.SkipAll && !slices.Contains(c.Skip, rule)
}

// ParseCheck reads "skip=RuleA,RuleB;error=true". Its errors have no place.
func ParseCheck(text string) (Check, error) {
	var c Check
	if text = strings.TrimSpace(text); text == "" {
		return c, nil
	}
	for _, option := range strings.SplitN(text, ";", len(checkKeys)) {
		key, value, ok := strings.Cut(option, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok || !slices.Contains(checkKeys, key):
			return Check{}, refuse(didYouMean(key, checkKeys), "invalid check option %q", option)
		case key == "skip":
			ruleList(value, &c.SkipAll, &c.Skip)
		case key == "experimental":
			ruleList(value, &c.ExperimentalAll, &c.Experimental)
		default:
			on, err := strconv.ParseBool(value)
			if err != nil {
				return Check{}, refuse("true or false", "invalid check option %q", option)
			}
			c.Error = on
		}
	}
	return c, nil
}

var checkKeys = []string{"skip", "experimental", "error"}

// ruleList reads the names of rules, or "all".
func ruleList(value string, all *bool, rules *[]string) {
	if value == "all" {
		*all = true
		return
	}
	*rules = strings.Split(value, ",")
	for i, rule := range *rules {
		(*rules)[i] = strings.TrimSpace(rule)
	}
}

// With adds what a check comment right above an instruction asks for. Whether
// findings are errors is for the whole file, and no comment changes it.
func (c Check) With(comments []string) Check {
	for _, comment := range comments {
		var p parser.DirectiveParser
		p.SetComment("")
		d, _ := p.ParseLine([]byte(comment))
		if d == nil || d.Name != "check" {
			continue
		}
		option, _, _ := strings.Cut(d.Value, " ")
		more, err := ParseCheck(option)
		if err != nil {
			return c // a comment is free to hold anything
		}
		c.Skip = slices.Concat(c.Skip, more.Skip)
		c.SkipAll = c.SkipAll || more.SkipAll
		c.Experimental = slices.Concat(c.Experimental, more.Experimental)
		c.ExperimentalAll = c.ExperimentalAll || more.ExperimentalAll
		return c
	}
	return c
}
