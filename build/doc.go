// Package build turns a parsed Dockerfile into an image in the store.
//
// It works in two halves. Plan is pure: from a Dockerfile, arguments and a
// target it makes a Graph of Steps, and nothing later reads Dockerfile text.
// Builder.Build has the effects: it walks the graph, a step as soon as its
// inputs are there, and gives each step a State, an immutable value of image
// config, build arguments in scope and layers.
//
// Every step that can change the root filesystem is {key, run}: key reads the
// input State and gives a cache.Key over the content of what the step can see;
// run is called on a miss only and gives one layer. Config instructions have
// no key: they are functions from State to State. All key recipes stand side
// by side in key.go.
//
// Layers of base images come when a step reads them. Those that the build is
// certain to need, because a step that reads them has never been recorded or an
// image that is kept here has them, come, and are unpacked, from the beginning
// (ahead.go): what is certain depends on the plan and on names of records alone.
//
// Between the two every instruction is tried out without files, on a State that
// is config and variables alone: that finds mistakes before a step runs, and
// asks the rules of package parser about all that text alone does not tell.
// Check does that much and no more.
//
// The package reads no flags, prints nothing and dials nobody: base images
// come through the Bases interface, progress leaves through Options.Events.
package build
