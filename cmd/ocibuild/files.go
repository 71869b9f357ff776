package main

import (
	"archive/tar"
	"context"
	"strings"

	"github.com/ocibuild/ocibuild/image"
)

// files opens the root filesystem of an image.
func (s *session) files(ctx context.Context, img *image.Image) (*image.Files, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	memory, err := s.cache()
	if err != nil {
		return nil, err
	}
	return st.Files(ctx, img.Layers, memory)
}

// splitImagePath takes IMAGE:PATH apart. A path begins with a slash, so that the
// colon before it is no tag's.
func splitImagePath(arg string) (name, path string) {
	at := strings.Index(arg, ":/")
	if at < 0 {
		return arg, ""
	}
	return arg[:at], arg[at+1:]
}

// cutLast splits at the last colon.
func cutLast(s string) (before, after string, ok bool) {
	at := strings.LastIndexByte(s, ':')
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+1:], true
}

// checkImagePath refuses what cannot be IMAGE:PATH.
func checkImagePath(arg string) error {
	name, _ := splitImagePath(arg)
	if strings.Contains(arg, "://") {
		return usagef("%s: an image has no URL", arg)
	}
	if before, path, _ := cutLast(name); strings.Contains(before[strings.LastIndexByte(before, '/')+1:], ":") {
		return &usageError{msg: arg + ": the path does not begin with a slash", hint: "write it as " + before + ":/" + path}
	}
	if name == "" {
		return usagef("%s: the name of the IMAGE is missing before the path", arg)
	}
	return nil
}

// modeText is a file's mode as ls prints it.
func modeText(f image.File) string {
	text := []byte("?rwxrwxrwx")
	if kind, ok := map[byte]byte{
		tar.TypeReg: '-', tar.TypeDir: 'd', tar.TypeSymlink: 'l', tar.TypeChar: 'c', tar.TypeBlock: 'b', tar.TypeFifo: 'p',
	}[f.Type]; ok {
		text[0] = kind
	}
	for i := range 9 {
		if f.Mode&(0o400>>i) == 0 {
			text[i+1] = '-'
		}
	}
	for i, special := range []struct {
		bit    int64
		letter byte
	}{{0o4000, 's'}, {0o2000, 's'}, {0o1000, 't'}} {
		at := 3 * (i + 1)
		switch {
		case f.Mode&special.bit == 0:
		case text[at] == '-':
			text[at] = special.letter - 'a' + 'A'
		default:
			text[at] = special.letter
		}
	}
	return string(text)
}

// typeName is what JSON and templates call a file's type.
func typeName(f image.File) string {
	switch f.Type {
	case tar.TypeReg:
		return "file"
	case tar.TypeDir:
		return "directory"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeChar:
		return "char"
	case tar.TypeBlock:
		return "block"
	case tar.TypeFifo:
		return "fifo"
	}
	return "unknown"
}
