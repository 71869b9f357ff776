package parser

import (
	"errors"
	"strings"
	"testing"
)

func TestRefusals(t *testing.T) {
	const from = "FROM scratch\n"
	tests := []struct{ name, text, want string }{
		// the file
		{"empty file", "", ": file with no instructions (begin with FROM <image>, or FROM scratch)"},
		{"blank file", " \n\n", ": file with no instructions (begin with FROM <image>, or FROM scratch)"},
		{"comments only", "# a\n# b\n", ": file with no instructions (begin with FROM <image>, or FROM scratch)"},
		{"arguments only", "ARG a=b\n", ": dockerfile contains no stages to build (begin with FROM <image>, or FROM scratch)"},
		{"no stage", "ARG a\nRUN b", ":2: no build stage in current context (nothing but ARG stands before the first FROM)"},
		{"UTF-16", "F\x00R\x00O\x00M\x00", ":1: unknown instruction: F\x00R\x00O\x00M\x00 (the file holds NUL bytes: save it as UTF-8)"},
		{"long line", from + "RUN " + strings.Repeat("a", 1<<16), `:2: line greater than max allowed size of 65535 (break it with \, or COPY it from a file)`},

		// directives
		{"escape twice", "# escape=`\n# escape=\\\n" + from, ":2: only one escape parser directive can be used (remove this one)"},
		{"bad escape", "# syntax=a\n# escape=x\n" + from, ":2: invalid escape token 'x' does not match ` or \\ (write # escape=` or # escape=\\)"},
		{"bad check", "# check=skp=A\n" + from, `:1: invalid check option "skp=A" (did you mean skip?)`},
		{"bad check error", "# check=error=maybe\n" + from, `:1: invalid check option "error=maybe" (true or false)`},

		// instructions
		{"typo", from + "RUNN a", ":2: unknown instruction: RUNN (did you mean RUN?)"},
		{"typo in lower case", from + "copyy a b", ":2: unknown instruction: copyy (did you mean copy?)"},
		{"swapped letters", from + "ETNRYPOINT a", ":2: unknown instruction: ETNRYPOINT (did you mean ENTRYPOINT?)"},
		{"lost escape", from + "RUN a\n  && b", `:3: unknown instruction: && (if it belongs to the line before, that line must end in \)`},
		{"range of a continued line", from + "RUNN a \\\n b \\\n c\n", ":2: unknown instruction: RUNN (did you mean RUN?)"},

		// flags
		{"unknown flag", from + "COPY --form=a b c", ":2: unknown flag: --form (did you mean --from?)"},
		{
			"unknown flag like none", from + "RUN --zzzzzz=1 a",
			":2: unknown flag: --zzzzzz (one of --mount, --network, --security, --device)",
		},
		{"flag of another", from + "ADD --parents a b", ":2: unknown flag: --parents (one of --checksum, --keep-git-dir, --unpack, --chown, --chmod, --link, --exclude)"},
		{"flag where none is", from + "WORKDIR --a /b", ":2: unknown flag: --a (the instruction takes no flags; -- ends them)"},
		{"flag on ARG", from + "ARG --a b", ":2: unknown flag: --a (the instruction takes no flags; -- ends them)"},
		{"flag on STOPSIGNAL", from + "STOPSIGNAL --a b", ":2: unknown flag: --a (the instruction takes no flags; -- ends them)"},
		{"flag twice", from + "COPY --from=a --from=b c d", ":2: duplicate flag specified: --from (give it once)"},
		{"switch twice", from + "COPY --link --link=false c d", ":2: duplicate flag specified: --link (give it once)"},
		{"flag without value", from + "COPY --from a b", ":2: missing a value on flag: --from (write --from=<value>)"},
		{"switch without value", from + "COPY --link= a b", ":2: missing a value on flag: --link (write --link=<value>)"},
		{"switch with another value", from + "COPY --link=1 a b", ":2: expecting boolean value for flag --link, not: 1 (write --link or --link=false)"},
		{"flag cut by a letter", from + "COPY --chown=à b c", `:2: the flag "--chown=\xc3" holds a character that flags cannot hold (put the value in an ARG and use the variable)`},

		// FROM
		{"FROM nothing", "FROM", ":1: FROM requires either one or three arguments (write FROM <image> [AS <name>])"},
		{"FROM two", "FROM a b", ":1: FROM requires either one or three arguments (write FROM <image> [AS <name>])"},
		{"FROM without AS", "FROM a b c", ":1: FROM requires either one or three arguments (write FROM <image> [AS <name>])"},
		{
			"FROM bad name", "FROM a AS 1x",
			`:1: invalid name for build stage: "1x", name can't start with a number or contain symbols (begin it with a letter; digits, - _ and . may follow)`,
		},
		{"FROM name with symbol", "FROM a AS x/y", `:1: invalid name for build stage: "x/y", name can't start with a number or contain symbols (begin it with a letter; digits, - _ and . may follow)`},
		{"FROM flag", "FROM --plattform=a b", ":1: unknown flag: --plattform (did you mean --platform?)"},

		// the simple ones
		{"ARG nothing", from + "ARG", ":2: ARG requires at least one argument (write ARG <name>[=<default>])"},
		{"ARG blank", from + "ARG =a", ":2: ARG names can not be blank (write ARG <name>[=<default>])"},
		{"ENV nothing", from + "ENV", ":2: ENV requires at least one argument (write ENV <name>=<value>)"},
		{"ENV name alone", from + "ENV a", ":2: ENV must have two arguments (write <name>=<value>)"},
		{"ENV blank", from + "ENV =a", ":2: ENV names can not be blank (write ENV <name>=<value>)"},
		{"ENV mixed", from + "ENV a=b c", `:2: Syntax error - can't find = in "c". Must be of the form: name=value (put a value that holds blanks in quotes)`},
		{"LABEL nothing", from + "LABEL", ":2: LABEL requires at least one argument (write LABEL <name>=<value>)"},
		{"LABEL name alone", from + "LABEL a", ":2: LABEL must have two arguments (write <name>=<value>)"},
		{"EXPOSE nothing", from + "EXPOSE", ":2: EXPOSE requires at least one argument (write EXPOSE <port>[/<protocol>])"},
		{"MAINTAINER nothing", from + "MAINTAINER", ":2: MAINTAINER requires exactly one argument (write LABEL org.opencontainers.image.authors=<name>)"},
		{"SHELL nothing", from + "SHELL", `:2: SHELL requires at least one argument (write SHELL ["/bin/bash", "-c"])`},
		{"SHELL empty", from + "SHELL []", `:2: SHELL requires at least one argument (write SHELL ["/bin/bash", "-c"])`},
		{"SHELL words", from + "SHELL bash -c", `:2: SHELL requires the arguments to be in JSON form (write SHELL ["/bin/bash", "-c"])`},
		{"STOPSIGNAL nothing", from + "STOPSIGNAL", ":2: STOPSIGNAL requires exactly one argument (write STOPSIGNAL SIGTERM, or a number)"},
		{"USER nothing", from + "USER", ":2: USER requires exactly one argument (write USER <user>[:<group>])"},
		{"VOLUME nothing", from + "VOLUME", ":2: VOLUME requires at least one argument (write VOLUME <path>)"},
		{"VOLUME empty", from + "VOLUME []", ":2: VOLUME requires at least one argument (write VOLUME <path>)"},
		{"VOLUME blank", from + `VOLUME [" "]`, ":2: VOLUME specified can not be an empty string (write VOLUME <path>)"},
		{"WORKDIR nothing", from + "WORKDIR", ":2: WORKDIR requires exactly one argument (write WORKDIR <path>)"},
		{
			"nested JSON", from + `CMD ["a", ["b"]]`,
			":2: when using JSON array syntax, arrays must be comprised of strings only (put each element in double quotes, and no array in another)",
		},

		// COPY and ADD
		{"COPY nothing", from + "COPY", ":2: COPY requires at least two arguments (write COPY <source> <destination>)"},
		{"ADD one", from + "ADD a", ":2: ADD requires at least two arguments (write ADD <source> <destination>)"},
		{"COPY to a heredoc", from + "COPY a <<EOF\nEOF", ":2: COPY cannot accept a heredoc as a destination (the destination stands last)"},
		{"heredoc with a blank", from + "COPY << EOF /a\nEOF", ":2: COPY cannot tell which word begins its heredoc (write <<NAME without blanks)"},
		{"heredoc on a line with an open quote", from + "COPY <<EOF /a'\nEOF", ":2: the heredoc <<EOF has no body (close every quote on the line)"},
		{
			"unterminated heredoc", from + "RUN <<EOF\na\n EOF\n",
			":2: unterminated heredoc (a line must hold the word after << and nothing else; quote << where it begins no heredoc)",
		},
		{
			"COPY from a variable", from + "COPY --from=$a b c",
			":2: variable expansion is not supported for --from (give the source a stage: FROM $NAME AS src, then COPY --from=src)",
		},
		{
			"COPY from half a variable", from + "COPY --from=${a b c",
			":2: variable expansion is not supported for --from (give the source a stage: FROM $NAME AS src, then COPY --from=src)",
		},

		// HEALTHCHECK
		{"HEALTHCHECK nothing", from + "HEALTHCHECK", ":2: HEALTHCHECK requires at least one argument (write HEALTHCHECK [flags] CMD <command>, or HEALTHCHECK NONE)"},
		{"HEALTHCHECK NONE x", from + "HEALTHCHECK NONE x", ":2: HEALTHCHECK NONE takes no arguments (write HEALTHCHECK [flags] CMD <command>, or HEALTHCHECK NONE)"},
		{"HEALTHCHECK CMD", from + "HEALTHCHECK CMD", ":2: missing command after HEALTHCHECK CMD (write HEALTHCHECK [flags] CMD <command>, or HEALTHCHECK NONE)"},
		{"HEALTHCHECK CMD []", from + "HEALTHCHECK CMD []", ":2: missing command after HEALTHCHECK CMD (write HEALTHCHECK [flags] CMD <command>, or HEALTHCHECK NONE)"},
		{"HEALTHCHECK other", from + "HEALTHCHECK curl x", `:2: unknown type "CURL" in HEALTHCHECK (one of CMD, NONE)`},
		{"HEALTHCHECK short", from + "HEALTHCHECK --interval=1us CMD a", `:2: interval "interval" cannot be less than 1ms (0 takes the default)`},
		{"HEALTHCHECK negative", from + "HEALTHCHECK --timeout=-1s CMD a", `:2: interval "timeout" cannot be less than 1ms (0 takes the default)`},
		{"HEALTHCHECK no duration", from + "HEALTHCHECK --timeout=3 CMD a", `:2: --timeout: time: missing unit in duration "3" (as in 30s, 1m30s or 500ms)`},
		{"HEALTHCHECK retries", from + "HEALTHCHECK --retries=-1 CMD a", ":2: --retries cannot be negative (-1) (0 takes the default)"},
		{"HEALTHCHECK retries text", from + "HEALTHCHECK --retries=a CMD a", `:2: --retries: "a" is not a number (write --retries=3)`},

		// ONBUILD
		{"ONBUILD nothing", from + "ONBUILD", ":2: ONBUILD requires at least one argument (write ONBUILD <instruction>)"},
		{"ONBUILD ONBUILD", from + "ONBUILD ONBUILD RUN a", ":2: chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed (write the inner instruction once)"},
		{"ONBUILD FROM", from + "ONBUILD FROM a", ":2: FROM isn't allowed as an ONBUILD trigger"},
		{"ONBUILD MAINTAINER", from + "ONBUILD maintainer a", ":2: MAINTAINER isn't allowed as an ONBUILD trigger"},

		// RUN
		{"RUN network", from + "RUN --network=hots a", `:2: invalid network mode "hots" (did you mean host?)`},
		{"RUN security", from + "RUN --security=x a", `:2: security "x" is not valid (one of sandbox, insecure)`},
		{"RUN device twice", from + "RUN --device=a,name=b x", ":2: device name already set to a (name one device a flag)"},
		{"RUN device key", from + "RUN --device=a,requird=true x", ":2: unexpected key 'requird' in 'requird=true' (did you mean required?)"},
		{"RUN device nothing", from + "RUN --device=required x", `:2: device "required" has no name (write --device=<vendor>/<class>=<name>)`},
		{"RUN mount", from + "RUN --mount=target=/a,from=$b a", ":2: 'from' doesn't support variable expansion, define alias stage instead (FROM may use a variable: give the image a stage of its own and name that)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("Dockerfile", []byte(tt.text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if got := strings.TrimPrefix(err.Error(), "Dockerfile"); got != tt.want {
				t.Errorf("\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestErrorRange(t *testing.T) {
	tests := []struct {
		name, text string
		want       Range
	}{
		{"continued", "FROM a\n\nRUNN a \\\n b \\\n c\n", Range{3, 5}},
		{"heredoc", "FROM a\nCOPY a <<EOF\nb\nEOF\n", Range{2, 4}},
		{"unterminated heredoc", "FROM a\nRUN <<EOF\nb\n", Range{2, 3}},
		{"line parser", "FROM a\nENV a=b \\\n c\n", Range{2, 3}},
		{"whole file", "# a\n", Range{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("Dockerfile", []byte(tt.text))
			var e *Error
			if !errors.As(err, &e) || e.Range != tt.want || e.File != "Dockerfile" {
				t.Errorf("got %+v, want range %v", e, tt.want)
			}
		})
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("cause")
	tests := []struct {
		name string
		err  Error
		want string
	}{
		{"all", Error{File: "D", Range: Range{3, 4}, Msg: "m", Hint: "h", Err: cause}, "D:3: m (h)"},
		{"no hint", Error{File: "D", Range: Range{3, 4}, Msg: "m"}, "D:3: m"},
		{"no line", Error{File: "D", Msg: "m"}, "D: m"},
		{"no file", Error{Range: Range{3, 4}, Msg: "m"}, "m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.err.Error(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if !errors.Is(&tests[0].err, cause) {
		t.Error("the cause is lost")
	}
}

func TestNearest(t *testing.T) {
	words := []string{"from", "chown", "chmod", "link"}
	tests := []struct{ word, want string }{
		{"form", "from"},
		{"chwon", "chown"},
		{"chmd", "chmod"},
		{"cho", "chown"},
		{"lnk", "link"},
		{"x", ""},
		{"", ""},
		{"exclude", ""},
		{"l", ""},
	}
	for _, tt := range tests {
		if got := Nearest(tt.word, words); got != tt.want {
			t.Errorf("Nearest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}
