package build

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ocibuild/ocibuild/parser"
)

// apply runs the config instructions of a one-stage Dockerfile FROM scratch.
func apply(t *testing.T, text string, args map[string]string) (*State, error) {
	t.Helper()
	o := amd64()
	o.Args = args
	df := dockerfile(t, text)
	g, err := Plan(df, o)
	if err != nil {
		t.Fatal(err)
	}
	st := scratchState(o.Platform)
	for _, in := range df.Stages[len(df.Stages)-1].Body {
		c := scoped{x: parser.Expander{Escape: df.Escape}, globals: g.globals, given: args, state: st}
		if st, err = applyConfig(c, in); err != nil {
			return nil, err
		}
	}
	return st, nil
}

func historyOf(s *State) []string {
	var out []string
	for _, h := range s.Config.History {
		out = append(out, h.CreatedBy)
	}
	return out
}

func TestConfigInstructions(t *testing.T) {
	const path = "PATH=" + defaultPath
	tests := []struct {
		name, text string
		args       map[string]string
		want       func(*State) any
		is         any
	}{
		{"env keeps its order and replaces in place", "FROM scratch\nENV A=1 B=2\nENV A=3 C=$A\n", nil, func(s *State) any { return s.Config.Config.Env }, []string{path, "A=3", "B=2", "C=1"}},
		{"env history", "FROM scratch\nENV A=1 B=\"x y\"\n", nil, func(s *State) any { return historyOf(s) }, []string{"ENV A=1 B=x y"}},
		{"arg default", "FROM scratch\nARG A=1\nENV B=$A\n", nil, func(s *State) any { return s.Config.Config.Env }, []string{path, "B=1"}},
		{"arg given", "FROM scratch\nARG A=1\nENV B=$A\n", map[string]string{"A": "2"}, func(s *State) any { return s.Config.Config.Env }, []string{path, "B=2"}},
		{"global arg needs a declaration", "ARG G=1\nFROM scratch\nENV X=$G\nARG G\nENV Y=$G\n", nil, func(s *State) any { return s.Config.Config.Env }, []string{path, "X=", "Y=1"}},
		{"arg after env wins in RUN, not in the config", "FROM scratch\nENV A=1\nARG A=2\n", nil, func(s *State) any { v, _ := s.Env.lookup("A"); return []string{v, s.Config.Config.Env[1]} }, []string{"2", "A=1"}},
		{"args stay out of the config", "FROM scratch\nARG SECRET=1\n", nil, func(s *State) any { return s.Config.Config.Env }, []string{path}},
		{"platform args", "FROM scratch\nARG TARGETARCH TARGETSTAGE\nENV A=$TARGETARCH S=$TARGETSTAGE\n", nil, func(s *State) any { return s.Config.Config.Env }, []string{path, "A=amd64", "S=default"}},
		{"cmd shell form", "FROM scratch\nCMD echo hi\n", nil, func(s *State) any { return s.Config.Config.Cmd }, []string{"/bin/sh", "-c", "echo hi"}},
		{"cmd with shell", "FROM scratch\nSHELL [\"/bin/bash\", \"-ec\"]\nCMD echo hi\n", nil, func(s *State) any { return s.Config.Config.Cmd }, []string{"/bin/bash", "-ec", "echo hi"}},
		{"cmd of another system", "FROM scratch\nCMD echo hi\n", nil, func(s *State) any { s.Config.OS = windows; return s.command(true, []string{"echo hi"}) }, []string{"cmd", "/S", "/C", "echo hi"}},
		{"cmd history", "FROM scratch\nCMD [\"a\", \"b c\"]\n", nil, func(s *State) any { return historyOf(s) }, []string{`CMD ["a" "b c"]`}},
		{"entrypoint keeps a cmd of this stage", "FROM scratch\nCMD [\"a\"]\nENTRYPOINT [\"e\"]\n", nil, func(s *State) any { return s.Config.Config.Cmd }, []string{"a"}},
		{"expose ranges and protocols", "FROM scratch\nEXPOSE 80 8000-8001/UDP\n", nil, func(s *State) any { return s.Config.Config.ExposedPorts }, map[string]struct{}{"80/tcp": {}, "8000/udp": {}, "8001/udp": {}}},
		{"expose several ports out of one variable", "FROM scratch\nENV P=\"1 2\"\nEXPOSE $P\n", nil, func(s *State) any { return s.Config.Config.ExposedPorts }, map[string]struct{}{"1/tcp": {}, "2/tcp": {}}},
		{"volume", "FROM scratch\nENV D=/d\nVOLUME $D /e\n", nil, func(s *State) any { return s.Config.Config.Volumes }, map[string]struct{}{"/d": {}, "/e": {}}},
		{"label", "FROM scratch\nLABEL a=b \"c d\"=e\n", nil, func(s *State) any { return s.Config.Config.Labels }, map[string]string{"a": "b", "c d": "e"}},
		{"maintainer", "FROM scratch\nMAINTAINER me <me@example.com>\n", nil, func(s *State) any { return s.Config.Author }, "me <me@example.com>"},
		{"user", "FROM scratch\nARG U=bob\nUSER $U:staff\n", nil, func(s *State) any { return s.Config.Config.User }, "bob:staff"},
		{"stop signal", "FROM scratch\nSTOPSIGNAL SIGRTMIN+3\n", nil, func(s *State) any { return s.Config.Config.StopSignal }, "SIGRTMIN+3"},
		{"healthcheck", "FROM scratch\nHEALTHCHECK --interval=5s CMD true\n", nil, func(s *State) any { return historyOf(s) }, []string{"HEALTHCHECK {Test:[CMD-SHELL true] Interval:5s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"}},
		{"healthcheck none", "FROM scratch\nHEALTHCHECK NONE\n", nil, func(s *State) any { return s.Config.Config.Healthcheck.Test }, []string{"NONE"}},
		{"onbuild writes no history", "FROM scratch\nONBUILD RUN make\n", nil, func(s *State) any { return append(s.Config.Config.OnBuild, historyOf(s)...) }, []string{"RUN make"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := apply(t, tt.text, tt.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.is, tt.want(s)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEntrypointClearsAnInheritedCmd(t *testing.T) {
	base, err := apply(t, "FROM scratch\nCMD [\"a\"]\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	child := base.begin()
	c := scoped{x: parser.Expander{Escape: '\\'}, state: child}
	df := dockerfile(t, "FROM scratch\nENTRYPOINT [\"e\"]\n")
	got, err := applyConfig(c, df.Stages[0].Body[0])
	if err != nil {
		t.Fatal(err)
	}
	if got.Config.Config.Cmd != nil || child.Config.Config.Cmd == nil {
		t.Errorf("cmd is %v, and was %v", got.Config.Config.Cmd, child.Config.Config.Cmd)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"bad port":       {"FROM scratch\nEXPOSE 99999\n", "not a port number"},
		"bad protocol":   {"FROM scratch\nEXPOSE 80/icmp\n", "unknown protocol"},
		"backward range": {"FROM scratch\nEXPOSE 9-8\n", "runs backwards"},
		"bad signal":     {"FROM scratch\nSTOPSIGNAL SIGNOPE\n", "invalid signal"},
		"empty volume":   {"FROM scratch\nVOLUME $nothing\n", "empty string"},
		"required":       {"FROM scratch\nENV A=${B:?missing}\n", "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := apply(t, tt.text, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestSignals(t *testing.T) {
	good := []string{
		"SIGTERM", "term", "sigKill", "9", "64", "65", "-1", "015", "IOT", "CLD", "SIGPOLL", "STKFLT", "PWR",
		"RTMIN", "rtmin+1", "SIGRTMIN+15", "RTMAX-14", "RTMAX",
	}
	bad := []string{"", "0", "TERM x", "SIGSIGTERM", "RTMIN+0", "RTMIN+16", "RTMIN+01", "RTMIN++1", "RTMAX-15", "RTMAX-0", "RTMAX+1", "UNUSED", "EMT"}
	for _, s := range good {
		if !validSignal(s) {
			t.Errorf("%q is refused", s)
		}
	}
	for _, s := range bad {
		if validSignal(s) {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestWorkdirJoins(t *testing.T) {
	for _, tt := range []struct{ current, dir, want string }{
		{"/", "a", "/a"}, {"/a", "b/c", "/a/b/c"}, {"/a", "/b", "/b"}, {"/a", "..", "/"}, {"", "x", "/x"}, {"/a", "", "/a"}, {"/a", "/b/", "/b/"},
	} {
		if got := workdir(tt.current, tt.dir); got != tt.want {
			t.Errorf("workdir(%q, %q) = %q, want %q", tt.current, tt.dir, got, tt.want)
		}
	}
}
