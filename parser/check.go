package parser

import (
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Check is what a "# check=" directive asks for.
type Check struct {
	Skip            []string // rules to leave out
	SkipAll         bool
	Experimental    []string // rules to use that are off by default
	ExperimentalAll bool
	Error           bool // findings are errors
}

// Wants tells whether a rule's findings are asked for.
func (c Check) Wants(rule string) bool {
	if rule == ruleDescription {
		return c.ExperimentalAll || slices.Contains(c.Experimental, rule)
	}
	return !c.SkipAll && !slices.Contains(c.Skip, rule)
}

// parseCheck reads "skip=RuleA,RuleB;error=true".
func parseCheck(text string) (Check, error) {
	var c Check
	if text = strings.TrimSpace(text); text == "" {
		return c, nil
	}
	for option := range strings.SplitSeq(text, ";") {
		key, value, ok := strings.Cut(option, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok || !slices.Contains(checkKeys, key):
			return Check{}, refuse(didYouMean(key, checkKeys), "invalid check option %q", option)
		case key == "skip":
			c.SkipAll, c.Skip = ruleList(value)
		case key == "experimental":
			c.ExperimentalAll, c.Experimental = ruleList(value)
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

func ruleList(value string) (all bool, rules []string) {
	if value == "all" {
		return true, nil
	}
	for rule := range strings.SplitSeq(value, ",") {
		rules = append(rules, strings.TrimSpace(rule))
	}
	return false, rules
}

// with adds what a check comment right above an instruction asks for.
func (c Check) with(comments []string) Check {
	for _, comment := range comments {
		var p parser.DirectiveParser
		p.SetComment("")
		d, _ := p.ParseLine([]byte(comment))
		if d == nil || d.Name != "check" {
			continue
		}
		option, _, _ := strings.Cut(d.Value, " ")
		more, err := parseCheck(option)
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
