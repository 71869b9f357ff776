package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/image"
)

// contextKinds are the beginnings of the values of --build-context that are no
// directories.
const (
	contextImage  = "docker-image://"
	contextLayout = "oci-layout://"
)

// namedContexts reads the values of --build-context, NAME=SOURCE.
func namedContexts(texts []string) (map[string]*build.Context, error) {
	out := map[string]*build.Context{}
	for _, text := range texts {
		name, source, ok := strings.Cut(text, "=")
		if !ok || name == "" || source == "" {
			return nil, &usageError{
				msg:  "--build-context=" + text + ": it is not NAME=SOURCE",
				hint: "SOURCE is a directory, a URL of a git repository or a file, docker-image://REFERENCE or oci-layout://DIRECTORY[:TAG]",
			}
		}
		key, err := build.ContextName(name)
		if err != nil {
			return nil, usagef("--build-context=%s: %v", text, err)
		}
		if out[key] != nil {
			return nil, usagef("--build-context=%s: %s is given twice", text, name)
		}
		c := &build.Context{Name: key, Source: source}
		if err := readNamedContext(c); err != nil {
			return nil, err
		}
		out[key] = c
	}
	return out, nil
}

// readNamedContext looks at what a named context is.
func readNamedContext(c *build.Context) error {
	if name, ok := strings.CutPrefix(c.Source, contextImage); ok {
		ref, err := image.ParseRef(name)
		if err != nil {
			return usagef("--build-context=%s: %v", c.Name, err)
		}
		c.Image = ref.WithDefaultTag().String()
		return nil
	}
	if strings.HasPrefix(c.Source, contextLayout) {
		return nil // copied into the store before the build
	}
	p, err := parsePlace(c.Source)
	switch {
	case err != nil || p.stdin:
		return &usageError{
			msg:  "--build-context=" + c.Name + ": a context cannot be " + c.Source,
			hint: "it is a directory, a URL of http, https, ssh or git, docker-image://REFERENCE or oci-layout://DIRECTORY",
		}
	case !p.local():
		return nil // fetched before the build
	}
	return readContextDir(c)
}

// fetchContexts fetches the contexts that are repositories or files of the web.
func fetchContexts(ctx context.Context, w *workshop, contexts map[string]*build.Context) error {
	for _, c := range contexts {
		if c.Image != "" || c.Dir != "" || strings.HasPrefix(c.Source, contextLayout) {
			continue
		}
		p, err := parsePlace(c.Source)
		if err != nil {
			return err
		}
		c.Source = remote.Redact(c.Source)
		err = w.work("load context "+c.Name+" "+c.Source, func(report build.Report) (err error) {
			c.Fetched, err = fetchContext(ctx, w, p, report)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fetchContext fetches a checkout, or a file that stays as it is.
func fetchContext(ctx context.Context, w *workshop, p place, report build.Report) (*build.Fetched, error) {
	if p.git != nil {
		tree, err := w.remotes.Git(ctx, p.git)
		if err != nil {
			return nil, err
		}
		return w.builder.FetchedTree(ctx, tree, report)
	}
	f, err := w.remotes.File(ctx, p.text, "", report)
	if err != nil {
		return nil, err
	}
	return w.builder.FetchedAlone(ctx, f)
}

func readContextDir(c *build.Context) error {
	if info, err := os.Stat(c.Source); err != nil || !info.IsDir() {
		return &contextError{msg: "context " + c.Name + ": " + c.Source + " is not a directory", hint: nearFile(c.Source, "name an existing directory")}
	}
	c.Dir = c.Source
	path := filepath.Join(c.Dir, ".dockerignore")
	text, err := readIgnoreText(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &contextError{msg: path, err: err}
	}
	src := &source{}
	if err := src.parseIgnore(path, text); err != nil {
		return err
	}
	c.Ignore = src.ignore
	return nil
}

// takeLayouts copies the images of other layouts that contexts name into the
// store.
func takeLayouts(ctx context.Context, st *image.Store, contexts map[string]*build.Context) error {
	for _, c := range contexts {
		spec, ok := strings.CutPrefix(c.Source, contextLayout)
		if !ok {
			continue
		}
		dir, name := spec, ""
		if before, digest, ok := strings.Cut(spec, "@"); ok {
			dir, name = before, digest
		} else if i := strings.LastIndexByte(spec, ':'); i > strings.LastIndexByte(spec, '/') {
			dir, name = spec[:i], spec[i+1:]
		}
		desc, err := st.Take(ctx, dir, name)
		if err != nil {
			return &contextError{msg: "context " + c.Name + ": " + c.Source, err: err, hint: "a layout is named as oci-layout://DIRECTORY, :TAG or @DIGEST after it when it has several images"}
		}
		c.Stored = desc
	}
	return nil
}
