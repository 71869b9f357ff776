package build

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// baseConfigs is a registry of configs, by familiar name without tag.
type baseConfigs map[string]image.Config

func (b baseConfigs) Image(_ context.Context, ref image.Ref, _ ocispec.Platform, _ PullPolicy) (*image.Image, error) {
	name, _, _ := strings.Cut(ref.Familiar(), ":")
	c, ok := b[name]
	if !ok {
		return nil, image.ErrNotFound
	}
	return &image.Image{Config: c}, nil
}

// config makes an image config for linux/amd64.
func config(edit func(*image.Config)) image.Config {
	var c image.Config
	c.OS, c.Architecture = "linux", "amd64"
	c.RootFS.DiffIDs = []digest.Digest{digest.FromString("layer")}
	c.Config.Env = []string{"PATH=/bin"}
	if edit != nil {
		edit(&c)
	}
	return c
}

var lintBases = baseConfigs{
	"alpine":  config(nil),
	"shelled": config(func(c *image.Config) { c.Config.Shell = []string{"bash", "-c"} }),
	"foreign": config(func(c *image.Config) { c.Architecture = "arm64" }),
	"empty":   config(func(c *image.Config) { c.Architecture, c.RootFS.DiffIDs = "arm64", nil }),
	"trigger": config(func(c *image.Config) { c.Config.OnBuild = []string{"CMD x", "ARG GIVEN"} }),
	"versed":  config(func(c *image.Config) { c.Config.Env = append(c.Config.Env, "NODE_VERSION=1") }),
}

// lintCase is a Dockerfile and what BuildKit says of it: "line rule: words".
type lintCase struct {
	name, text string
	edit       func(*CheckRequest)
	want       []string
	err        string
}

