package parser

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// found words the warnings of a text.
func found(d *Dockerfile) []string {
	var out []string
	for _, w := range d.Warnings {
		out = append(out, fmt.Sprintf("%d-%d %s: %s", w.Range.Start, w.Range.End, w.Rule, w.Msg))
	}
	return out
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"clean", "FROM a AS b\nRUN x\nCMD [\"y\"]\n", nil},
		{"MaintainerDeprecated", "FROM a\nMAINTAINER b", []string{"2-2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"}},
		{"StageNameCasing", "FROM a AS Bc", []string{"1-1 StageNameCasing: Stage name 'Bc' should be lowercase"}},
		{"FromAsCasing", "FROM a as b", []string{"1-1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"}},
		{"FromAsCasing lower", "from a AS b\nfrom c As d", []string{
			"1-1 FromAsCasing: 'AS' and 'from' keywords' casing do not match",
			"2-2 FromAsCasing: 'As' and 'from' keywords' casing do not match",
		}},
		{"a FROM in mixed case has no case for AS to match", "From a as b\nRUN x\nRUN y", []string{
			"1-1 ConsistentInstructionCasing: Command 'From' should match the case of the command majority (uppercase)",
		}},
		{"ReservedStageName", "FROM a AS scratch\nFROM a AS context", []string{
			`1-1 ReservedStageName: Stage name should not use the same name as reserved stage "scratch"`,
			`2-2 ReservedStageName: Stage name should not use the same name as reserved stage "context"`,
		}},
		{"a reserved word as the base", "FROM scratch\nFROM scratch AS b", nil},
		{"DuplicateStageName", "FROM a AS b\nFROM c AS B", []string{
			"2-2 StageNameCasing: Stage name 'B' should be lowercase",
			`2-2 DuplicateStageName: Duplicate stage name "b", stage names should be unique`,
		}},
		{"NoEmptyContinuation", "FROM a\nRUN b \\\n\n c", []string{"4-4 NoEmptyContinuation: Empty continuation line"}},
		{"what continuations end in comes first", "FROM a as b\nRUN b \\\n\n c", []string{
			"4-4 NoEmptyContinuation: Empty continuation line",
			"1-1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
		}},
		{"ConsistentInstructionCasing", "FROM a\nRUN b\nrun c\nCmd [\"d\"]", []string{
			"3-3 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
			"4-4 ConsistentInstructionCasing: Command 'Cmd' should match the case of the command majority (uppercase)",
		}},
		{"ConsistentInstructionCasing lower", "from a\nrun b\nRUN c", []string{
			"3-3 ConsistentInstructionCasing: Command 'RUN' should match the case of the command majority (lowercase)",
		}},
		{"an ARG before the first FROM has no casing", "arg a\nArg b\nFROM a", nil},
		{"a heredoc has none either", "FROM a\nRUN <<'EOT'\nenv\nEOT\n", nil},
		{"InvalidDefinitionDescription is off", "# x\nFROM a AS b", nil},
		{"InvalidDefinitionDescription", "# check=experimental=all\n# bar is this\nARG foo\n# B it is\nFROM a AS B\n# x\nARG b\n# b is fine\nARG b\n# y\nARG b c", []string{
			"3-3 InvalidDefinitionDescription: Comment for ARG should follow the format: `# foo <description>`",
			"5-5 StageNameCasing: Stage name 'B' should be lowercase",
			"5-5 InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>`",
			"7-7 InvalidDefinitionDescription: Comment for ARG should follow the format: `# b <description>`",
			"11-11 InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>`",
		}},
		{"descriptions that are fine", "# check=skip=all;experimental=InvalidDefinitionDescription\n# foo it is\nARG foo=bar\n\n# base it is\nFROM scratch AS base\n# baz it is\nARG foo=baz baz=quux\n#\nARG bit\n# anything\nCOPY a b", nil},
		{"skip one", "# check=skip=MaintainerDeprecated,X\nFROM a as b\nMAINTAINER b", []string{
			"2-2 FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
		}},
		{"skip all", "# check=skip=all\nFROM a\nMAINTAINER b\nRUN c \\\n\nd", nil},
		{"skip without a blank", "#check=skip=ConsistentInstructionCasing,FromAsCasing\nFROM a as b\ncopy c d", nil},
		{"skip above an instruction", "FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER b\nMAINTAINER c", []string{
			"4-4 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
		}},
		{"skip above an instruction, and why", "FROM a\n# check=skip=MaintainerDeprecated // as it was\nMAINTAINER b", nil},
		{"experimental above an instruction", "FROM a\n# check=experimental=all\nARG b", []string{
			"3-3 InvalidDefinitionDescription: Comment for ARG should follow the format: `# b <description>`",
		}},
		{"above a FROM the names of stages are not skipped", "FROM a AS b\n# check=skip=all\nFROM a AS b", []string{
			`3-3 DuplicateStageName: Duplicate stage name "b", stage names should be unique`,
		}},
		{"a bad check above an instruction is a comment", "FROM a\n# check=foo\nMAINTAINER b", []string{
			"3-3 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
		}},
		{"MalformedExecForm", "FROM a\nCMD [\"a\", b]\nENTRYPOINT ['a', 'b']\nRUN [\"a\", \"b\"\nRUN [ \"a\" , \"b\" \nCOPY [\"a\" \"b\"]\nVOLUME [\"a\", b]\nHEALTHCHECK CMD [\"a\", b]\nONBUILD RUN [\"a\",]", []string{
			"2-2 MalformedExecForm: CMD takes the brackets and quotes as they are, for this is no JSON array: each element stands in double quotes, with commas between",
			"3-3 MalformedExecForm: ENTRYPOINT takes the brackets and quotes as they are, for this is no JSON array: each element stands in double quotes, with commas between",
			"4-4 MalformedExecForm: RUN takes the brackets and quotes as they are, for this is no JSON array: it does not end in ]",
			"5-5 MalformedExecForm: RUN takes the brackets and quotes as they are, for this is no JSON array: it does not end in ]",
			"6-6 MalformedExecForm: COPY takes the brackets and quotes as they are, for this is no JSON array: each element stands in double quotes, with commas between",
			"7-7 MalformedExecForm: VOLUME takes the brackets and quotes as they are, for this is no JSON array: each element stands in double quotes, with commas between",
			"8-8 MalformedExecForm: HEALTHCHECK takes the brackets and quotes as they are, for this is no JSON array: each element stands in double quotes, with commas between",
			"9-9 MalformedExecForm: RUN takes the brackets and quotes as they are, for this is no JSON array: each element stands in double quotes, with commas between",
		}},
		{"what the shell takes well", "FROM a\nRUN [ \"$a\" = b ] || [ -e x ]\nRUN [[ -e x ]]\nCMD [\"a\"]\nCOPY [ab] c\nCOPY [\"a\", \"b\"]\nLABEL a=[\"b\"", nil},
		{"MisspeltRule", "# check=skip=StageNameCaseing,SomeRuleOfLater;experimental=all\nFROM a", []string{
			"1-1 MisspeltRule: There is no rule StageNameCaseing (did you mean StageNameCasing?)",
		}},
		{"what build time alone can tell", "FROM a\nENV b c\nCMD d\nCMD e\nWORKDIR f\nEXPOSE 1/TCP\nARG TOKEN\nCOPY $x y", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, found(parse(t, tt.text))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWarningsBeforeAnError(t *testing.T) {
	tests := []struct {
		name, text, err string
		want            []string
	}{
		{
			name: "in a later line", text: "FROM scratch AS Bad\nMAINTAINER me\nBADCMD\nMAINTAINER you\n",
			err: `Dockerfile:3: unknown instruction: BADCMD (if it belongs to the line before, that line must end in \)`,
			want: []string{
				"1-1 StageNameCasing: Stage name 'Bad' should be lowercase",
				"2-2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
			},
		},
		{
			name: "in the same line", text: "FROM a az B\n",
			err: "Dockerfile:1: FROM requires either one or three arguments (write FROM <image> [AS <name>])",
			want: []string{
				"1-1 StageNameCasing: Stage name 'B' should be lowercase",
				"1-1 FromAsCasing: 'az' and 'FROM' keywords' casing do not match",
			},
		},
		{
			name: "that cuts no lines", text: "FROM a as b\nENV x\n",
			err: "Dockerfile:2: ENV must have two arguments (write <name>=<value>)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Parse("Dockerfile", []byte(tt.text))
			if err == nil || err.Error() != tt.err {
				t.Errorf("got  %v\nwant %s", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, found(d)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestCheckOption(t *testing.T) {
	const text = "# check=error=true;bad\nFROM a as b\nMAINTAINER c"
	d, err := Options{Check: &Check{Skip: []string{"FromAsCasing"}}}.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal("the file's own directive counts: ", err)
	}
	want := []string{"3-3 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"}
	if diff := cmp.Diff(want, found(d)); diff != "" || d.Check.Error {
		t.Errorf("(-want +got)\n%s%+v", diff, d.Check)
	}
}

func TestParseCheck(t *testing.T) {
	tests := []struct {
		text string
		want Check
		err  string
	}{
		{text: ""},
		{text: "skip=all", want: Check{SkipAll: true}},
		{text: " skip = A , B ", want: Check{Skip: []string{"A", "B"}}},
		{text: "skip=A;error=true;experimental=all", want: Check{Skip: []string{"A"}, Error: true, ExperimentalAll: true}},
		{text: "experimental=A,B;error=0", want: Check{Experimental: []string{"A", "B"}}},
		{text: "skip=all;skip=A", want: Check{SkipAll: true, Skip: []string{"A"}}},
		{text: "all", err: `invalid check option "all" (one of skip, experimental, error)`},
		{text: "skip=A;eror=true", err: `invalid check option "eror=true" (did you mean error?)`},
		{text: "error=yes", err: `invalid check option "error=yes" (true or false)`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := ParseCheck(tt.text)
			if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("got error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestRules holds the table to the form that BuildKit gives its rules.
func TestRules(t *testing.T) {
	capital := regexp.MustCompile(`([a-z])([A-Z])`)
	seen := map[string]bool{}
	theirs := 0
	for _, r := range Rules() {
		if seen[r.Name] || r.Description == "" || RuleNamed(r.Name) != r {
			t.Errorf("%+v", r)
		}
		seen[r.Name] = true
		if r.Own {
			continue
		}
		theirs++
		kebab := strings.ToLower(capital.ReplaceAllString(strings.Replace(r.Name, "JSON", "Json", 1), "$1-$2"))
		if want := ruleURL + kebab + "/"; r.URL != want && r.Name != "InvalidBaseImagePlatform" {
			t.Errorf("%s has %s, want %s", r.Name, r.URL, want)
		}
	}
	if theirs != 22 {
		t.Errorf("%d of BuildKit's 22 rules", theirs)
	}
	if RuleNamed("x") != (Rule{}) {
		t.Error("an unknown name has a rule")
	}
}
