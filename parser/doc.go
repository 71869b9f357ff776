// Package parser turns Dockerfile text into typed instructions.
//
// Parse reads a whole Dockerfile, ParseTrigger one stored ONBUILD trigger,
// Expander expands the variables of a word, and Ignore answers what a
// .dockerignore file leaves out. Everything here is pure: text in, values out;
// no file is opened, no network is asked and no variable is looked up except
// through the Lookup a caller hands in.
//
// Lines are cut, continuations joined and heredocs collected by BuildKit's
// frontend/dockerfile/parser, which is what makes the two builders agree on
// the odd corners of the grammar. This package is its only importer, and the
// rest (flags, arguments, refusals, expansion, warnings) is its own.
//
// Invariants:
//
//   - The language is that of the Dockerfile frontend 1.28. A flag, option or
//     instruction outside it is refused, never skipped.
//   - Parse does not expand variables. Fields hold words as they are written,
//     quotes and escapes included; Expander takes both away.
//   - Every error of Parse, ParseTrigger and ParseIgnore is an *Error that
//     names the file, the lines and, where there is one, a next step.
//   - Instructions are immutable once Parse has returned them; a Dockerfile
//     may be read from several goroutines.
//
// The package does not decide what a builder can carry out, does not resolve
// images or stages, and does not check that a file exists.
package parser
