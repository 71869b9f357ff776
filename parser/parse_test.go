package parser

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// parse is Parse for texts that must be right.
func parse(t *testing.T, text string) *Dockerfile {
	t.Helper()
	d, err := Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// parseOne gives the only instruction behind a FROM.
func parseOne(t *testing.T, text string) Instruction {
	t.Helper()
	d := parse(t, "FROM scratch\n"+text)
	if n := len(d.Stages[0].Body); n != 1 {
		t.Fatalf("%d instructions, want 1", n)
	}
	return d.Stages[0].Body[0]
}

func ptr[T any](v T) *T { return &v }

func shell(text string) Command { return Command{Shell: true, Args: []string{text}} }

func exec(args ...string) Command { return Command{Args: args} }

func TestInstructions(t *testing.T) {
	const sec = time.Second
	tests := []struct {
		name, text string
		want       Instruction
	}{
		{"add", "ADD a b /dst/", &Add{Transfer: Transfer{Sources: []string{"a", "b"}, Dest: "/dst/"}}},
		{
			"add with every flag",
			"ADD --chown=a:b --chmod=u+x --link --exclude=*.o --exclude=x --checksum=sha256:ab --keep-git-dir --unpack=false u d",
			&Add{
				Transfer: Transfer{
					Sources: []string{"u"}, Dest: "d", Chown: "a:b", Chmod: "u+x", Link: true, Exclude: []string{"*.o", "x"},
				},
				Checksum: "sha256:ab", KeepGitDir: ptr(true), Unpack: ptr(false),
			},
		},
		{"add unpack", "ADD --unpack u d", &Add{Transfer: Transfer{Sources: []string{"u"}, Dest: "d"}, Unpack: ptr(true)}},
		{"arg", "ARG a", &Arg{Defs: []ArgDef{{Name: "a"}}}},
		{
			"arg several", `ARG a b= c="d e" f=$a`,
			&Arg{Defs: []ArgDef{{Name: "a"}, {"b", ptr("")}, {"c", ptr(`"d e"`)}, {"f", ptr("$a")}}},
		},
		{"cmd shell", "CMD echo $x | cat", &Cmd{Command: shell("echo $x | cat")}},
		{"cmd exec", `CMD ["a", "b c"]`, &Cmd{Command: exec("a", "b c")}},
		{"cmd exec empty", `CMD []`, &Cmd{Command: exec()}},
		{"cmd empty", `CMD`, &Cmd{Command: shell("")}},
		{"cmd single quotes are no JSON", `CMD ['a', 'b']`, &Cmd{Command: shell(`['a', 'b']`)}},
		{"cmd text after JSON", `CMD ["a"] b`, &Cmd{Command: shell(`["a"] b`)}},
		{"cmd JSON escapes", `CMD ["\u00e9\n"]`, &Cmd{Command: exec("é\n")}},
		{"copy", "COPY a /b", &Copy{Transfer: Transfer{Sources: []string{"a"}, Dest: "/b"}}},
		{"copy JSON", `COPY ["a b", "c d"]`, &Copy{Transfer: Transfer{Sources: []string{"a b"}, Dest: "c d"}}},
		{"copy JSON is never a heredoc", `COPY ["<<a", "b"]`, &Copy{Transfer: Transfer{Sources: []string{"<<a"}, Dest: "b"}}},
		{
			"copy with every flag", "COPY --from=x --chown=1:2 --chmod=0644 --link=TRUE --parents --exclude=a a/./b c",
			&Copy{Transfer: Transfer{
				Sources: []string{"a/./b"}, Dest: "c", From: "x", Chown: "1:2", Chmod: "0644", Link: true, Parents: true,
				Exclude: []string{"a"},
			}},
		},
		{"flags in quotes", `COPY --chown="a b" --from='x' a b`, &Copy{Transfer: Transfer{Sources: []string{"a"}, Dest: "b", Chown: "a b", From: "x"}}},
		{"flags in UTF-8", "COPY --exclude=한국어 a b", &Copy{Transfer: Transfer{Sources: []string{"a"}, Dest: "b", Exclude: []string{"한국어"}}}},
		{"two dashes end the flags", "COPY --link -- --a b", &Copy{Transfer: Transfer{Sources: []string{"--a"}, Dest: "b", Link: true}}},
		{"words are unexpanded", `COPY "$a"\ b ${c:-d} /e`, &Copy{Transfer: Transfer{Sources: []string{`"$a"\`, "b", "${c:-d}"}, Dest: "/e"}}},
		{"entrypoint shell", "ENTRYPOINT a b", &Entrypoint{Command: shell("a b")}},
		{"entrypoint exec", `ENTRYPOINT ["a"]`, &Entrypoint{Command: exec("a")}},
		{"env", `ENV a=b c="d e" f=g\ h`, &Env{Vars: []KeyValue{{"a", "b"}, {"c", `"d e"`}, {"f", `g\ h`}}}},
		{"env empty", `ENV a=`, &Env{Vars: []KeyValue{{"a", ""}}}},
		{"env legacy", `ENV a b "c  d"=e`, &Env{Vars: []KeyValue{{"a", `b "c  d"=e`}}, Legacy: true}},
		{"expose is sorted", "EXPOSE 81/udp 80 $p 8000-8010", &Expose{Ports: []string{"$p", "80", "8000-8010", "81/udp"}}},
		{"healthcheck none", "HEALTHCHECK none", &Healthcheck{None: true}},
		{"healthcheck none takes any flag", "HEALTHCHECK --retries=x --nonsense NONE", &Healthcheck{None: true}},
		{"healthcheck shell", "HEALTHCHECK CMD curl  -f x", &Healthcheck{Command: shell("curl  -f x")}},
		{
			"healthcheck with every flag",
			`HEALTHCHECK --interval=1m --timeout=3s --start-period=2s --start-interval=1ms --retries=4 cmd ["a"]`,
			&Healthcheck{Command: exec("a"), Interval: 60 * sec, Timeout: 3 * sec, StartPeriod: 2 * sec, StartInterval: time.Millisecond, Retries: 4},
		},
		{"healthcheck zeros", `HEALTHCHECK --interval=0s --retries=0 CMD a`, &Healthcheck{Command: shell("a")}},
		{"label", `LABEL a.b=c "d e"=f`, &Label{Labels: []KeyValue{{"a.b", "c"}, {`"d e"`, "f"}}}},
		{"label legacy", `LABEL a b c`, &Label{Labels: []KeyValue{{"a", "b c"}}, Legacy: true}},
		{"maintainer", `MAINTAINER A B <a@b>`, &Maintainer{Name: "A B <a@b>"}},
		{"run shell", "RUN a && b", &Run{Command: shell("a && b"), Network: "default", Security: "sandbox"}},
		{"run empty", "RUN", &Run{Command: shell(""), Network: "default", Security: "sandbox"}},
		{"run exec", `RUN ["a","b"]`, &Run{Command: exec("a", "b"), Network: "default", Security: "sandbox"}},
		{
			"run with every flag", `RUN --network=none --security=insecure --device=v.com/c=n,required --device=name=x a`,
			&Run{Command: shell("a"), Network: "none", Security: "insecure", Devices: []Device{{"v.com/c=n", true}, {"x", false}}},
		},
		{"run keeps comment signs", "RUN a # b", &Run{Command: shell("a # b"), Network: "default", Security: "sandbox"}},
		{"shell", `SHELL ["/bin/bash", "-c"]`, &Shell{Args: []string{"/bin/bash", "-c"}}},
		{"stopsignal", `STOPSIGNAL $sig`, &StopSignal{Signal: "$sig"}},
		{"user", `USER a:b`, &User{User: "a:b"}},
		{"volume words", `VOLUME /a /b`, &Volume{Paths: []string{"/a", "/b"}}},
		{"volume JSON", `VOLUME ["/a b", " /c "]`, &Volume{Paths: []string{"/a b", "/c"}}},
		{"workdir", `WORKDIR /a b`, &Workdir{Path: "/a b"}},
		{"lower case", "workdir /a", &Workdir{Path: "/a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := parseOne(t, tt.text)
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreTypes(Node{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if keyword := strings.ToUpper(strings.Fields(tt.text)[0]); got.Keyword() != keyword || got.Text() != tt.text {
				t.Errorf("keyword %q, text %q", got.Keyword(), got.Text())
			}
		})
	}
}

func TestHeredocs(t *testing.T) {
	type doc = Heredoc
	tests := []struct {
		name, text string
		want       []Heredoc
		end        int
	}{
		{"none", "RUN a", nil, 2},
		{"one", "RUN <<EOF\na\n  b\nEOF", []doc{{Name: "EOF", Body: "a\n  b\n", Expand: true}}, 5},
		{"empty", "RUN <<EOF\nEOF", []doc{{Name: "EOF", Expand: true}}, 3},
		{"quoted", "COPY <<'a' <<\"b\" /\n1\na\n2\nb", []doc{{Name: "a", Body: "1\n"}, {Name: "b", Body: "2\n"}}, 6},
		{"tabs", "ADD <<-EOF /\n\t\ta\n\t b\n\tEOF", []doc{{Name: "EOF", Body: "a\n b\n", Expand: true}}, 5},
		{"descriptor", "RUN cat 3<<EOF /dev/fd/3\na\nEOF", []doc{{Name: "EOF", Body: "a\n", Expand: true, FD: 3}}, 4},
		{"comment and continuation stay", "RUN <<EOF\n# a\nb \\\nc\nEOF", []doc{{Name: "EOF", Body: "# a\nb \\\nc\n", Expand: true}}, 6},
		{"carriage returns stay", "RUN <<EOF\r\na\r\nEOF\r\n", []doc{{Name: "EOF", Body: "a\r\n", Expand: true}}, 4},
		{"exec form has none", `RUN ["<<EOF"]`, nil, 2},
		{"here-string is none", `RUN cat <<<x`, nil, 2},
		{"quoted operator is none", `RUN echo "<<EOF"`, nil, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := parseOne(t, tt.text)
			var got []Heredoc
			switch in := in.(type) {
			case *Run:
				got = in.Heredocs
			case *Copy:
				got = in.Heredocs
			case *Add:
				got = in.Heredocs
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(Heredoc{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if want := (Range{2, tt.end}); in.Range() != want {
				t.Errorf("range %v, want %v", in.Range(), want)
			}
		})
	}
}

func TestScript(t *testing.T) {
	tests := []struct {
		name, text, want string
		program          string
	}{
		{"plain", "RUN a b", "a b", ""},
		{"empty", "RUN", "", ""},
		{"body alone", "RUN <<EOF\na\nb\nEOF", "a\nb\n", ""},
		{"body alone without tabs", "RUN <<-EOF\n\ta\n\tEOF", "a\n", ""},
		{"body alone behind flags", "RUN --network=none <<EOF\na\nEOF", "a\n", ""},
		{"program", "RUN <<x.py\n#!/usr/bin/python3\nprint()\nx.py", "#!/usr/bin/python3\nprint()\n", "x.py"},
		{"command", "RUN <<EOF cat\na\nEOF", "<<EOF cat\na\nEOF", ""},
		{"command with tabs", "RUN cat <<-EOF\n\ta\nEOF", "cat <<-EOF\n\ta\nEOF", ""},
		{"two", "RUN <<A cat && <<B cat\n1\nA\n2\nB", "<<A cat && <<B cat\n1\nA\n2\nB", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := parseOne(t, tt.text).(*Run)
			got, program := r.Script()
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			name := ""
			if program != nil {
				name = program.Name
			}
			if name != tt.program {
				t.Errorf("program %q, want %q", name, tt.program)
			}
		})
	}
}

func TestOnBuild(t *testing.T) {
	tests := []struct {
		name, text, trigger string
		want                Instruction
	}{
		{"run", "ONBUILD RUN a  b", "RUN a  b", &Run{Command: shell("a  b"), Network: "default", Security: "sandbox"}},
		{"lower case", "onbuild  \tuser x", "user x", &User{User: "x"}},
		{"continued", "ONBUILD \\\n  # note\n  RUN a \\\n  b ", "RUN a   b ", &Run{Command: shell("a   b"), Network: "default", Security: "sandbox"}},
		{"flags", "ONBUILD COPY --from=x a b", "COPY --from=x a b", &Copy{Transfer: Transfer{From: "x", Sources: []string{"a"}, Dest: "b"}}},
		{
			"heredoc", "ONBUILD COPY <<-EOF /b\n\ta\n\tEOF", "COPY <<-EOF /b\n\ta\nEOF",
			&Copy{Transfer: Transfer{Dest: "/b", Heredocs: []Heredoc{{Name: "EOF", Body: "a\n", Expand: true}}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ob := parseOne(t, tt.text).(*OnBuild)
			if ob.Trigger != tt.trigger {
				t.Errorf("trigger %q, want %q", ob.Trigger, tt.trigger)
			}
			got, err := ParseTrigger("base", ob.Trigger)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreTypes(Node{}), cmpopts.IgnoreUnexported(Heredoc{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestOnBuildKeepsAnything(t *testing.T) {
	for _, text := range []string{"RUNN a", "WORKDIR", "HEALTHCHECK --interval=x CMD a", "RUN --mount=type=x a", "COPY a"} {
		if ob := parseOne(t, "ONBUILD "+text).(*OnBuild); ob.Trigger != text {
			t.Errorf("trigger %q, want %q", ob.Trigger, text)
		}
		if _, err := ParseTrigger("base", text); err == nil && !strings.Contains(text, "--mount") {
			t.Errorf("%s can be carried out", text)
		}
	}
}

func TestStages(t *testing.T) {
	d := parse(t, `# syntax=docker/dockerfile:1
ARG V=1
ARG W
FROM --platform=$BUILDPLATFORM golang:$V AS Build-1.x
RUN a

FROM build-1.x
# a comment
COPY --from=0 a b
RUN x \
  # inside

  && y
`)
	if d.Syntax != "docker/dockerfile:1" || d.Escape != '\\' || len(d.Lines) != 13 {
		t.Errorf("syntax %q, escape %q, %d lines", d.Syntax, d.Escape, len(d.Lines))
	}
	if len(d.Args) != 2 || d.Args[1].Defs[0].Name != "W" || d.Args[1].Range() != (Range{3, 3}) {
		t.Errorf("args %+v", d.Args)
	}
	first, second := d.Stages[0], d.Stages[1]
	if first.Index != 0 || first.Name != "build-1.x" || first.From.As != "Build-1.x" ||
		first.From.Image != "golang:$V" || first.From.Platform != "$BUILDPLATFORM" || len(first.Body) != 1 {
		t.Errorf("first stage %+v", first)
	}
	if second.Index != 1 || second.Name != "" || second.From.Image != "build-1.x" || len(second.Body) != 2 {
		t.Errorf("second stage %+v", second)
	}
	run := second.Body[1]
	if run.Range() != (Range{10, 13}) || run.Text() != "RUN x   && y" {
		t.Errorf("run %v %q", run.Range(), run.Text())
	}
}

func TestDirectives(t *testing.T) {
	tests := []struct {
		name, text string
		escape     rune
		syntax     string
		args       string // the RUN's text
	}{
		{"none", "FROM a\nRUN x \\\ny", '\\', "", "x y"},
		{"escape", "# escape=`\nFROM a\nRUN x `\ny\\", '`', "", `x y\`},
		{"order and case", "#SYNTAX = a/b x\n#Escape=`\nFROM a\nRUN x `\ny", '`', "a/b", "x y"},
		{"after a comment it is one", "# hello\n# escape=`\nFROM a\nRUN x \\\ny", '\\', "", "x y"},
		{"after a blank line it is a comment", "\n# escape=`\nFROM a\nRUN x \\\ny", '\\', "", "x y"},
		{"unknown ends them", "# foo=bar\n# escape=`\nFROM a\nRUN x \\\ny", '\\', "", "x y"},
		{"byte order mark", "\ufeff# escape=`\nFROM a\nRUN x `\ny", '`', "", "x y"},
		{"carriage returns", "# escape=`\r\nFROM a\r\nRUN x `\r\ny\r\n", '`', "", "x y"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := parse(t, tt.text)
			run := d.Stages[0].Body[0].(*Run)
			if d.Escape != tt.escape || d.Syntax != tt.syntax || run.Args[0] != tt.args {
				t.Errorf("escape %q, syntax %q, args %q", d.Escape, d.Syntax, run.Args)
			}
		})
	}
}

func TestTriggerErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", "", "base: onbuild trigger is empty"},
		{"comment", "# a\n", "base: onbuild trigger is empty"},
		{"two", "RUN a\nRUN b", "base:1: onbuild trigger should be a single expression"},
		{"chained", "ONBUILD ONBUILD RUN a", "base:1: chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed (write the inner instruction once)"},
		{"from", "FROM a", "base:1: FROM isn't allowed as an ONBUILD trigger"},
		{"unknown", "RUNN a", "base:1: unknown instruction: RUNN (did you mean RUN?)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseTrigger("base", tt.text)
			var e *Error
			if !errors.As(err, &e) || e.Error() != tt.want {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}
