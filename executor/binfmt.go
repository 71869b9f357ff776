package executor

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// BinfmtDir is where the kernel shows its handlers for programs that it does not
// run by itself, if that file system is mounted.
const BinfmtDir = "/proc/sys/fs/binfmt_misc"

// Emulator is a program that the kernel starts for those of another architecture.
type Emulator struct {
	Name        string // of the binfmt_misc entry
	Interpreter string // its path
	// Fixed says that the kernel holds the interpreter open (flag F). Any other is
	// looked up by its path in the root filesystem of the step.
	Fixed bool
}

// ErrNoBinfmt reports that the kernel's handlers cannot be seen from here.
var ErrNoBinfmt = errors.New("binfmt_misc is not mounted")

// FindEmulator looks in BinfmtDir for the handler of programs for arch, as GOARCH names
// it. Nil says that there is none, or none that is enabled; of several, which are
// tried in an order that the kernel does not show, a fixed one is given.
func FindEmulator(files fs.FS, arch string) (*Emulator, error) {
	status, err := fs.ReadFile(files, "status")
	if err != nil {
		return nil, ErrNoBinfmt
	}
	header := programHeader(arch)
	if header == nil || strings.TrimSpace(string(status)) != "enabled" {
		return nil, nil
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	var found *Emulator
	for _, e := range entries {
		if e.Name() == "status" || e.Name() == "register" {
			continue
		}
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			continue // removed just now
		}
		h := parseHandler(text)
		if h == nil || !h.matches(header) {
			continue
		}
		h.Name = e.Name()
		if found == nil || h.Fixed && !found.Fixed {
			found = &h.Emulator
		}
	}
	return found, nil
}

// handler is an enabled entry of binfmt_misc that goes by the first bytes of a file.
type handler struct {
	Emulator
	offset      int
	magic, mask []byte
}

// parseHandler reads what the kernel shows of an entry; nil for one that is
// disabled, or that goes by the name of a file.
func parseHandler(text []byte) *handler {
	h := &handler{}
	enabled := false
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "enabled":
			enabled = true
		case "interpreter":
			h.Interpreter = path.Clean(value)
		case "flags:":
			h.Fixed = strings.Contains(value, "F")
		case "offset":
			h.offset, _ = strconv.Atoi(value)
		case "magic":
			h.magic, _ = hex.DecodeString(value)
		case "mask":
			h.mask, _ = hex.DecodeString(value)
		}
	}
	if !enabled || len(h.magic) == 0 || h.mask != nil && len(h.mask) != len(h.magic) {
		return nil
	}
	return h
}

// matches is the kernel's test of the first bytes of a file.
func (h *handler) matches(file []byte) bool {
	if h.offset < 0 || h.offset+len(h.magic) > len(file) {
		return false
	}
	for i, magic := range h.magic {
		differs := file[h.offset+i] ^ magic
		if h.mask != nil {
			differs &= h.mask[i]
		}
		if differs != 0 {
			return false
		}
	}
	return true
}
