package build

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ocibuild/ocibuild/parser"
)

// outline is a graph as text: a line a step, "id name <- inputs".
func outline(g *Graph) []string {
	var out []string
	for _, j := range g.printed() {
		line := j.Name
		var in []string
		for _, id := range j.Inputs {
			in = append(in, g.Steps[id].Name())
		}
		if len(in) > 0 {
			line += " <- " + strings.Join(in, ", ")
		}
		out = append(out, line)
	}
	return out
}

func TestPlan(t *testing.T) {
	tests := []struct {
		name, text string
		edit       func(*PlanOptions)
		want       []string
	}{
		{
			name: "one stage",
			text: "FROM busybox\nENV A=b\nRUN true\n",
			want: []string{
				"[stage-0 1/2] FROM docker.io/library/busybox:latest",
				"[stage-0] ENV A=b <- [stage-0 1/2] FROM docker.io/library/busybox:latest",
				"[stage-0 2/2] RUN true <- [stage-0] ENV A=b",
			},
		},
		{
			name: "stages that the target does not need are left out",
			text: "FROM scratch AS unused\nCOPY nothing /\nFROM scratch AS used\nCOPY a /\nFROM scratch\nCOPY --from=used a /b\n",
			want: []string{
				"[stage-2] FROM scratch",
				"[used] FROM scratch AS used",
				"[used 1/1] COPY a / <- [used] FROM scratch AS used",
				"[stage-2 1/1] COPY --from=used a /b <- [stage-2] FROM scratch, [used 1/1] COPY a /",
			},
		},
		{
			name: "the target ends the plan",
			text: "FROM scratch AS one\nCOPY a /\nFROM one AS two\nCOPY b /\n",
			edit: func(o *PlanOptions) { o.Target = "ONE" },
			want: []string{"[one] FROM scratch AS one", "[one 1/1] COPY a / <- [one] FROM scratch AS one"},
		},
		{
			name: "a stage by index, and an image that only --from names",
			text: "FROM scratch\nCOPY a /\nFROM scratch\nCOPY --from=0 a /\nCOPY --from=alpine:3 /etc /etc\n",
			want: []string{
				"[stage-1] FROM scratch",
				"[stage-0] FROM scratch",
				"[stage-0 1/1] COPY a / <- [stage-0] FROM scratch",
				"[stage-1 1/2] COPY --from=0 a / <- [stage-1] FROM scratch, [stage-0 1/1] COPY a /",
				"[context] FROM docker.io/library/alpine:3",
				"[stage-1 2/2] COPY --from=alpine:3 /etc /etc <- [stage-1 1/2] COPY --from=0 a /, [context] FROM docker.io/library/alpine:3",
			},
		},
		{
			name: "global arguments in FROM",
			text: "ARG TAG=1\nARG BASE=img:${TAG}\nFROM ${BASE}\n",
			edit: func(o *PlanOptions) { o.Args = map[string]string{"TAG": "2"} },
			want: []string{"[stage-0 1/1] FROM docker.io/library/img:2"},
		},
		{
			name: "triggers of the base come first",
			text: "FROM base\nCOPY b /\n",
			edit: func(o *PlanOptions) {
				o.Triggers = map[string][]string{"docker.io/library/base:latest": {"COPY a /"}}
			},
			want: []string{
				"[stage-0 1/3] FROM docker.io/library/base:latest",
				"[stage-0 2/3] COPY a / <- [stage-0 1/3] FROM docker.io/library/base:latest",
				"[stage-0 3/3] COPY b / <- [stage-0 2/3] COPY a /",
			},
		},
		{
			name: "triggers of a stage run in its children and not in itself",
			text: "FROM scratch AS a\nONBUILD COPY x /\nFROM a\nCOPY y /\n",
			want: []string{
				"[a] FROM scratch AS a",
				"[a] ONBUILD COPY x / <- [a] FROM scratch AS a",
				"[stage-1] FROM a <- [a] ONBUILD COPY x /",
				"[stage-1 1/2] COPY x / <- [stage-1] FROM a",
				"[stage-1 2/2] COPY y / <- [stage-1 1/2] COPY x /",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := amd64()
			if tt.edit != nil {
				tt.edit(&o)
			}
			g, err := Plan(dockerfile(t, tt.text), o)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, outline(g)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	tests := []struct {
		name, text, target string
		line               int
		want               string
	}{
		{"unknown target", "FROM scratch AS build\n", "biuld", 0, `did you mean the stage "build"`},
		{"target that is nothing like a stage", "FROM scratch AS build\n", "zzzzzz", 0, "the stages build"},
		{"bad trigger of a stage", "FROM scratch AS a\nONBUILD WORKDIR\nFROM a\n", "", 3, `ONBUILD trigger "WORKDIR" of stage a: WORKDIR requires exactly one argument`},
		{"copy from itself", "FROM scratch AS a\nCOPY --from=a x /\n", "", 2, "circular dependency"},
		{"circle that nobody needs", "FROM scratch AS a\nRUN --mount=from=c,target=/c true\nFROM scratch AS b\nCOPY --from=a x x\nFROM scratch AS c\nCOPY --from=1 x x\nFROM scratch\n", "", 4, "circular dependency"},
		{"stage index out of range in a stage that nobody needs", "FROM scratch\nCOPY --from=2 x x\nFROM scratch\n", "", 2, "invalid stage index 2"},
		{"platform local", "FROM --platform=local scratch\n", "", 1, "--platform=local"},
		{"copy from a later stage", "FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\n", "a", 2, "needs to be defined before"},
		{"stage index out of range", "FROM scratch\nCOPY --from=7 x /\n", "", 2, "invalid stage index 7"},
		{"blank base", "ARG base\nFROM ${base}\n", "", 2, "should not be blank"},
		{"blank base in a stage that is not built", "FROM ${nothing} AS unused\nFROM scratch\n", "", 1, "should not be blank"},
		{"bad base", "FROM busy:box:1\n", "", 1, "neither a stage nor an image"},
		{"bad platform", "FROM --platform=linux/nonsense busybox\n", "", 1, "no known architecture"},
		{"empty platform of a stage", "FROM scratch AS a\nFROM --platform=$NOTHING a\n", "", 2, "empty platform"},
		{"empty platform", "FROM --platform=$NOTHING busybox\n", "", 1, "empty platform"},
		{"required argument", "ARG v=${x:?give}\nFROM scratch\n", "", 1, "give"},
		{"mount from a later stage", "FROM scratch AS a\nRUN --mount=from=b,target=/b true\nFROM scratch AS b\n", "a", 2, "needs to be defined before"},
		{"insecure", "FROM scratch\nRUN --security=insecure true\n", "", 2, "--allow security.insecure"},
		{"network of the host", "FROM scratch\nRUN --network=host true\n", "", 2, "network.host is not allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := amd64()
			o.Target = tt.target
			_, err := Plan(dockerfile(t, tt.text), o)
			var pe *parser.Error
			if !errors.As(err, &pe) {
				t.Fatalf("error %v is not a *parser.Error", err)
			}
			if pe.Range.Start != tt.line || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got line %d, %v; want line %d, %q", pe.Range.Start, err, tt.line, tt.want)
			}
		})
	}
}

func TestGraphPrints(t *testing.T) {
	g, err := Plan(dockerfile(t, "FROM scratch\nCOPY \"a\" /\n"), amd64())
	if err != nil {
		t.Fatal(err)
	}
	var dot, js strings.Builder
	if err := g.WriteDOT(&dot); err != nil {
		t.Fatal(err)
	}
	if err := g.WriteJSON(&js); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(dot.String(), "s0 -> s1;") || !strings.Contains(dot.String(), `COPY \"a\" /`) {
		t.Errorf("DOT:\n%s", dot.String())
	}
	if !strings.Contains(js.String(), `"platform": "linux/amd64"`) || !strings.Contains(js.String(), `"target": true`) {
		t.Errorf("JSON:\n%s", js.String())
	}
}
