package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestSpecGolden(t *testing.T) {
	root := Host{Hosts: "/s/hosts", ResolvConf: "/s/resolv.conf", CgroupNamespace: true, CgroupV2: true}
	rootless := Host{Hosts: "/s/hosts", ResolvConf: "/s/resolv.conf", CgroupNamespace: true, UserNamespace: true}
	insecure := root
	insecure.Capabilities, insecure.FreeLoop = []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}, 1
	single := rootless
	single.SingleID = true
	for _, tt := range []struct {
		name string
		p    Process
		h    Host
	}{
		{"root", Process{Args: []string{"/bin/sh", "-c", "true"}, Env: []string{"PATH=/bin"}, Cwd: "/src"}, root},
		{"user", Process{
			Args: []string{"id"}, UID: 1000, GID: 1000, Groups: []uint32{29}, Network: NetworkNone, Hostname: "h",
			ExtraHosts: []HostIP{{"db", netip.MustParseAddr("10.0.0.1")}},
			Mounts:     []specs.Mount{{Destination: "/cache", Type: "bind", Source: "/c", Options: []string{"rbind"}}},
		}, root},
		{"rootless", Process{Args: []string{"true"}}, rootless},
		{"insecure", Process{
			Args: []string{"true"}, Insecure: true, UID: 1000, Groups: []uint32{7}, MoreGroups: []uint32{7, 8}, ShmSize: 1 << 20,
			Limits:  []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 20}},
			Devices: []specs.LinuxDevice{{Path: "/dev/dri/card0", Type: "c", Major: 226}, {Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232, FileMode: new(os.FileMode(0o600))}},
		}, insecure},
		{"insecure-rootless", Process{Args: []string{"true"}, Insecure: true}, rootless},
		{"single", Process{Args: []string{"true"}, Groups: []uint32{1}, Network: NetworkNone}, single},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := json.MarshalIndent(Spec(tt.p, tt.h), "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := filepath.Join("testdata", "spec-"+tt.name+".json")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs; got\n%s", golden, got)
			}
		})
	}
}

// TestSpecIsPure checks that what a caller does to a spec is not seen by the next.
func TestSpecIsPure(t *testing.T) {
	p := Process{Args: []string{"true"}, Env: []string{"A=1"}, Groups: []uint32{1}, Mounts: make([]specs.Mount, 1, 9)}
	h := Host{Hosts: "/h"}
	want := Spec(p, h)
	s := Spec(p, h)
	s.Process.Capabilities.Bounding[0] = "CAP_SYS_ADMIN"
	s.Linux.MaskedPaths[0] = ""
	s.Linux.ReadonlyPaths[0] = ""
	*s.Linux.Devices[0].FileMode = 0
	s.Process.Env[0] = ""
	s.Mounts[0].Options[0] = ""
	s.Mounts = append(s.Mounts, specs.Mount{})
	if got := Spec(p, h); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCompile(t *testing.T) {
	p, err := compile(Spec(Process{Args: []string{"true"}, UID: 5, Network: NetworkNone}, Host{CgroupNamespace: true}))
	if err != nil {
		t.Fatal(err)
	}
	const flags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWNET
	if p.Flags != flags || p.Bounding != 0xa80425fb || p.Permitted != 0 || p.Effective != 0 || p.Inheritable != 0 {
		t.Errorf("got %+v", p)
	}
	p, err = compile(Spec(Process{Args: []string{"true"}}, Host{}))
	if err != nil || p.Permitted != 0xa80425fb || p.Effective != 0xa80425fb || p.Flags&unix.CLONE_NEWNET != 0 {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestCompileRefuses(t *testing.T) {
	score := 1
	for name, change := range map[string]func(*specs.Spec){
		"process":           func(s *specs.Spec) { s.Process = nil },
		"no command":        func(s *specs.Spec) { s.Process.Args = nil },
		"working directory": func(s *specs.Spec) { s.Process.Cwd = "relative" },
		"capabilities":      func(s *specs.Spec) { s.Process.Capabilities = nil },
		"CAP_NONSENSE":      func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_NONSENSE"} },
		"terminal":          func(s *specs.Spec) { s.Process.Terminal = true },
		"cgroup limits":     func(s *specs.Spec) { s.Linux.Resources = &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{}} },
		"RLIMIT_COOKIES":    func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_COOKIES"}} },
		"AppArmor":          func(s *specs.Spec) { s.Process.ApparmorProfile = "x" },
		"SELinux":           func(s *specs.Spec) { s.Process.SelinuxLabel = "x" },
		"hooks":             func(s *specs.Spec) { s.Hooks = &specs.Hooks{} },
		"cgroup":            func(s *specs.Spec) { s.Linux.CgroupsPath = "/x" },
		"sysctls":           func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"a": "b"} },
		"id mappings":       func(s *specs.Spec) { s.Linux.UIDMappings = make([]specs.LinuxIDMapping, 1) },
		"domain name":       func(s *specs.Spec) { s.Domainname = "x" },
		"OOM score":         func(s *specs.Spec) { s.Process.OOMScoreAdj = &score },
		"personality":       func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{} },
		"propagation":       func(s *specs.Spec) { s.Linux.RootfsPropagation = "shared" },
		"device /dev/sda":   func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "x"}} },
		"device /etc/null":  func(s *specs.Spec) { s.Linux.Devices[0].Path = "/etc/null" },
		"device /dev/../x":  func(s *specs.Spec) { s.Linux.Devices[0].Path = "/dev/../x" },
		"tmpfs on /dev":     func(s *specs.Spec) { s.Mounts = s.Mounts[:1] },
		"joining a":         func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/1/ns/mnt" },
		"time namespace":    func(s *specs.Spec) { s.Linux.Namespaces[0].Type = specs.TimeNamespace },
		"needs new":         func(s *specs.Spec) { s.Linux.Namespaces = nil },
		"unsupported type":  func(s *specs.Spec) { s.Mounts[0].Type = "ext4" },
		"not absolute":      func(s *specs.Spec) { s.Mounts[0] = specs.Mount{Destination: "/x", Type: "bind", Source: "y"} },
		"unknown option": func(s *specs.Spec) {
			s.Mounts[0] = specs.Mount{Destination: "/x", Type: "bind", Source: "/y", Options: []string{"what"}}
		},
		"destination": func(s *specs.Spec) { s.Mounts[0].Destination = "/../" },
		"id-mapped":   func(s *specs.Spec) { s.Mounts[0].UIDMappings = make([]specs.LinuxIDMapping, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			s := Spec(Process{Args: []string{"true"}}, Host{})
			change(s)
			if _, err := compile(s); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v, want an error with %q", err, name)
			}
		})
	}
}

