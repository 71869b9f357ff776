package cdi

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// write makes directories of specifications, and gives a registry of them.
func write(t *testing.T, dirs ...map[string]string) *Registry {
	t.Helper()
	var paths []string
	for _, files := range dirs {
		dir := t.TempDir()
		paths = append(paths, dir)
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	r, err := Read(append(paths, "/no/such/directory"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	gpus = `{"cdiVersion":"0.6.0","kind":"vendor.com/gpu","annotations":{"org.mobyproject.buildkit.device.class":"gpu"},
"devices":[
 {"name":"1","containerEdits":{"env":["GPU=1"],"deviceNodes":[{"path":"/dev/null"}]}},
 {"name":"0","annotations":{"org.mobyproject.buildkit.device.autoallow":true},"containerEdits":{"env":["GPU=0"]}}],
"containerEdits":{"env":["DRIVER=x"],"mounts":[{"hostPath":"/lib","containerPath":"/drv","options":["ro","rbind","rprivate"]}]}}`
	cards    = `{"cdiVersion":"1.0.0","kind":"vendor.com/card","devices":[{"name":"a","containerEdits":{"env":["CARD=low"]}}]}`
	yamlGPUs = `---
cdiVersion: 0.6.0
kind: "nvidia.com/gpu" # written by a program
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - {path: /dev/null, fileMode: 0666, permissions: rw}
- name: all
  containerEdits: {env: [ALL=1]}
containerEdits:
  env:
  - DRIVER=y
`
	over = `{"cdiVersion":"1.0.0","kind":"vendor.com/card","devices":[{"name":"a","containerEdits":{"env":["CARD=high"]}}]}`
)

func TestFind(t *testing.T) {
	r := write(t, map[string]string{"gpu.json": gpus, "card.json": cards, "nvidia.yaml": yamlGPUs, "README": "no"},
		map[string]string{"card.json": over})
	for _, tt := range []struct {
		name string
		want string
	}{
		{"vendor.com/gpu=1", "vendor.com/gpu=1"},
		{"vendor.com/gpu=9", ""},
		{"vendor.com/gpu", "vendor.com/gpu=0"},
		{"vendor.com/gpu=*", "vendor.com/gpu=0 vendor.com/gpu=1"},
		{"gpu", "vendor.com/gpu=0 vendor.com/gpu=1"},
		{"vendor.com/card=a", "vendor.com/card=a"},
		{"vendor.com/nothing", ""},
		{"", ""},
		{"nvidia.com/gpu=all", "nvidia.com/gpu=all"},
	} {
		found := r.Find(tt.name)
		var names []string
		for _, d := range found {
			names = append(names, d.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.name, got, tt.want)
		}
	}
	card := r.Find("vendor.com/card=a")
	if !slices.Equal(card[0].Edits.Env, []string{"CARD=high"}) {
		t.Errorf("the later directory does not win: %v", card[0].Edits)
	}
	all := r.Find("vendor.com/gpu=*")
	if !all[0].AutoAllowed() || all[1].AutoAllowed() {
		t.Error("not gpu 0 alone is allowed to all")
	}
	var env []string
	for _, e := range All(all) {
		env = append(env, e.Env...)
	}
	if !slices.Equal(env, []string{"DRIVER=x", "GPU=0", "GPU=1"}) {
		t.Errorf("edits of two devices: %v", env)
	}
	if known := r.Known(); known != "known devices: nvidia.com/gpu=0, nvidia.com/gpu=all, vendor.com/card=a, vendor.com/gpu=0, vendor.com/gpu=1" {
		t.Errorf("got %s", known)
	}
}

func TestBroken(t *testing.T) {
	r := write(t, map[string]string{
		"a.json": cards, "b.json": over, // one name in two files
		"unknown.json": `{"cdiVersion":"1.0.0","kind":"v.com/x","devices":[{"name":"a","containerEdits":{"teleport":true}}]}`,
		"version.json": `{"cdiVersion":"7","kind":"v.com/x","devices":[{"name":"a"}]}`,
		"kind.json":    `{"cdiVersion":"1.0.0","kind":"x","devices":[{"name":"a"}]}`,
		"none.json":    `{"cdiVersion":"1.0.0","kind":"v.com/x"}`,
		"name.json":    `{"cdiVersion":"1.0.0","kind":"v.com/x","devices":[{"name":"-"}]}`,
		"text.json":    "not JSON",
	})
	if names := r.Names(); len(names) > 0 {
		t.Errorf("got %q", names)
	}
	known := r.Known()
	for _, want := range []string{
		"no devices are known", "b.json: device vendor.com/card=a is in another file", `unknown.json: json: unknown field "teleport"`,
		`version.json: cdiVersion "7" is not known`, `kind.json: kind "x" is not VENDOR/CLASS`, "none.json: it has no devices",
		`name.json: "-" cannot be a device's name`, "text.json: invalid character",
	} {
		if !strings.Contains(known, want) {
			t.Errorf("%q is not in %q", want, known)
		}
	}
}

func TestCheckEdits(t *testing.T) {
	for text, want := range map[string]string{
		`{"env":["A=b"],"additionalGids":[5],"intelRdt":null}`:   "",
		`{"hooks":[{"hookName":"createContainer","path":"/x"}]}`: "hooks",
		`{"netDevices":[{"hostInterfaceName":"eth0"}]}`:          "network devices",
		`{"intelRdt":{"closID":"x"}}`:                            "Intel RDT",
	} {
		s, err := parse([]byte(`{"cdiVersion":"1.1.0","kind":"v.com/x","devices":[{"name":"a","containerEdits":` + text + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		err = s.Devices[0].Edits.Check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestNode(t *testing.T) {
	mode, uid := uint32(0o600), uint32(5)
	permission := os.FileMode(0o600)
	for _, tt := range []struct {
		name string
		node Node
		want specs.LinuxDevice
		err  string
	}{
		{"all said", Node{Path: "/dev/x", Type: "c", Major: 1, Minor: 2, FileMode: &mode, UID: &uid}, specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 1, Minor: 2, FileMode: &permission, UID: &uid}, ""},
		{"of the machine", Node{Path: "/dev/null"}, specs.LinuxDevice{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, ""},
		{"by another name", Node{Path: "/dev/x", HostPath: "/dev/zero", Type: "u"}, specs.LinuxDevice{Path: "/dev/x", Type: "c", Major: 1, Minor: 5}, ""},
		{"of another type", Node{Path: "/dev/null", Type: "b"}, specs.LinuxDevice{}, "is of type c"},
		{"no device", Node{Path: "/etc"}, specs.LinuxDevice{}, "/etc is no device"},
		{"missing", Node{Path: "/dev/x", HostPath: "/dev/no-such-device"}, specs.LinuxDevice{}, "stat /dev/no-such-device"},
	} {
		got, err := tt.node.Device()
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestMount(t *testing.T) {
	for _, tt := range []struct {
		mount Mount
		want  specs.Mount
	}{
		{Mount{HostPath: "/a", ContainerPath: "/b"}, specs.Mount{Source: "/a", Destination: "/b", Type: "bind"}},
		{Mount{HostPath: "/a", ContainerPath: "/b", Type: "bind", Options: []string{"ro", "rbind", "rprivate"}}, specs.Mount{Source: "/a", Destination: "/b", Type: "bind", Options: []string{"ro", "rbind"}}},
		{Mount{HostPath: "tmpfs", ContainerPath: "/t", Type: "tmpfs", Options: []string{"size=1k"}}, specs.Mount{Source: "tmpfs", Destination: "/t", Type: "tmpfs", Options: []string{"size=1k"}}},
	} {
		if got := tt.mount.Mount(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(gpus))
	f.Add([]byte(yamlGPUs))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parse(text)
		if err == nil && (s.Kind == "" || len(s.Devices) == 0) {
			t.Errorf("%+v", s)
		}
		if s, err := parseYAML(text); err == nil && (s.Kind == "" || len(s.Devices) == 0) {
			t.Errorf("YAML: %+v", s)
		}
	})
}
