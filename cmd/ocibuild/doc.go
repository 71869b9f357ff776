// Command ocibuild builds container images from Dockerfiles without a daemon
// and looks after the store they are kept in.
//
// Each verb has a file of its own and is described by a command value in the
// table of commands.go: its words for help, its rights, and a verb that works
// in three phases. flags declares flags; accept looks at flags and arguments and
// touches nothing; run gets a session, which opens the store on first use. So
// wrong arguments never create a store, and help and version need none.
//
// Verbs read and write through the session's stdio only: results on standard
// output, everything else on standard error. Every error ends in report, which
// prints it once, with a hint where there is one, and gives the exit code that
// `ocibuild help exit-codes` documents.
//
// Progress goes to a display: plain lines, a live terminal view, JSON lines or
// nothing. A display gets the events of package build and the transfers of
// package registry and never asks anything back.
//
// The command knows no Dockerfile rules, no formats of the store and no
// registry protocol; it wires the packages that do.
package main