func (tt lintCase) check(t *testing.T) {
	t.Helper()
	df, err := parser.Parse("Dockerfile", []byte(tt.text))
	if err != nil {
		t.Fatal(err)
	}
	req := CheckRequest{Dockerfile: df, Plan: amd64(), Bases: lintBases}
	if tt.edit != nil {
		tt.edit(&req)
	}
	found, err := Check(t.Context(), req)
	var got []string
	for _, w := range found {
		if parser.RuleNamed(w.Rule).Name == "" {
			t.Errorf("%s is not in the table of rules", w.Rule)
		}
		got = append(got, fmt.Sprintf("%d %s: %s", w.Range.Start, w.Rule, w.Msg))
	}
	if diff := cmp.Diff(tt.want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	switch {
	case tt.err == "" && err != nil:
		t.Error(err)
	case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
		t.Errorf("got error %v, want %q", err, tt.err)
	}
}

func arguments(pairs ...string) func(*CheckRequest) {
	return func(req *CheckRequest) {
		req.Plan.Args = map[string]string{}
		for _, p := range pairs {
			name, value, _ := strings.Cut(p, "=")
			req.Plan.Args[name] = value
		}
	}
}

func ignoring(t *testing.T, text string) func(*CheckRequest) {
	return func(req *CheckRequest) {
		var err error
		if req.Ignore, err = parser.ParseIgnore(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLintFrom(t *testing.T) {
	for _, tt := range []lintCase{
		{name: "a declared argument", text: "ARG base=scratch\nFROM $base\nCOPY Dockerfile .\n"},
		{name: "a platform argument that is declared", text: "ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM scratch\n"},
		{name: "a platform argument that is not", text: "FROM --platform=$BUILDPLATFORM scratch\n"},
		{name: "declared and empty", text: "ARG DEBUG\nFROM scratch${DEBUG}\n"},
		{name: "declared, with a default in the word", text: "ARG DEBUG\nFROM scra${DEBUG:-tch}\n"},
		{name: "set and empty", text: "ARG DEBUG=\"\"\nFROM scratch${DEBUG-@bogus}\n"},
		{
			name: "a misspelt platform argument", text: "FROM --platform=$BULIDPLATFORM scratch\n",
			want: []string{"1 UndefinedArgInFrom: FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)"},
			err:  "Dockerfile:1: empty platform value from expression $BULIDPLATFORM (did you mean BUILDPLATFORM?)",
		},
		{
			name: "a misspelt argument in a platform", text: "ARG MY_OS=linux\nARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} alpine:3\n",
			want: []string{"3 UndefinedArgInFrom: FROM argument 'MYARCH' is not declared (did you mean MY_ARCH?)"},
			err:  `Dockerfile:3: --platform=linux/${MYARCH}: platform "linux/" names no known architecture (did you mean MY_ARCH?)`,
		},
		{
			name: "nothing near", text: "ARG tag=latest\nFROM shelled:1${tag}${version} AS b\n",
			want: []string{"2 UndefinedArgInFrom: FROM argument 'version' is not declared"},
		},
		{
			name: "the first wrong line ends the look at the others", text: "FROM $b\nFROM scratch$a\n",
			want: []string{
				"1 InvalidDefaultArgInFrom: Default value for ARG $b results in empty or invalid base image name",
				"1 UndefinedArgInFrom: FROM argument 'b' is not declared",
			},
			err: "should not be blank",
		},
		{
			name: "RedundantTargetPlatform", text: "FROM --platform=$TARGETPLATFORM scratch\nFROM --platform=${TARGETPLATFORM} scratch\n",
			want: []string{
				"1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
				"2 RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
			},
		},
		{name: "skipped above the line", text: "# check=skip=RedundantTargetPlatform\nFROM --platform=$TARGETPLATFORM scratch\n"},
		{
			name: "skipped above one line of two", text: "FROM scratch\n# check=skip=RedundantTargetPlatform\nFROM --platform=$TARGETPLATFORM scratch\nFROM --platform=$TARGETPLATFORM scratch\n",
			want: []string{"4 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"},
		},
		{
			name: "FromPlatformFlagConstDisallowed", text: "FROM --platform=linux/amd64 scratch\n",
			want: []string{`1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64"`},
		},
		{name: "a stage that is called after its platform", text: "FROM --platform=linux/amd64 scratch AS my_amd64_stage\nFROM --platform=linux/amd64 scratch AS linux\nFROM --platform=linux/x86_64 scratch AS amd64\n"},
		{
			name: "a tag that must be given", text: "ARG VERSION\nFROM shelled:$VERSION\n", edit: arguments("VERSION=1"),
			want: []string{"2 InvalidDefaultArgInFrom: Default value for ARG shelled:$VERSION results in empty or invalid base image name"},
		},
		{
			name: "an image that must be given", text: "ARG IMAGE\nFROM $IMAGE\n", edit: arguments("IMAGE=shelled:1"),
			want: []string{"2 InvalidDefaultArgInFrom: Default value for ARG $IMAGE results in empty or invalid base image name"},
		},
		{
			name: "a suffix whose default is wrong", text: "ARG SFX=\"led:\"\nFROM shel${SFX}\n", edit: arguments("SFX=led:1"),
			want: []string{"2 InvalidDefaultArgInFrom: Default value for ARG shel${SFX} results in empty or invalid base image name"},
		},
		{name: "a default that is right", text: "ARG VERSION=\"1\"\nFROM shelled:${VERSION}\n", edit: arguments("VERSION=2")},
		{name: "a suffix that may be empty", text: "ARG V=\"\"\nFROM shelled:stable${V}\n", edit: arguments("V=-musl")},
		{name: "a suffix without a default", text: "ARG V\nFROM shelled:stable${V}\n", edit: arguments("V=-musl")},
		{
			name: "a base for another platform", text: "FROM foreign:1\nENV foo=bar\nCOPY --from=foreign:2 /a /b\n",
			want: []string{
				`1 InvalidBaseImagePlatform: Base image foreign:1 was pulled with platform "linux/arm64", expected "linux/amd64" for current build`,
				`3 InvalidBaseImagePlatform: Base image foreign:2 was pulled with platform "linux/arm64", expected "linux/amd64" for current build`,
			},
		},
		{name: "a base without files has no platform", text: "FROM empty:1\n"},
		{name: "a base for the platform that the line asks for", text: "ARG P=linux/arm64\nFROM --platform=$P foreign:1\n"},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintVariables(t *testing.T) {
	for _, tt := range []lintCase{
		{name: "an argument without a value", text: "FROM scratch\nARG foo\nCOPY Dockerfile${foo} .\n"},
		{name: "an argument of the stage below", text: "FROM alpine:3 AS base\nARG foo=Dockerfile\nFROM base\nCOPY $foo .\n"},
		{name: "a shell's own", text: "FROM alpine:3\nRUN echo $foo\nCMD [\"$foo\"]\n"},
		{
			name: "before its ARG", text: "FROM alpine:3\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n",
			want: []string{"2 UndefinedVar: Usage of undefined variable '$foo'"},
		},
		{
			name: "a near name", text: "FROM alpine:3\nARG DIR_BINARIES=binaries/\nARG DIR_ASSETS=assets/\nARG DIR_CONFIG=config/\nCOPY a$DIR_ASSET .\n",
			want: []string{"5 UndefinedVar: Usage of undefined variable '$DIR_ASSET' (did you mean $DIR_ASSETS?)"},
		},
		{
			name: "PATH", text: "FROM alpine:3\nENV PATH=$PAHT:/tmp/bin\n",
			want: []string{"2 UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)"},
		},
		{
			name: "PATH of scratch", text: "FROM scratch\nENV PATH=$PAHT:/tmp/bin\n",
			want: []string{"2 UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)"},
		},
		{name: "a variable of the base", text: "FROM versed:3\nARG V=$NODE_VERSION\n"},
		{name: "a base of which nothing is known", text: "FROM elsewhere:1\nARG V=$NODE_VERSION\nCOPY x$y z\nFROM elsewhere:2 AS b\nFROM b\nCOPY x$y z\n"},
		{
			name: "every place that has variables", text: "FROM alpine:3\nENV a$b=$c\nLABEL $d=$e\nCOPY --chown=$f --chmod=7$g h$i j$k\nADD <<E l$m\n$n '$o'\nE\n" +
				"WORKDIR /$p\nUSER $q\nVOLUME /$r\nARG s=$t\nRUN --mount=type=cache,target=/c$u true\n",
			want: []string{
				"2 UndefinedVar: Usage of undefined variable '$b'",
				"2 UndefinedVar: Usage of undefined variable '$c'",
				"3 UndefinedVar: Usage of undefined variable '$d' (did you mean $a?)",
				"3 UndefinedVar: Usage of undefined variable '$e' (did you mean $a?)",
				"4 UndefinedVar: Usage of undefined variable '$f' (did you mean $a?)",
				"4 UndefinedVar: Usage of undefined variable '$g' (did you mean $a?)",
				"4 UndefinedVar: Usage of undefined variable '$i' (did you mean $a?)",
				"4 UndefinedVar: Usage of undefined variable '$k' (did you mean $a?)",
				"5 UndefinedVar: Usage of undefined variable '$m' (did you mean $a?)",
				"5 UndefinedVar: Usage of undefined variable '$n' (did you mean $a?)",
				"5 UndefinedVar: Usage of undefined variable '$o' (did you mean $a?)",
				"8 UndefinedVar: Usage of undefined variable '$p' (did you mean $a?)",
				"9 UndefinedVar: Usage of undefined variable '$q' (did you mean $a?)",
				"10 UndefinedVar: Usage of undefined variable '$r' (did you mean $a?)",
				"11 UndefinedVar: Usage of undefined variable '$t' (did you mean $a?)",
				"12 UndefinedVar: Usage of undefined variable '$u' (did you mean $a?)",
			},
		},
		{name: "places that have none", text: "FROM alpine:3\nEXPOSE 80$x\nCOPY --exclude=$x a b\nHEALTHCHECK CMD $x\nONBUILD COPY $x y\n"},
		{
			name: "a modifier", text: "FROM alpine:3\nLABEL a=${foo:-b}\n",
			want: []string{"2 UndefinedVar: Usage of undefined variable '$foo'"},
		},
		{
			name: "twice in a word, and in two words", text: "FROM alpine:3\nCOPY $foo/a/$foo b$foo c/\n",
			want: []string{
				"2 UndefinedVar: Usage of undefined variable '$foo'",
				"2 UndefinedVar: Usage of undefined variable '$foo'",
			},
		},
		{
			name: "a default that is not used", text: "FROM alpine:3\nARG v=$foo\n", edit: arguments("v=1"),
		},
		{
			name: "arguments of one line see each other", text: "FROM alpine:3\nARG v=1 w=$v x=$y y=1\n",
			want: []string{"2 UndefinedVar: Usage of undefined variable '$y' (did you mean $v?)"},
		},
		{name: "skipped", text: "FROM alpine:3\n# check=skip=UndefinedVar\nLABEL a=$b\n"},
		{
			name: "all stages when there is no target", text: "FROM scratch AS first\nCOPY a$foo .\nFROM scratch AS second\nCOPY a$bar .\n",
			want: []string{"2 UndefinedVar: Usage of undefined variable '$foo'", "4 UndefinedVar: Usage of undefined variable '$bar'"},
		},
		{
			name: "those that the target needs", text: "FROM scratch AS first\nCOPY a$foo .\nFROM scratch AS second\nCOPY a$bar .\n",
			edit: func(req *CheckRequest) { req.Plan.Target = "second" },
			want: []string{"4 UndefinedVar: Usage of undefined variable '$bar'"},
		},
		{
			name: "stages in the order of the file", text: "FROM scratch AS first\nCOPY a$foo .\nFROM scratch AS second\nCOPY a$bar .\nCOPY --from=first a b\nLABEL a=$baz\n",
			edit: func(req *CheckRequest) { req.Plan.Target = "second" },
			want: []string{
				"2 UndefinedVar: Usage of undefined variable '$foo'",
				"4 UndefinedVar: Usage of undefined variable '$bar'",
				"6 UndefinedVar: Usage of undefined variable '$baz'",
			},
		},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintInstructions(t *testing.T) {
	const jsonCmd = "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"
	legacy := "FROM scratch AS a\nFROM a AS b\nENV k v\nLABEL k v\nFROM a AS c\n"
	for _, tt := range []lintCase{
		{name: "JSONArgsRecommended", text: "FROM scratch\nCMD mycommand\n", want: []string{"2 " + jsonCmd}},
		{
			name: "JSONArgsRecommended for ENTRYPOINT", text: "FROM scratch\nEntrypoint mycommand\n",
			want: []string{
				"2 ConsistentInstructionCasing: Command 'Entrypoint' should match the case of the command majority (uppercase)",
				"2 JSONArgsRecommended: JSON arguments recommended for Entrypoint to prevent unintended behavior related to OS signals",
			},
		},
		{name: "after SHELL", text: "FROM scratch\nSHELL [\"/x\"]\nCMD c\nENTRYPOINT e\n"},
		{name: "after SHELL below", text: "FROM scratch AS base\nSHELL [\"/x\"]\nFROM base\nCMD c\n"},
		{name: "after SHELL of the base", text: "FROM shelled:1\nCMD c\n"},
		{name: "a base that may have one", text: "FROM elsewhere:1\nCMD c\n", want: []string{"2 " + jsonCmd}},
		{name: "skipped", text: "FROM scratch\n# check=skip=JSONArgsRecommended\nCMD c\n# check=skip=JSONArgsRecommended\nENTRYPOINT c\n"},
		{
			name: "a trigger of the base", text: "FROM trigger:1\nCMD [\"a\"]\n",
			want: []string{
				"1 " + jsonCmd,
				"1 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
			},
		},
		{name: "a trigger in a stage that the target does not need", text: "FROM scratch AS a\nONBUILD ENV TOKEN x\nFROM a\nFROM scratch\n"},
		{
			name: "a trigger of a stage", text: "FROM scratch AS a\nONBUILD ENV TOKEN x\nFROM a\n",
			want: []string{
				`3 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format`,
				`3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "TOKEN")`,
			},
		},
		{
			name: "WorkdirRelativePath", text: "FROM scratch\nWORKDIR app/\nWORKDIR more\n",
			want: []string{`2 WorkdirRelativePath: Relative workdir "app/" can have unexpected results if the base image changes`},
		},
		{name: "a WORKDIR below", text: "FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR subdir/\n"},
		{name: "a WORKDIR that is expanded", text: "FROM scratch\nARG d=/app\nWORKDIR \"$d\"\n"},
		{name: "a WORKDIR that is skipped", text: "FROM scratch\n# check=skip=WorkdirRelativePath\nWORKDIR app/\n"},
		{
			name: "MultipleInstructionsDisallowed",
			text: "FROM scratch\nENTRYPOINT [\"/a\"]\nCMD [\"/a\"]\nHEALTHCHECK CMD [\"/a\"]\nCOPY <<E /a\nE\nENTRYPOINT [\"/b\"]\nCMD [\"/b\"]\nHEALTHCHECK NONE\n",
			want: []string{
				"2 MultipleInstructionsDisallowed: Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used",
				"3 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
				"4 MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
			},
		},
		{name: "in a stage each", text: "FROM scratch AS a\nENTRYPOINT [\"/a\"]\nCMD [\"/a\"]\nHEALTHCHECK CMD [\"/a\"]\nFROM a AS b\nENTRYPOINT [\"/b\"]\nCMD [\"/b\"]\nHEALTHCHECK CMD [\"/b\"]\n"},
		{name: "skipped above the later one", text: "FROM scratch\nCMD [\"a\"]\n# check=skip=MultipleInstructionsDisallowed\nCMD [\"b\"]\n"},
		{
			name: "not skipped above the earlier one", text: "FROM scratch\n# check=skip=MultipleInstructionsDisallowed\nCMD [\"a\"]\nCMD [\"b\"]\n",
			want: []string{"3 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used"},
		},
		{
			name: "LegacyKeyValueFormat", text: legacy,
			want: []string{
				`3 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format`,
				`4 LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format`,
			},
		},
		{name: "in a stage that the target does not need", text: legacy, edit: func(req *CheckRequest) { req.Plan.Target = "c" }},
		{name: "the new form", text: "FROM scratch\nENV k=v\nLABEL k=v\n"},
		{
			name: "SecretsUsedInArgOrEnv",
			text: "# check=skip=InvalidDefinitionDescription\n\nARG TOKEN\nFROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo\nENV password=bar secret=baz\n" +
				"ARG super_duper_secret_token=foo auth=bar\nENV apikey=bar sunflower=foo\nENV git_key=\nENV PUBLIC_KEY=\nARG public_token\n" +
				"ARG SECRET_PASSPHRASE_FILE\nENV password_file=bar secret_File=baz\nARG AUTH_MODULE_VERSION monkey\n" +
				"# check=skip=SecretsUsedInArgOrEnv // allowed here\nENV password=bar\n# check=skip=all\nARG password\n",
			want: []string{
				`5 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "SECRET_PASSPHRASE")`,
				`6 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "SUPER_Secret")`,
				`7 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "password")`,
				`7 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "secret")`,
				`8 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "super_duper_secret_token")`,
				`8 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "auth")`,
				`9 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "apikey")`,
				`10 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "git_key")`,
			},
		},
		{
			name: "a secret whose name is expanded", text: "FROM scratch\nARG n=TOKEN\nENV $n=x\n",
			want: []string{`3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "TOKEN")`},
		},
		{
			name: "ExposeProtoCasing", text: "FROM scratch\nEXPOSE 80/TcP 8080/TCP 8080/udp\n",
			want: []string{
				"2 ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
				"2 ExposeProtoCasing: Defined protocol '8080/TCP' in EXPOSE instruction should be lowercase",
			},
		},
		{
			name: "ExposeInvalidFormat", text: "FROM scratch\nARG p=1:2\nEXPOSE 127.0.0.1:80:80 [::1]:8080:8080 5000:5000 8000 $p :9\n",
			want: []string{
				"3 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1:2'",
				"3 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
				"3 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '5000:5000'",
				"3 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '[::1]:8080:8080'",
			},
		},
		{
			name: "ports before the one that is wrong", text: "FROM scratch\nEXPOSE 1/TCP 2:x 3/TCP\n",
			want: []string{
				"2 ExposeProtoCasing: Defined protocol '1/TCP' in EXPOSE instruction should be lowercase",
				"2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '2:x'",
			},
			err: `invalid port "2:x"`,
		},
		{
			name: "the order of finding", text: "FROM --platform=linux/amd64 alpine:3 as b\nMAINTAINER me\nEnv A_TOKEN $x\nENV B=1\n",
			want: []string{
				"1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
				"2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
				"3 ConsistentInstructionCasing: Command 'Env' should match the case of the command majority (uppercase)",
				`1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64"`,
				"3 UndefinedVar: Usage of undefined variable '$x'",
				`3 LegacyKeyValueFormat: "Env key=value" should be used instead of legacy "Env key value" format`,
				`3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "A_TOKEN")`,
			},
		},
		{name: "an error of an instruction", text: "FROM scratch\nENV k v\nSTOPSIGNAL SIGNO\nLABEL k v\n", want: []string{
			`2 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format`,
		}, err: "Dockerfile:3: STOPSIGNAL SIGNO: invalid signal"},
		{name: "a privilege", text: "FROM scratch\nRUN --network=host true\n"},
		{name: "an error of a mount", text: "FROM scratch\nRUN --mount=type=cache true\n", err: `--mount=type=cache: invalid mount target "/"`},
		{name: "a command of nothing", text: "FROM scratch\nRUN []\n", err: "RUN has no command"},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintIgnored(t *testing.T) {
	const copies = "FROM scratch\nCOPY ./Dockerfile .\nADD Dockerfile /windy\n"
	for _, tt := range []lintCase{
		{
			name: "a file", text: copies, edit: ignoring(t, "\nDockerfile\n"),
			want: []string{
				`2 CopyIgnoredFile: Attempting to Copy file "Dockerfile" that is excluded by .dockerignore`,
				`3 CopyIgnoredFile: Attempting to Add file "Dockerfile" that is excluded by .dockerignore`,
			},
		},
		{name: "skipped", text: "# check=skip=CopyIgnoredFile\n" + copies, edit: ignoring(t, "Dockerfile\n")},
		{name: "from a stage", text: "FROM scratch AS base\nCOPY Dockerfile /foobar\nFROM base\nCOPY --from=base /foobar /d\n", edit: ignoring(t, "foobar\n")},
		{name: "with exceptions", text: copies + "COPY . .\n", edit: ignoring(t, "**\n!Dockerfile\n")},
		{name: "the whole context", text: "FROM scratch\nCOPY . .\n", edit: ignoring(t, ".*\n")},
		{
			name: "the whole context, and all of it ignored", text: "FROM scratch\nCOPY . .\n", edit: ignoring(t, "*\n"),
			want: []string{`2 CopyIgnoredFile: Attempting to Copy file "." that is excluded by .dockerignore`},
		},
		{
			name: "below an ignored directory", text: "FROM scratch\nARG d=dir\nCOPY $d/sub/file /\n", edit: ignoring(t, "dir\n"),
			want: []string{`3 CopyIgnoredFile: Attempting to Copy file "dir/sub/file" that is excluded by .dockerignore`},
		},
		{name: "an absolute source", text: "FROM scratch\nCOPY /dir /\n", edit: ignoring(t, "dir\n")},
		{name: "no patterns", text: copies, edit: ignoring(t, "# nothing\n")},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintErrors(t *testing.T) {
	for _, tt := range []lintCase{
		{
			name: "error=true", text: "#check=skip=ConsistentInstructionCasing;error=true\nFROM scratch as base\ncopy Dockerfile .\nMAINTAINER me\nMAINTAINER you\n",
			want: []string{
				"2 FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
				"4 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
				"5 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
			},
			err: "Dockerfile: lint violation found for rules: FromAsCasing, MaintainerDeprecated (",
		},
		{name: "nothing found", text: "#check=skip=all;error=true\nFROM scratch as base\ncopy Dockerfile .\n"},
		{
			name: "rules of our own are no errors", text: "#check=error=true\nFROM scratch\nARG NAME\n", edit: arguments("NANE=1"),
			want: []string{"0 UnusedBuildArg: No ARG takes the build argument NANE (did you mean NAME?)"},
		},
		{
			name: "a plan that fails", text: "FROM scratch as base\nENV k v\nFROM scratch\nCOPY --from=7 x /\n",
			want: []string{"1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"},
			err:  "Dockerfile:4: invalid stage index 7",
		},
		{
			name: "unused arguments", text: "ARG A\nFROM trigger:1\nARG B\nONBUILD ARG C\n",
			edit: arguments("A=1", "B=1", "GIVEN=1", "http_proxy=x", "TARGETARCH=arm64", "BUILDKIT_SYNTAX=docker/dockerfile:1", "BUILDKIT_SANDBOX_HOSTNAME=h",
				"BUILDKIT_SYNTX=x", "BUILDKIT_INLINE_CACHE=1", "ZZZZZ=1", "C=1"),
			want: []string{
				"2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
				"0 UnusedBuildArg: No ARG takes the build argument BUILDKIT_INLINE_CACHE (ocibuild has nothing in the place of what BuildKit does with it)",
				"0 UnusedBuildArg: No ARG takes the build argument BUILDKIT_SYNTX (did you mean BUILDKIT_SYNTAX?)",
				"0 UnusedBuildArg: No ARG takes the build argument C (declare it with ARG C where it is used, or leave it out)",
				"0 UnusedBuildArg: No ARG takes the build argument ZZZZZ (declare it with ARG ZZZZZ where it is used, or leave it out)",
			},
		},
	} {
		t.Run(tt.name, tt.check)
	}
}
