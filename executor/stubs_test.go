package executor

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestNoTraceOfMountPoints runs steps that change nothing, or little, on images
// that lack mount points or hide them, and looks at the upper directory. Of
// /proc, /dev and /sys there is a trace.
func TestNoTraceOfMountPoints(t *testing.T) {
	const see = "test -s /etc/hosts && grep -q ^nameserver /etc/resolv.conf || echo unseen; "
	opaque := "user.overlay.opaque"
	if testLevel == LevelRoot {
		opaque = "trusted.overlay.opaque"
	}
	for _, tt := range []struct {
		name   string
		bare   bool // no /proc, /dev and /sys
		image  tree
		opaque []string // directories
		script string
		upper  []string
	}{
		{name: "empty image", bare: true, upper: []string{"dev", "proc", "sys"}},
		{name: "plain image", image: tree{"etc/hosts": "x", "etc/resolv.conf": "x"}},
		{name: "etc without the files", image: tree{"etc/other": ""}},
		{name: "etc is opaque", image: tree{"etc/other": ""}, opaque: []string{"etc"}},
		{name: "etc is a link", image: tree{"etc ->": "/usr/etc", "usr/etc/x": ""}},
		{name: "etc is a relative link", image: tree{"etc ->": "usr/etc", "usr/etc/x": ""}},
		{name: "resolv.conf leads nowhere", image: tree{"etc/resolv.conf ->": "../run/systemd/resolve/stub-resolv.conf"}},
		{name: "resolv.conf is an absolute link", image: tree{"etc/resolv.conf ->": "/run/resolv.conf", "run/": ""}},
		{name: "hosts is a link to a file", image: tree{"etc/hosts ->": "/var/hosts", "var/hosts": "x"}},
		{name: "everything is opaque", image: tree{"etc/": ""}, opaque: []string{"etc", "proc", "sys", "dev"}},
		{name: "proc is a link", bare: true, image: tree{"proc ->": "/p", "p/": "", "dev/": "", "sys/": ""}, script: "test -e /p/self"},
		{name: "proc is a link to nowhere", bare: true, image: tree{"proc ->": "/p", "dev/": "", "sys/": ""}, script: "test -e /p/self", upper: []string{"p"}},
		{name: "step writes into etc", script: "echo x >/etc/x", upper: []string{"etc", "etc/x"}},
		{name: "step writes hostname", script: "echo x >/etc/hostname", upper: []string{"etc", "etc/hostname"}},
		{
			name: "step writes beside a stub", image: tree{"etc/resolv.conf ->": "../run/resolv.conf"},
			script: "echo x >/run/x", upper: []string{"run", "run/x"},
		},
		{
			name: "step changes the opaque etc", image: tree{"etc/other": ""}, opaque: []string{"etc"},
			script: "chmod 700 /etc", upper: []string{"etc"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t)
			makeLayer(t, s, "image", func(dir string) {
				if err := os.Mkdir(dir+"/bin", 0o755); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"busybox", "sh", "grep", "chmod"} {
					if err := os.Link(s.tree("base")+"/bin/busybox", dir+"/bin/"+name); err != nil {
						t.Fatal(err)
					}
				}
				if !tt.bare {
					tree{"proc/": "", "dev/": "", "sys/": ""}.make(t, dir)
				}
				tt.image.make(t, dir)
				for _, name := range tt.opaque {
					if err := unix.Lsetxattr(dir+"/"+name, opaque, []byte("y"), 0); err != nil {
						t.Fatal(err)
					}
				}
			})
			sn := prepare(t, s, "image")
			want := ""
			if len(readResolvConf(os.ReadFile)) == 0 {
				t.Skip("needs a resolv.conf on the machine")
			}
			out, err := run(t, s, sn, script(see+tt.script))
			if err != nil || out != want {
				t.Errorf("got %v, %q", err, out)
			}
			if got := upperPaths(t, sn); !slices.Equal(got, tt.upper) {
				t.Errorf("upper has %q, want %q", got, tt.upper)
			}
		})
	}
}

