package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain is the toolbox itself when a link to the test's binary has the name of an applet.
func TestMain(m *testing.M) {
	if _, ok := applets()[filepath.Base(os.Args[0])]; ok || os.Getenv("TOOLBOX") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// installed returns a directory with a link for every applet.
func installed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := install(applets(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// output runs a command with only the applets to be found, and returns what it prints and its exit code.
func output(t *testing.T, bin, stdin string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, args[0]), args[1:]...)
	cmd.Env = []string{"PATH=" + bin, "TZ=UTC", "A=1"}
	cmd.Dir = t.TempDir()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestScripts(t *testing.T) {
	bin := installed(t)
	tests := []struct {
		script, want string
		code         int
	}{
		{`echo hello; exit 3`, "hello\n", 3},
		{`false || echo no; test -e / && [ 1 -lt 2 ]`, "no\n", 0},
		{`set -e; false; echo never`, "", 1},
		{`nosuchcommand 2>/dev/null`, "", 127},
		{`for i in $(seq 3); do printf '%s,' "$i"; done`, "1,2,3,", 0},
		{`mkdir -p a/b && touch a/b/c && ls a/b && rm -r a && test ! -e a`, "c\n", 0},
		{`echo x > f && cp f g && mv g h && cat f h && ln -s h l && readlink l`, "x\nx\nh\n", 0},
		{`mkdir d && rmdir d && test ! -d d`, "", 0},
		{`echo x > f; chmod 0600 f; ls -l f | cut -d' ' -f1`, "-rw-------\n", 0},
		{`echo x > f; ln f g; echo y > f; cat g; ln -sf g f; cat f`, "y\ny\n", 0},
		{`seq 5 | head -n 2; seq 5 | tail -2; seq 5 | tail -n +5`, "1\n2\n4\n5\n5\n", 0},
		{`printf 'b\na\nb\n' | sort | uniq -c | tr -s x y 2>/dev/null || printf 'b\na\n' | sort -r`, "b\na\n", 0},
		{`printf '10\n9\n' | sort -n; printf 'a\na\n' | uniq -c`, "9\n10\n      2 a\n", 0},
		{`printf 'one two\n' | wc; printf 'x\n' | wc -l`, "1 2 8\n1\n", 0},
		{`printf 'a1\nb2\n' | grep -v '^a'; printf x | grep y`, "b2\n", 1},
		{`printf 'a:b:c\n' | cut -d: -f1,3; echo abc | tr a-b A-B; echo abc | tr -d b`, "a:c\nABc\nac\n", 0},
		{`env -i B=2 env; env C=3 sh -c 'echo $A$C'`, "B=2\n13\n", 0},
		{`basename /a/b.c .c; dirname /a/b.c`, "b\n/a\n", 0},
		{`date -u -d @0 +%Y-%m-%dT%H:%M:%S; date -d @86400 +%s`, "1970-01-01T00:00:00\n86400\n", 0},
		{`sleep 0; uname | grep -c .`, "1\n", 0},
		{`mkdir d; echo x > d/f; tar -c -f d.tar d; rm -rf d; tar -x -f d.tar .; cat d/f`, "x\n", 0},
		{`echo x > f; gzip f; test ! -e f; gunzip f.gz; cat f`, "x\n", 0},
		{`mkdir d; touch d/f; find d -name f`, "d/f\n", 0},
		{`echo x | tee f; cat f`, "x\nx\n", 0},
		{`cat <<E
$A \$A
E`, "1 $A\n", 0},
		{`umask 027; umask; touch f; ls -l f | cut -d' ' -f1`, "0027\n-rw-r-----\n", 0},
		{`touch f; chmod 4755 f; ls -l f | cut -d' ' -f1; chmod -R a-x f; ls -l f | cut -d' ' -f1`, "urwxr-xr-x\nurw-r--r--\n", 0},
		{`if then`, "", 2},
	}
	for _, tt := range tests {
		t.Run(tt.script, func(t *testing.T) {
			out, code := output(t, bin, "", "sh", "-c", tt.script)
			if code != tt.code || tt.code != 2 && out != tt.want {
				t.Errorf("exit code %d, output %q; want %d, %q", code, out, tt.code, tt.want)
			}
		})
	}
}

func TestShellArguments(t *testing.T) {
	bin := installed(t)
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("#!"+bin+"/sh\necho $# $1 $2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, stdin string
		args        []string
		want        string
		code        int
	}{
		{"command", "", []string{"sh", "-c", `echo "$0 $1"`, "name", "a b"}, "name a b\n", 0},
		{"options", "", []string{"sh", "-ec", "false; echo never"}, "", 1},
		{"option by name", "", []string{"sh", "-o", "pipefail", "-c", "false | true"}, "", 1},
		{"file", "", []string{"sh", file, "a", "b"}, "2 a b\n", 0},
		{"options and file", "", []string{"sh", "-e", file, "-x"}, "1 -x\n", 0},
		{"standard input", "echo in; exit 4", []string{"sh"}, "in\n", 4},
		{"no command", "", []string{"sh", "-c"}, "usage: -c wants a command\n", 2},
		{"echo", "", []string{"echo", "a  b", "$A"}, "a  b $A\n", 0},
		{"bracket", "", []string{"[", "a", "=", "b", "]"}, "", 1},
		{"printf", "", []string{"printf", "%s|", "x", "y z"}, "x|y z|", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, code := output(t, bin, tt.stdin, tt.args...)
			if out != tt.want || code != tt.code {
				t.Errorf("exit code %d, output %q; want %d, %q", code, out, tt.code, tt.want)
			}
		})
	}
}

func TestInstallKeepsWhatIsThere(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ls"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := install(applets(), bin); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(bin, "ls"))
	if err != nil || string(data) != "mine" {
		t.Errorf("ls is %q, %v", data, err)
	}
	if err := install(applets(), filepath.Join(bin, "missing")); err == nil {
		t.Error("installation into a missing directory succeeds")
	}
}

func TestOwner(t *testing.T) {
	tests := []struct {
		spec     string
		uid, gid int
		ok       bool
	}{
		{"1:2", 1, 2, true},
		{"1", 1, -1, true},
		{":2", -1, 2, true},
		{"0:0", 0, 0, true},
		{"no such user", 0, 0, false},
		{"0:no such group", 0, 0, false},
	}
	for _, tt := range tests {
		uid, gid, err := lookupOwner(tt.spec)
		if uid != tt.uid || gid != tt.gid || (err == nil) != tt.ok {
			t.Errorf("%q gives %d, %d, %v", tt.spec, uid, gid, err)
		}
	}
}
