package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// writeFile has write fill a file, which appears under its name only when it
// is whole. "-" is standard output, which must not be a terminal.
func writeFile(s *stdio, path string, write func(io.Writer) error) (err error) {
	if path == "-" || path == "" {
		if s.outTTY {
			return &usageError{msg: "an archive is not written to a terminal", hint: "name a file with -o, or redirect standard output"}
		}
		return write(s.out)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return writeSpecial(path, info, write)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".ocibuild-*")
	if err != nil {
		return fmt.Errorf("write %s: %s", path, plainCause(err))
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// writeSpecial fills a pipe or device. A directory is refused.
func writeSpecial(path string, info os.FileInfo, write func(io.Writer) error) error {
	if info.IsDir() {
		return usagef("%s is a directory, a file name is needed", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	return f.Close()
}
