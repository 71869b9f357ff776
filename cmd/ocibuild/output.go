package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
)

// output is a value of --output.
type output struct {
	kind string
	// dest is where to write; empty for outputs that are not files.
	dest  string
	names []image.Ref
	push  bool
	// compression is in which form layers leave; nil as the build's flags say.
	compression *compressionFlags
}

// compressionKeys are how BuildKit says in which form layers leave.
var compressionKeys = []string{"compression", "compression-level", "force-compression"}

// outputKinds are the types of outputs with the keys that each takes.
func outputKinds() map[string][]string {
	return map[string][]string{
		"local":    {"dest"},
		"tar":      {"dest"},
		"oci":      append([]string{"dest"}, compressionKeys...),
		"docker":   append([]string{"dest"}, compressionKeys...),
		"image":    append([]string{"name", "push"}, compressionKeys...),
		"registry": append([]string{"name"}, compressionKeys...),
	}
}

// outputTypes are the types in the order of the help.
var outputTypes = []string{"local", "tar", "oci", "docker", "image", "registry"}

// parseOutput reads a value of --output: a path, or "type=T,key=value,...".
func parseOutput(text string) (output, error) {
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return output{}, usagef("--output=%s: %v", text, err)
	}
	switch {
	case len(fields) == 0:
		return output{}, usagef("--output: the value is empty")
	case len(fields) == 1 && fields[0] == "-":
		return output{kind: "tar", dest: "-"}, nil
	case len(fields) == 1 && !strings.Contains(fields[0], "="):
		return output{kind: "local", dest: fields[0]}, nil
	}
	o := output{}
	keys := map[string]string{}
	for _, f := range fields {
		k, v, ok := strings.Cut(f, "=")
		if k = strings.ToLower(strings.TrimSpace(k)); !ok {
			return o, usagef("--output=%s: %q is not KEY=VALUE", text, f)
		}
		keys[k] = v
	}
	o.kind = keys["type"]
	delete(keys, "type")
	allowed, ok := outputKinds()[o.kind]
	if !ok {
		return o, oneOf("--output type", o.kind, outputTypes)
	}
	if err := o.set(text, keys, allowed); err != nil {
		return o, err
	}
	return o, o.check(text)
}

// set takes the keys other than the type.
func (o *output) set(text string, keys map[string]string, allowed []string) error {
	for k, v := range keys {
		if k == "destination" {
			k = "dest"
		}
		var err error
		switch known := strings.Join(allowed, " "); {
		case !strings.Contains(" "+known+" ", " "+k+" "):
			e := &usageError{msg: fmt.Sprintf("--output=%s: type %s takes no %q", text, o.kind, k), hint: "it takes " + strings.Join(allowed, ", ")}
			if near := nearest(k, allowed); near != "" {
				e.msg += fmt.Sprintf(" (did you mean %s?)", near)
			}
			return e
		case k == "dest":
			o.dest = v
		case k == "push":
			if o.push, err = strconv.ParseBool(v); err != nil {
				return usagef("--output=%s: push is true or false", text)
			}
		case k == "name":
			err = o.setNames(v)
		case slices.Contains(compressionKeys, k):
			err = o.setCompression(text, k, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *output) setCompression(text, k, v string) (err error) {
	if o.compression == nil {
		o.compression = &compressionFlags{word: "gzip", given: true}
	}
	switch k {
	case "compression":
		o.compression.word = v
	case "compression-level":
		o.compression.level, err = strconv.Atoi(v)
	case "force-compression":
		o.compression.force, err = strconv.ParseBool(v)
	}
	if err != nil {
		return usagef("--output=%s: %s cannot be %q", text, k, v)
	}
	return nil
}

func (o *output) setNames(list string) error {
	for _, name := range strings.Split(list, ",") {
		ref, err := parseNewRef(name)
		if err != nil {
			return err
		}
		o.names = append(o.names, ref)
	}
	return nil
}

// check completes the output.
func (o *output) check(text string) error {
	if o.compression != nil {
		if err := o.compression.check("--output compression"); err != nil {
			return err
		}
	}
	switch o.kind {
	case "registry":
		o.push = true
	case "tar", "oci":
		if o.dest == "" {
			o.dest = "-"
		}
	case "local":
		if o.dest == "" || o.dest == "-" {
			return &usageError{msg: fmt.Sprintf("--output=%s: a directory is needed", text), hint: "write it as type=local,dest=DIR"}
		}
	}
	return nil
}

// write writes the result of a build.
func (o output) write(ctx context.Context, s *session, b *build.Builder, done *built, show display) error {
	r := show.begin("write "+o.kind+" to "+o.dest, "")
	err := o.writeTo(ctx, s, b, done)
	show.end(r, err)
	return err
}

func (o output) writeTo(ctx context.Context, s *session, b *build.Builder, done *built) error {
	desc := done.result.Image
	switch o.kind {
	case "local":
		if info, err := os.Stat(o.dest); err == nil && !info.IsDir() {
			return usagef("--output: %s is not a directory", o.dest)
		}
		return o.writeDirs(ctx, b, done.result)
	case "tar":
		if len(done.result.Platforms) > 1 {
			return usagef("--output=type=tar holds one root filesystem, and the result has %d: name one --platform, or write type=local or type=oci", len(done.result.Platforms))
		}
		return writeFile(s.stdio, o.dest, func(w io.Writer) error { return b.WriteTar(ctx, desc, w) })
	}
	if o.kind == "docker" && len(done.result.Platforms) > 1 {
		return usagef("--output=type=docker holds images for one platform each: name one --platform, or write type=oci")
	}
	var refs []image.Reference
	for _, ref := range done.tags {
		refs = append(refs, image.Reference{Ref: ref, Descriptor: desc})
	}
	if len(refs) == 0 {
		refs = []image.Reference{{Descriptor: desc}}
	}
	if o.compression != nil {
		var err error
		if desc, err = b.Store.Portable(ctx, desc, o.compression.how); err != nil {
			return err
		}
		for i := range refs {
			refs[i].Descriptor = desc
		}
	}
	return writeFile(s.stdio, o.dest, func(w io.Writer) error {
		return b.Store.SaveReferences(ctx, w, refs, image.SaveOptions{Format: image.ArchiveFormat(o.kind)})
	})
}

// writeDirs writes the files of the result; those of several platforms into a
// directory for each, as BuildKit names them.
func (o output) writeDirs(ctx context.Context, b *build.Builder, result *build.Result) error {
	for _, desc := range result.Platforms {
		dir := o.dest
		if len(result.Platforms) > 1 {
			dir = filepath.Join(dir, strings.ReplaceAll(image.FormatPlatform(*desc.Platform), "/", "_"))
		}
		if err := b.WriteDir(ctx, desc, dir); err != nil {
			return err
		}
	}
	return nil
}
