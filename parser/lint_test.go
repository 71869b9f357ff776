package parser

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWarnings(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"clean", "FROM a AS b\nRUN x\nCMD [\"y\"]\n", nil},
		{"MaintainerDeprecated", "FROM a\nMAINTAINER b", []string{"2-2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"}},
		{"StageNameCasing", "FROM a AS Bc", []string{"1-1 StageNameCasing: Stage name 'Bc' should be lowercase"}},
		{"FromAsCasing", "FROM a as b", []string{"1-1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"}},
		{"FromAsCasing lower", "from a AS b", []string{"1-1 FromAsCasing: 'AS' and 'from' keywords' casing do not match"}},
		{"ReservedStageName", "FROM a AS scratch", []string{`1-1 ReservedStageName: Stage name should not use the same name as reserved stage "scratch"`}},
		{"DuplicateStageName", "FROM a AS b\nFROM c AS B", []string{
			"2-2 StageNameCasing: Stage name 'B' should be lowercase",
			`2-2 DuplicateStageName: Duplicate stage name "b", stage names should be unique`,
		}},
		{"RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM} a", []string{
			"1-1 RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
		}},
		{"FromPlatformFlagConstDisallowed", "FROM --platform=linux/arm64 a", []string{
			`1-1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/arm64"`,
		}},
		{"platform in the stage's name", "FROM --platform=linux/arm64 a AS build-arm64", nil},
		{"platform variable", "FROM --platform=$BUILDPLATFORM a", nil},
		{"NoEmptyContinuation", "FROM a\nRUN b \\\n\n c", []string{"4-4 NoEmptyContinuation: Empty continuation line"}},
		{"ConsistentInstructionCasing", "FROM a\nRUN b\nrun c\nCmd [\"d\"]", []string{
			"3-3 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
			"4-4 ConsistentInstructionCasing: Command 'Cmd' should match the case of the command majority (uppercase)",
		}},
		{"ConsistentInstructionCasing lower", "from a\nrun b\nRUN c", []string{
			"3-3 ConsistentInstructionCasing: Command 'RUN' should match the case of the command majority (lowercase)",
		}},
		{"LegacyKeyValueFormat", "FROM a\nENV b c\nLABEL d e", []string{
			`2-2 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format`,
			`3-3 LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format`,
		}},
		{"JSONArgsRecommended", "FROM a\nCMD b\nENTRYPOINT c", []string{
			"2-2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
			"3-3 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
		}},
		{"shell form after SHELL", "FROM a AS b\nSHELL [\"x\"]\nCMD b\nFROM b\nCMD c", nil},
		{"MultipleInstructionsDisallowed", "FROM a\nCMD [\"b\"]\nCMD [\"c\"]\nFROM a\nCMD [\"b\"]", []string{
			"2-2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
		}},
		{"WorkdirRelativePath", "FROM a AS b\nWORKDIR c\nWORKDIR d\nFROM b\nWORKDIR e", []string{
			`2-2 WorkdirRelativePath: Relative workdir "c" can have unexpected results if the base image changes`,
		}},
		{"workdir that is quoted or unknown", "FROM a\nWORKDIR \"/c\"\nFROM a\nWORKDIR $x", nil},
		{"SecretsUsedInArgOrEnv", "ARG TOKEN\nFROM a\nARG API_KEY\nENV db_password=x PUBLIC_KEY=y monkey=z TOKEN_FILE=w", []string{
			`3-3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "API_KEY")`,
			`4-4 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "db_password")`,
		}},
		{"Expose", "FROM a\nEXPOSE 80/TCP 127.0.0.1:81:82", []string{
			"2-2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:81:82'",
			"2-2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
		}},
		{"InvalidDefinitionDescription is off", "# x\nFROM a AS b", nil},
		{"InvalidDefinitionDescription", "# check=experimental=all\nFROM a\n# x\nARG b\n# b is fine\nARG b\n# y\nARG b c", []string{
			"4-4 InvalidDefinitionDescription: Comment for ARG should follow the format: `# b <description>`",
			"8-8 InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>`",
		}},
		{"skip one", "# check=skip=MaintainerDeprecated,X\nFROM a\nMAINTAINER b\nCMD c", []string{
			"4-4 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
		}},
		{"skip all", "# check=skip=all\nFROM a\nMAINTAINER b\nRUN c \\\n\nd", nil},
		{"skip above an instruction", "FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER b\nMAINTAINER c", []string{
			"4-4 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
		}},
		{"a bad check above an instruction is a comment", "FROM a\n# check=foo\nMAINTAINER b", []string{
			"3-3 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
		}},
		{"error without findings", "# check=skip=all;error=true\nFROM a\nMAINTAINER b", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, w := range parse(t, tt.text).Warnings {
				got = append(got, fmt.Sprintf("%d-%d %s: %s", w.Range.Start, w.Range.End, w.Rule, w.Msg))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
