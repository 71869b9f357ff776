package parser

import (
	"errors"
	"fmt"
	"strings"
)

var (
	errBrace  = errors.New("syntax error: missing '}'")
	errBad    = errors.New("syntax error: bad substitution")
	errSingle = errors.New("unexpected end of statement while looking for matching single-quote")
	errDouble = errors.New("unexpected end of statement while looking for matching double-quote")
)

// variable expands what begins with a dollar: $name, ${name} or ${name op ..}.
// A dollar that no name follows is itself.
func (e *expansion) variable() (string, error) {
	e.next()
	if e.peek() != '{' {
		name := e.name()
		if name == "" {
			return "$", nil
		}
		value, _ := e.lookup(name)
		return value, nil
	}
	e.next()
	switch e.peek() {
	case end:
		return "", errBrace
	case '{', '}', ':':
		return "", errBad
	}
	name := e.name()
	op, s := e.next()
	switch op {
	case end:
		return "", errBrace
	case '}':
		value, _ := e.lookup(name)
		return value, nil
	case '-', '+', '?':
		return e.conditional(name, op, false)
	case ':':
		after, s2 := e.next()
		switch after {
		case '-', '+', '?':
			return e.conditional(name, after, true)
		}
		return "", fmt.Errorf("unsupported modifier (%s%s) in substitution", s, s2)
	case '#', '%':
		return e.trim(name, op)
	case '/':
		return e.replace(name)
	}
	return "", fmt.Errorf("unsupported modifier (%s) in substitution", s)
}

// conditional carries out - + and ?, and with a colon the forms that take an
// empty value for an unset one. The word is expanded even when it is not
// needed, so a mistake in it always shows.
func (e *expansion) conditional(name string, op rune, colon bool) (string, error) {
	out, err := e.until('}', operandText)
	if err != nil {
		return "", err
	}
	word := out.text.String()
	value, set := e.lookup(name)
	missing := !set || colon && value == ""
	switch {
	case op == '+' && missing:
		return "", nil
	case op == '+', op == '-' && missing:
		return word, nil
	case op == '?' && missing:
		return "", required(name, word, set)
	}
	return value, nil
}

// required is the refusal of ${name?message}.
func required(name, message string, set bool) error {
	switch {
	case message != "":
		return fmt.Errorf("%s: %s", name, message)
	case set:
		return fmt.Errorf("%s: is not allowed to be empty", name)
	}
	return fmt.Errorf("%s: is not allowed to be unset", name)
}

// trim carries out # ## % and %%.
func (e *expansion) trim(name string, op rune) (string, error) {
	out, err := e.until('}', operandPattern)
	if err != nil {
		return "", err
	}
	pattern, greedy := strings.CutPrefix(out.text.String(), string(op))
	p, err := compilePattern(pattern)
	if err != nil {
		return "", err
	}
	value, _ := e.lookup(name)
	if op == '#' {
		return p.trimPrefix(value, greedy), nil
	}
	return p.trimSuffix(value, greedy), nil
}

// replace carries out / and //. The pattern ends at the next slash, so none
// but an escaped one can stand in it.
func (e *expansion) replace(name string) (string, error) {
	all := e.peek() == '/'
	if all {
		e.next()
	}
	pattern, err := e.until('/', operandPattern)
	if err != nil {
		return "", err
	}
	with, err := e.until('}', operandReplacement)
	if err != nil {
		return "", err
	}
	p, err := compilePattern(pattern.text.String())
	if err != nil {
		return "", err
	}
	value, _ := e.lookup(name)
	return p.replace(value, with.text.String(), all), nil
}