// TestLastingMountPoints runs steps with mounts below the usual mount points of an
// image that has none.
func TestLastingMountPoints(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    Process
		want string
	}{
		{"none", Process{}, "dev proc sys"},
		{"size of /dev/shm", Process{ShmSize: 1 << 20}, "proc sys"},
		{"a file in /dev", Process{Files: []File{{Target: "/dev/pipes/EOF"}}}, "proc sys"},
		{"/sys itself", Process{Mounts: []specs.Mount{{Destination: "/sys/", Type: "tmpfs", Source: "tmpfs"}}}, "dev proc"},
		{"elsewhere", Process{Mounts: []specs.Mount{{Destination: "/devices", Type: "tmpfs", Source: "tmpfs"}}}, "dev proc sys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t)
			makeLayer(t, s, "image", func(dir string) {
				err := errors.Join(os.Mkdir(dir+"/bin", 0o755), os.Link(s.tree("base")+"/bin/busybox", dir+"/bin/true"))
				if err != nil {
					t.Fatal(err)
				}
			})
			sn := prepare(t, s, "image")
			tt.p.Args = []string{"/bin/true"}
			if out, err := run(t, s, sn, tt.p); err != nil {
				t.Fatal(err, out)
			}
			if got := strings.Join(upperPaths(t, sn), " "); got != tt.want {
				t.Errorf("upper has %q, want %q", got, tt.want)
			}
		})
	}
}

// TestStubKeepsTimes checks that a directory that has a stub for a while keeps
// its modification time, when it stays because of something else.
func TestStubKeepsTimes(t *testing.T) {
	s := newStore(t)
	past := time.Unix(1_000_000_000, 0)
	makeLayer(t, s, "image", func(dir string) {
		tree{"etc/resolv.conf ->": "/run/resolv.conf", "run/": ""}.make(t, dir)
		if err := os.Chtimes(dir+"/run", past, past); err != nil {
			t.Fatal(err)
		}
	})
	sn := prepare(t, s, "base", "image")
	if out, err := run(t, s, sn, script("chmod 711 /run")); err != nil {
		t.Fatal(err, out)
	}
	fi, err := os.Stat(sn.Upper() + "/run")
	if err != nil || !fi.ModTime().Equal(past) {
		t.Errorf("got %v, %v, want %v", fi.ModTime(), err, past)
	}
}

// TestStubAfterReplacement has a step put a link to the outside where a stub's
// directory was: nothing may be followed out of the upper directory.
func TestStubAfterReplacement(t *testing.T) {
	s := newStore(t)
	outside := t.TempDir()
	tree{"b/": ""}.make(t, outside)
	makeLayer(t, s, "image", func(dir string) {
		tree{"etc/resolv.conf ->": "/a/b/resolv.conf", "a/b/": ""}.make(t, dir)
	})
	sn := prepare(t, s, "base", "image")
	p := script("umount /etc/resolv.conf 2>/dev/null; mv /a /gone 2>/dev/null; rm -rf /a 2>/dev/null; ln -s " + outside + " /a; true")
	if out, err := run(t, s, sn, p); err != nil {
		t.Fatal(err, out)
	}
	if _, err := os.Stat(outside + "/b"); err != nil {
		t.Error(err)
	}
}

func TestUncopyFollowsNothing(t *testing.T) {
	outside, upper := t.TempDir(), t.TempDir()
	tree{"b/": ""}.make(t, outside)
	var st unix.Stat_t
	if err := unix.Stat(outside+"/b", &st); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, upper+"/a"); err != nil {
		t.Fatal(err)
	}
	stubs := &stubs{upper: upper, copied: []copied{{"a/b", st}, {"none/x", st}}}
	if err := stubs.uncopy(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(outside + "/b"); err != nil {
		t.Error(err)
	}
}

func TestMaliciousLinks(t *testing.T) {
	s := newStore(t)
	outside := t.TempDir()
	for _, target := range []string{"/proc/self/fd/5" + outside, "/proc/1/root" + outside, "/proc/self/cwd/x", strings.Repeat("../", 20) + outside} {
		t.Run(target, func(t *testing.T) {
			makeLayer(t, s, "image", func(dir string) { tree{"etc/hosts ->": target + "/hosts"}.make(t, dir) })
			defer s.Remove("image")
			p := script("true")
			p.Cwd = "/cwd"
			sn := prepare(t, s, "base", "image")
			_, err := run(t, s, sn, p)
			t.Log(err) // a link through /proc cannot be followed; one with too many .. stays inside
			if got := upperPaths(t, sn); !slices.Equal(got, []string{"cwd"}) {
				t.Errorf("upper has %q", got)
			}
			if names, err := readNames(outside); err != nil || len(names) > 0 {
				t.Errorf("the step reached the outside: %q, %v", names, err)
			}
		})
	}
}