func TestCompileMountOptions(t *testing.T) {
	for _, tt := range []struct {
		options    string
		set, clear uint64
		data       string
		rec, recA  bool
	}{
		{"", 0, 0, "", false, false},
		{"ro nosuid nodev noexec", unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, 0, "", false, false},
		{"rbind rro", unix.MOUNT_ATTR_RDONLY, 0, "", true, true},
		{"bind rw exec", 0, unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOEXEC, "", false, false},
		{"relatime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME, "", false, false},
		{"rnosuid", unix.MOUNT_ATTR_NOSUID, 0, "", false, true},
		{"mode=755 size=1k ro", unix.MOUNT_ATTR_RDONLY, 0, "mode=755 size=1k", false, false},
	} {
		m, err := compileMount(specs.Mount{Destination: "/x", Source: "/y", Type: "tmpfs", Options: strings.Fields(tt.options)})
		if err != nil || m.Set != tt.set || m.Clear != tt.clear || strings.Join(m.Data, " ") != tt.data || m.Recursive != tt.rec || m.RecursiveAttr != tt.recA {
			t.Errorf("%s: got %+v, %v", tt.options, m, err)
		}
	}
}

func TestMessages(t *testing.T) {
	p, err := compile(Spec(Process{
		Args: []string{"sh", "-c", ""}, Env: []string{"A=\x00\xff", ""}, Groups: []uint32{1, 1 << 31}, Insecure: true,
		Limits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1, Hard: 1 << 63}},
	}, Host{Hosts: "/h", CgroupV2: true, Capabilities: []string{"CAP_CHOWN"}}))
	if err != nil {
		t.Fatal(err)
	}
	var got plan
	if err := readMessage(bytes.NewReader(marshal(p)), &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(marshal(&got), marshal(p)) || got.Environ[0] != "A=\x00\xff" || got.Groups[2] != 1<<31 || got.Mounts[0].Type != "proc" {
		t.Errorf("got %+v, want %+v", got, p)
	}
	msg := marshal(p)
	for i := range msg {
		if err := readMessage(bytes.NewReader(msg[:i]), new(plan)); err == nil {
			t.Fatalf("no error for %d of %d bytes", i, len(msg))
		}
	}
	if err := readMessage(bytes.NewReader([]byte{255, 255, 255, 255}), new(plan)); !errors.Is(err, errMalformed) {
		t.Errorf("too long: got %v", err)
	}
	if err := unmarshal(append(msg[4:], 0), new(plan)); err != errMalformed {
		t.Errorf("bytes left over: got %v", err)
	}
}

func FuzzMessages(f *testing.F) {
	p, err := compile(Spec(Process{Args: []string{"true"}}, Host{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(marshal(p)[4:])
	f.Add(marshal(&report{Kind: reportExit, Code: 1, Text: "x"})[4:])
	f.Fuzz(func(t *testing.T, body []byte) {
		var p plan
		if unmarshal(body, &p) == nil {
			var again plan
			if err := unmarshal(marshal(&p)[4:], &again); err != nil || !reflect.DeepEqual(p, again) {
				t.Errorf("%v: %+v, %+v", err, p, again)
			}
		}
		_ = unmarshal(body, new(report))
	})
}
