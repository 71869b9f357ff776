package executor

import (
	"context"
	"os"
	"strings"
	"testing"
)

// fillLayer commits a layer of the described files.
func fillLayer(t *testing.T, s *Snapshots, name string, files tree) {
	t.Helper()
	makeLayer(t, s, name, func(dir string) { files.make(t, dir) })
}

func view(t *testing.T, s *Snapshots, parents ...string) *os.File {
	t.Helper()
	f, err := s.View(context.Background(), parents)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestBinds(t *testing.T) {
	s := newStore(t)
	fillLayer(t, s, "tree", tree{"dir/a": "A\n", "dir/b": "B\n", "top": "T\n", "link ->": "/dir", "out ->": "../../../../etc"})
	fillLayer(t, s, "more", tree{"dir/c": "C\n"})
	for _, tt := range []struct {
		name, script, want string
		bind               Bind
		fails              bool
	}{
		{"a directory", "cat /m/a /m/b", "A\nB\n", Bind{Target: "/m", Path: "dir"}, false},
		{"layers merged", "cat /m/a /m/c", "A\nC\n", Bind{Target: "/m", Path: "dir"}, false},
		{"a whole tree", "cat /m/top", "T\n", Bind{Target: "/m"}, false},
		{"a file", "cat /x/y", "T\n", Bind{Target: "/x/y", Path: "top"}, false},
		{"through a link", "cat /m/b", "B\n", Bind{Target: "/m", Path: "link"}, false},
		{"read-only", "(echo no >/m/a) 2>/dev/null; cat /m/a", "A\n", Bind{Target: "/m", Path: "dir", ReadOnly: true}, false},
		{"a view has nowhere to write", "(echo no >/m/a) 2>/dev/null; cat /m/a", "A\n", Bind{Target: "/m", Path: "dir"}, false},
		{"what is not there", "true", "", Bind{Target: "/m", Path: "nope"}, true},
		{"a link out of the tree", "true", "", Bind{Target: "/m", Path: "out/passwd"}, true},
		{"over the root", "true", "", Bind{Target: "/", Path: "dir"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sn := prepare(t, s, "base")
			p := script(tt.script)
			tt.bind.Tree = view(t, s, "tree", "more")
			p.Binds = []Bind{tt.bind}
			if strings.Contains(tt.script, "echo no") && !testLevel.Mounts() {
				tt.want = "no\n" // what is written goes with the step
			}
			out, err := run(t, s, sn, p)
			if (err != nil) != tt.fails || out != tt.want {
				t.Errorf("got %v and %q, want %q", err, out, tt.want)
			}
			noTraces(t, sn)
		})
	}
}

// A bind of a writable snapshot takes what is written, and it goes with the snapshot.
func TestBindWritable(t *testing.T) {
	s := newStore(t)
	fillLayer(t, s, "tree", tree{"a": "A\n"})
	scratch := prepare(t, s, "tree")
	tree, err := s.Mount(context.Background(), scratch)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	sn := prepare(t, s, "base")
	p := script("echo more >>/m/a; cat /m/a")
	p.Binds = []Bind{{Target: "/m", Tree: tree}}
	if out, err := run(t, s, sn, p); err != nil || out != "A\nmore\n" {
		t.Errorf("got %v and %q", err, out)
	}
	noTraces(t, sn)
}

func TestFiles(t *testing.T) {
	s := newStore(t)
	sn := prepare(t, s, "base")
	p := script("cat /run/secrets/a /b; stat -c '%a %u:%g' /run/secrets/a; mount | grep -c ' /b .*ro,nosuid,nodev,noexec'; true")
	p.Files = []File{{Target: "/run/secrets/a", Data: []byte("one\n"), Mode: 0o400}, {Target: "/b", Data: []byte("two\n"), Mode: 0o444}}
	out, err := run(t, s, sn, p)
	want := "one\ntwo\n400 0:0\n1\n"
	if !testLevel.Mounts() {
		want = "one\ntwo\n400 0:0\n0\n"
	}
	if err != nil || out != want {
		t.Errorf("got %v and %q, want %q", err, out, want)
	}
	noTraces(t, sn)
}

// noTraces wants an upper directory that is as empty as it was made.
func noTraces(t *testing.T, sn *Snapshot) {
	t.Helper()
	if left := upperPaths(t, sn); len(left) > 0 {
		t.Errorf("the step left %q", left)
	}
}
