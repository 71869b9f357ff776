package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/ocibuild/ocibuild/registry"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// testIO is a stdio without terminals and with the given environment.
func testIO(env map[string]string) (*stdio, *bytes.Buffer, *bytes.Buffer) {
	var out, errOut bytes.Buffer
	return &stdio{
		in: strings.NewReader(""), out: &out, err: &errOut,
		size: func() (int, int) { return 0, 0 },
		env:  func(k string) (string, bool) { v, ok := env[k]; return v, ok },
	}, &out, &errOut
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		line string
		want []string // parts of message and hint
	}{
		{"", []string{"a verb or a context directory is missing"}},
		{"biuld", []string{`unknown verb "biuld" (did you mean build?)`, "ocibuild help"}},
		{"frobnicate", []string{`unknown verb "frobnicate"`}},
		{"imags", []string{"did you mean images?"}},
		{"help bild", []string{"did you mean build?"}},
		{"help build b", []string{"at most one verb"}},
		{"--root", []string{"--root needs a directory"}},
		{"--taggg x .", []string{"unknown flag --taggg for build", "did you mean --tag?"}},
		{"build -z .", []string{"unknown flag -z for build"}},
		{"build --builder box .", []string{"unknown flag --builder for build", "there is no daemon"}},
		{"build --secret src=x .", []string{"id is missing"}},
		{"build --secret id=x,src=/nowhere/x .", []string{"secret x", "no such file"}},
		{"build --secret id=x,env=NO_SUCH_VARIABLE .", []string{"the environment has no NO_SUCH_VARIABLE"}},
		{"build --secret id=x,target=/x .", []string{"unknown key"}},
		{"build --squash .", []string{"unknown flag --squash"}},
		{"build --load .", []string{"leave it out"}},
		{"build", []string{"the CONTEXT directory is missing"}},
		{"build . .", []string{"one CONTEXT"}},
		{"build -t", []string{"-t needs a value"}},
		{"build -t UPPER .", []string{"UPPER"}},
		{"build -t a@sha256:" + strings.Repeat("0", 64) + " .", []string{"digest"}},
		{"build --platform nonsense .", []string{"--platform", "linux/amd64"}},
		{"build --build-arg =x .", []string{"a name is missing"}},
		{"build --label =x .", []string{"a name is missing"}},
		{"build --pull=sometimes .", []string{"--pull=sometimes: unknown value", "always, missing, newer, never"}},
		{"build --progress=plian .", []string{"did you mean plain?"}},
		{"build --print-graph=svg .", []string{"dot, json"}},
		{"build -j -1 .", []string{"cannot be negative"}},
		{"build -j x .", []string{"--jobs=x"}},
		{"build --push .", []string{"needs a name"}},
		{"build -q -o - .", []string{"standard output"}},
		{"build -o - -o type=tar .", []string{"standard output"}},
		{"build -o type=zip,dest=x .", []string{"unknown value", "local, tar, oci"}},
		{"build -o type=local .", []string{"a directory is needed"}},
		{"build -o type=tar,dst=x .", []string{`takes no "dst"`, "did you mean dest?"}},
		{"build -o type=image,push=maybe .", []string{"true or false"}},
		{"build -o type=oci,dest .", []string{"not KEY=VALUE"}},
		{"build --iidfile /no/such/dir/iid .", []string{"there is no directory /no/such/dir"}},
		{"images a b", []string{"at most one REPOSITORY"}},
		{"images --filter dangling", []string{"KEY=VALUE"}},
		{"images --filter dangling=perhaps", []string{"true or false"}},
		{"images --filter lable=x", []string{"did you mean label?"}},
		{"images --filter reference=[", []string{"syntax error"}},
		{"images --format {{.ID", []string{"--format"}},
		{"images BAD", []string{"BAD"}},
		{"tag a", []string{"an IMAGE and a new NAME"}},
		{"tag a B:x", []string{"B:x"}},
		{"untag", []string{"a NAME is missing"}},
		{"rmi", []string{"an IMAGE is missing"}},
		{"inspect", []string{"an IMAGE is missing"}},
		{"inspect -f {{nofunc}} x", []string{"nofunc"}},
		{"history", []string{"one IMAGE is missing"}},
		{"history a b", []string{"want one IMAGE, got a b"}},
		{"prune", []string{"no terminal to ask on", "--force"}},
		{"prune x", []string{`unknown area "x"`, "snapshots"}},
		{"prune imges", []string{"did you mean images?"}},
		{"prune -f --cache images", []string{"exclude each other"}},
		{"prune -f cache --filter label=a", []string{"only images have labels"}},
		{"prune -f --filter until=soon", []string{"soon", "24h"}},
		{"prune -f --filter untli=1h", []string{"did you mean until?"}},
		{"prune -f --filter until", []string{"KEY=VALUE"}},
		{"prune -f --keep-storage much", []string{"--keep-storage", "20GB"}},
		{"save", []string{"an IMAGE is missing"}},
		{"save --format zip x", []string{"docker and oci"}},
		{"load x.tar", []string{"no arguments", "-i"}},
		{"import", []string{"is missing"}},
		{"import x BAD", []string{"BAD"}},
		{"import -c FOO x", []string{"--change"}},
		{"import -c 'RUN' x", []string{"--change"}},
		{"export", []string{"one IMAGE is missing"}},
		{"pull", []string{"one NAME is missing"}},
		{"pull --platform x y", []string{"--platform"}},
		{"push", []string{"an IMAGE is missing"}},
		{"login a b", []string{"at most one HOST"}},
		{"login a@b", []string{"not the host of a registry"}},
		{"login --password-stdin x", []string{"needs --username"}},
		{"login -u a -p b --password-stdin x", []string{"exclude each other"}},
		{"logout a b", []string{"at most one HOST"}},
		{"version x", []string{"no arguments"}},
		{"fsck x", []string{"no arguments"}},
	} {
		t.Run(tc.line, func(t *testing.T) {
			io, out, errOut := testIO(nil)
			code := run(strings.Fields(tc.line), io)
			if code != exitUsage {
				t.Errorf("exit code %d", code)
			}
			if out.Len() > 0 {
				t.Errorf("standard output: %s", out)
			}
			for _, part := range tc.want {
				if !strings.Contains(errOut.String(), part) {
					t.Errorf("%q is not in:\n%s", part, errOut)
				}
			}
		})
	}
}

func TestFindCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, tc := range []struct {
		line, want string
		args       []string
	}{
		{"images -q", "images", []string{"-q"}},
		{"build .", "build", []string{"."}},
		{".", "build", []string{"."}},
		{"-t app .", "build", []string{"-t", "app", "."}},
		{"./images", "build", []string{"./images"}},
		{"-", "build", []string{"-"}},
		{"--help", "help", []string{}},
		{"-h", "help", []string{}},
		{"--version", "version", []string{}},
	} {
		c, args, err := findCommand(strings.Fields(tc.line))
		if err != nil || c.name != tc.want || !slices.Equal(args, tc.args) {
			t.Errorf("%q: %v %v %v", tc.line, c, args, err)
		}
	}
}

func TestRootFlagBeforeAndAfterTheVerb(t *testing.T) {
	for _, line := range []string{"--root /x images", "--root=/x images", "images --root /x", "images --root=/x"} {
		io, _, _ := testIO(nil)
		inv, err := parse(strings.Fields(line), io)
		if err != nil || inv.globals.root != "/x" || inv.command.name != "images" {
			t.Errorf("%q: %+v %v", line, inv, err)
		}
	}
}

func TestStoreRoot(t *testing.T) {
	for _, tc := range []struct {
		name, flag string
		uid        int
		env        map[string]string
		want       string
	}{
		{"root", "", 0, nil, "/var/lib/ocibuild"},
		{"flag wins", "/f", 0, map[string]string{"OCIBUILD_ROOT": "/e"}, "/f"},
		{"environment", "", 0, map[string]string{"OCIBUILD_ROOT": "/e"}, "/e"},
		{"user", "", 1000, map[string]string{"HOME": "/home/u"}, "/home/u/.local/share/ocibuild"},
		{"user, data home", "", 1000, map[string]string{"HOME": "/home/u", "XDG_DATA_HOME": "/d"}, "/d/ocibuild"},
		{"user, relative data home", "", 1000, map[string]string{"HOME": "/home/u", "XDG_DATA_HOME": "d"}, "/home/u/.local/share/ocibuild"},
	} {
		io, _, _ := testIO(tc.env)
		got, err := (&session{stdio: io, rootFlag: tc.flag, invoker: tc.uid}).root()
		if err != nil || got != tc.want {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
	io, _, _ := testIO(nil)
	if _, err := (&session{stdio: io, invoker: 1000}).root(); exitCode(err) != exitUsage {
		t.Errorf("no home: %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	step := func(err error) error { return &build.StepError{Step: &build.Step{}, File: "Dockerfile", Err: err} }
	for _, tc := range []struct {
		name string
		err  error
		want int
	}{
		{"none", nil, exitOK},
		{"other", errors.New("x"), exitOther},
		{"usage", usagef("x"), exitUsage},
		{"interrupt", &interrupted{unix.SIGINT}, 130},
		{"terminate", fmt.Errorf("x: %w", &interrupted{unix.SIGTERM}), 143},
		{"hangup", &interrupted{unix.SIGHUP}, 129},
		{"Dockerfile", &parser.Error{Msg: "x"}, exitDockerfile},
		{"context", &contextError{msg: "x"}, exitDockerfile},
		{"step", step(&executor.ExitError{Code: 1}), exitStep},
		{"step, no command", step(errors.New("not found")), exitStep},
		{"step, bad input", step(&build.Hinted{Err: errors.New("not found")}), exitDockerfile},
		{"step, bad line", step(&parser.Error{Msg: "x"}), exitDockerfile},
		{"step, registry", step(&registry.Error{Op: "pull"}), exitRegistry},
		{"registry", &registry.Error{Op: "push"}, exitRegistry},
		{"no image", image.ErrNotFound, exitStore},
		{"ambiguous", &image.AmbiguousError{}, exitStore},
		{"store", &storeError{msg: "x"}, exitStore},
		{"full disk", step(fmt.Errorf("write: %w", unix.ENOSPC)), exitStore},
		{"said already", &exitError{7}, 7},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
	var table bytes.Buffer
	if err := writeExitCodes(&table); err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{exitOK, exitOther, exitUsage, exitDockerfile, exitStep, exitRegistry, exitStore, 129, 130, 143} {
		if !strings.Contains(table.String(), fmt.Sprintf("\n  %-3d  ", code)) {
			t.Errorf("code %d is not documented", code)
		}
	}
}

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{usagef("bad \x1b[31mvalue"), "ocibuild: bad value\n"},
		{&usageError{msg: "m", hint: "h"}, "ocibuild: m\nhint: h\n"},
		{fmt.Errorf("x: %w", &build.Hinted{Err: errors.New("m"), Hint: "h"}), "ocibuild: x: m\nhint: h\n"},
		{&contextError{msg: "read f", err: &fs.PathError{Op: "open", Path: "f", Err: unix.ENOENT}}, "ocibuild: read f: no such file or directory\n"},
		{&exitError{3}, ""},
	} {
		io, _, errOut := testIO(nil)
		report(io, tc.err)
		if errOut.String() != tc.want {
			t.Errorf("%v: %q, want %q", tc.err, errOut.String(), tc.want)
		}
	}
}

func TestUntilSignal(t *testing.T) {
	ctx, stop := untilSignal(context.Background(), func(int) {})
	defer stop()
	if err := unix.Kill(unix.Getpid(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	var got *interrupted
	if !errors.As(context.Cause(ctx), &got) || got.signal != unix.SIGTERM {
		t.Errorf("cause: %v", context.Cause(ctx))
	}
}

// verbs are all commands, those of groups too.
func verbs() []*command {
	var all []*command
	for _, c := range commands() {
		if len(c.subs) == 0 {
			all = append(all, c)
		}
		all = append(all, c.subs...)
	}
	return all
}

// TestHelp holds every verb to the same form.
func TestHelp(t *testing.T) {
	for _, c := range verbs() {
		t.Run(c.name, func(t *testing.T) {
			io, out, _ := testIO(nil)
			words := strings.Fields(c.name)
			if code := run(append(words, "--help"), io); code != exitOK {
				t.Fatalf("exit code %d", code)
			}
			asked := out.String()
			out.Reset()
			if code := run(append([]string{"help"}, words...), io); code != exitOK || out.String() != asked {
				t.Errorf("help %s differs from %s --help", c.name, c.name)
			}
			for _, part := range []string{c.short, "Usage:\n  ocibuild " + c.name, "--root", "Examples:"} {
				if !strings.Contains(asked, part) {
					t.Errorf("%q is not in:\n%s", part, asked)
				}
			}
			for _, line := range strings.Split(asked, "\n") {
				if columns(line) > 108 {
					t.Errorf("long line: %s", line)
				}
			}
			checkFlags(t, c)
		})
	}
}

// checkFlags wants a sentence for every flag and a name for every value.
func checkFlags(t *testing.T, c *command) {
	flagSet(c, c.make(), &globals{}).VisitAll(func(f *pflag.Flag) {
		name, usage := pflag.UnquoteUsage(f)
		if usage == "" {
			t.Errorf("--%s has no help", f.Name)
		}
		if f.Value.Type() != "bool" && (name == "" || name == "string" || name == "stringArray") {
			t.Errorf("the value of --%s has no name", f.Name)
		}
	})
}

// TestExamplesParse holds the examples of the help to the flags there are.
func TestExamplesParse(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range verbs() {
		for _, e := range c.examples {
			for _, part := range strings.Split(e.line, "|") {
				_, args, ok := strings.Cut(part, "ocibuild ")
				if !ok || strings.ContainsAny(part, "'`$") {
					continue
				}
				args, _, _ = strings.Cut(args, ")")
				args, _, _ = strings.Cut(args, " < ")
				args, _, _ = strings.Cut(args, " > ")
				args, _, _ = strings.Cut(args, " || ")
				io, _, _ := testIO(nil)
				io.inTTY = c.name == "run" || c.name == "shell" // these are shown at a keyboard
				if _, err := parse(strings.Fields(args), io); err != nil {
					t.Errorf("%s: %s: %v", c.name, e.line, err)
				}
			}
		}
	}
}
