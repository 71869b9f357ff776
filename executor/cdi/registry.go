package cdi

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Dirs are the directories that vendors use.
var Dirs = []string{"/etc/cdi", "/var/run/cdi"}

// Registry holds the devices of a machine.
type Registry struct {
	devices map[string]*Device
	dirs    []string
	broken  []error
}

// Device is one device that a container can be given.
type Device struct {
	Name        string // VENDOR/CLASS=NAME
	Annotations map[string]string
	Edits       Edits
	// Common are the edits that all devices of one file have; containers get them once.
	Common *Edits
	dir    int
}

// Read reads the specifications in directories, which need not be there. Files that
// cannot be read are told by Find when a device is missed.
func Read(dirs []string) (*Registry, error) {
	r := &Registry{devices: map[string]*Device{}, dirs: dirs}
	for i, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read device specifications: %w", err)
		}
		conflicts := map[string]bool{}
		for _, e := range entries {
			if err := r.readFile(filepath.Join(dir, e.Name()), i, conflicts); err != nil {
				r.broken = append(r.broken, err)
			}
		}
		for name := range conflicts {
			delete(r.devices, name)
		}
	}
	return r, nil
}

// readFile adds the devices of one file.
func (r *Registry) readFile(path string, dir int, conflicts map[string]bool) error {
	ext := filepath.Ext(path)
	if ext != ".json" && ext != ".yaml" && ext != ".yml" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	read := parseYAML
	if ext == ".json" {
		read = parse
	}
	s, err := read(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, dev := range s.Devices {
		d := &Device{Name: s.Kind + "=" + dev.Name, Annotations: map[string]string{}, Edits: dev.Edits, Common: &s.Edits, dir: dir}
		for _, annotations := range []map[string]any{s.Annotations, dev.Annotations} {
			for k, v := range annotations {
				d.Annotations[k] = fmt.Sprint(v)
			}
		}
		if other, ok := r.devices[d.Name]; ok && other.dir == dir {
			conflicts[d.Name] = true
			err = fmt.Errorf("%s: device %s is in another file of that directory as well", path, d.Name)
		}
		r.devices[d.Name] = d
	}
	return err
}

// Names lists all devices in order.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(r.devices)) }

// The annotations that BuildKit gives a meaning.
const (
	classAnnotation = "org.mobyproject.buildkit.device.class"
	allowAnnotation = "org.mobyproject.buildkit.device.autoallow"
)

// AutoAllowed tells whether the device's specification lets every build have it.
func (d *Device) AutoAllowed() bool {
	ok, err := strconv.ParseBool(d.Annotations[allowAnnotation])
	return err == nil && ok
}

// Find gives the devices that a name stands for: VENDOR/CLASS=NAME is that one,
// VENDOR/CLASS=* all of the kind and VENDOR/CLASS the first of them; any other name is
// that of a class that devices are annotated with. There may be none.
func (r *Registry) Find(name string) []*Device {
	kind, one, _ := strings.Cut(name, "=")
	var found []*Device
	if vendor, _ := Kind(kind); vendor != "" {
		found = r.ofKind(kind, one)
	}
	if len(found) == 0 {
		for _, n := range r.Names() {
			if class, ok := r.devices[n].Annotations[classAnnotation]; ok && class == name {
				found = append(found, r.devices[n])
			}
		}
	}
	return found
}

func (r *Registry) ofKind(kind, one string) []*Device {
	var found []*Device
	for _, n := range r.Names() {
		k, name, _ := strings.Cut(n, "=")
		if k != kind || one != "" && one != "*" && one != name {
			continue
		}
		found = append(found, r.devices[n])
		if one == "" {
			break
		}
	}
	return found
}

// Known words what there is, for those who have asked for something else.
func (r *Registry) Known() string {
	text := "no devices are known; their specifications are read from " + strings.Join(r.dirs, " and ")
	if names := r.Names(); len(names) > 0 {
		text = "known devices: " + strings.Join(names, ", ")
	}
	for _, err := range r.broken {
		text += "; " + err.Error()
	}
	return text
}
