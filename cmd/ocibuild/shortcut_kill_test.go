//go:build amd64 || arm64

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/build/conformance"
)

// TestKilledShortcuts kills a build, kill -9, in the middle of what its shortcuts do,
// for one change to the store after the other. The next build must make the image that
// it makes when nothing has happened, in a store that is clean, and the one after that
// must find all of it in the cache.
func TestKilledShortcuts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a traced program cannot enter a user namespace with a range of ids")
	}
	if testing.Short() || raceEnabled {
		t.Skip("takes a while")
	}
	began := time.Now().Add(-time.Minute)
	ready := shortcutStore(t)
	const build = "build --progress=json --build-arg=SOURCE_DATE_EPOCH=1000000000 "
	for _, test := range []struct{ name, line string }{
		{"nothing known", build + "new"},
		{"one file changed", build + "changed"},
		{"copies of layers", build + "--isolation=chroot new"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := killer{t: t, ready: ready, dir: t.TempDir()}
			c := &shortcutCase{t: t, began: began}
			store := filepath.Join(k.dir, "store")
			k.fresh()
			want := c.made(store, way{}, k.output("unharmed", test.line))
			k.fresh()
			all, ended := k.cut(0, test.line)
			if !ended {
				t.Fatalf("`ocibuild %s` was killed", test.line)
			}
			for n := 1; n <= all; n += max(1, all/killPoints) {
				k.fresh()
				at, _ := k.cut(n, test.line)
				when := fmt.Sprintf("after kill -9 at %d", at)
				k.must(when, "fsck")
				made := c.made(store, way{}, k.output(when, test.line))
				if d := conformance.Diff(want.lines, made.lines); d != "" {
					t.Errorf("%s: another image (- is usual, + is this one):\n%s", when, d)
				}
				if again := c.made(store, way{}, k.output(when, test.line)); again.ID != made.ID || again.Ran > 0 {
					t.Errorf("%s: %d steps run again for %s, which was %s", when, again.Ran, again.ID, made.ID)
				}
				k.must(when, "fsck")
			}
			t.Logf("%d points", all)
		})
	}
}

// output runs a verb that goes through and gives what it says.
func (k *killer) output(when, line string) string {
	k.t.Helper()
	out, err := k.command(line).CombinedOutput()
	if err != nil {
		k.t.Fatalf("%s: ocibuild %s: %v\n%s", when, line, err, out)
	}
	return string(out)
}

// shortcutStore is a directory with a store in which a build was made, and contexts of
// builds that find nothing of it, or all but what comes of one file. What the RUN of
// the other stage gives stays the same then, and ends what has to be done.
func shortcutStore(t *testing.T) string {
	t.Helper()
	k := killer{t: t, dir: t.TempDir()}
	k.ready = k.dir
	if err := makeRootfs(filepath.Join(k.dir, "rootfs")); err != nil {
		t.Skip(err)
	}
	text := "FROM base:v1 AS one\nCOPY f /f\nRUN wc -l < /f > /lines\nFROM base:v1\nCOPY --from=one /lines /\nRUN mkdir -p /d/e && mv /lines /d/ && echo x >> /d/e/x\nCOPY . /all/\n"
	for name, text := range map[string]string{
		"first/Dockerfile": text, "first/f": "one\n", "first/.dockerignore": "Dockerfile\n",
		"changed/Dockerfile": text, "changed/f": "other\n", "changed/.dockerignore": "Dockerfile\n",
		"new/Dockerfile": strings.ReplaceAll(text, "/d", "/n"), "new/f": strings.Repeat("new\n", 50_000), "new/.dockerignore": "Dockerfile\n",
	} {
		path := filepath.Join(k.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	k.must("before", "import rootfs base:v1", "build -q -t first:v1 --build-arg=SOURCE_DATE_EPOCH=1000000000 first")
	return k.dir
}
