package main

import (
	"context"

	"github.com/ocibuild/ocibuild/build"
	"github.com/spf13/pflag"
)

// lintCommand is `ocibuild lint`: `ocibuild build --check` by a name of its own.
type lintCommand struct{ buildCommand }

func lintDescription() *command {
	return &command{
		name: "lint", args: "[CONTEXT]", short: "check a Dockerfile and build nothing",
		long: "Says what is doubtful in the Dockerfile of a directory (default: this one), as `docker build --check` does: BuildKit's " +
			"22 rules and some of ocibuild's own, which `ocibuild help checks` lists. All stages are looked at, or with --target those " +
			"that the target needs. No network is used: rules that depend on a base image find nothing when the image is not in the " +
			"store, unless --pull fetches it.\n" +
			"\n" +
			"The exit code is 0 if nothing was found, 1 for warnings, and 3 for what would stop a build, to which " +
			"`# check=error=true` in the Dockerfile adds BuildKit's rules. The same is done by `ocibuild build --check`.",
		examples: []example{
			{"ocibuild lint", "check the Dockerfile here"},
			{"ocibuild lint -f docker/prod.Dockerfile --target test src", "another one, up to the stage test"},
			{"ocibuild lint --json | jq -r '.warnings[].ruleName'", "the names of the rules that found something"},
		},
		make: func() verb { return &lintCommand{} },
	}
}

func (c *lintCommand) flags(fs *pflag.FlagSet) {
	c.buildCommand.flags(pflag.NewFlagSet("", pflag.ContinueOnError)) // what lint has no flag for is as build has it without one
	fs.StringVarP(&c.file, "file", "f", "", "read this `DOCKERFILE`; - is standard input")
	fs.StringArrayVar(&c.argTexts, "build-arg", nil, "set a build argument, `NAME=VALUE`, or NAME to take it from the environment (may be repeated)")
	fs.StringArrayVar(&c.secretTexts, "secret", nil, "a secret that opens a private context, as for build: `id=ID[,src=FILE|,env=NAME]` (may be repeated)")
	fs.StringArrayVar(&c.contextTexts, "build-context", nil, "what FROM and --from find under a name, as for build: `NAME=SOURCE` (may be repeated)")
	fs.StringArrayVar(&c.targetTexts, "target", nil, "look at the stages that this `STAGE` needs (default: at all)")
	fs.StringSliceVar(&c.platformTexts, "platform", nil, "check a build for this `OS/ARCH[/VARIANT]` (default: this machine's)")
	fs.StringVar(&c.pullText, "pull", string(build.PullMissing), "ask registries for base images: `always`, missing, newer or never; --pull alone is always (default: never)")
	fs.Lookup("pull").NoOptDefVal = string(build.PullAlways)
	c.pullFlag = fs.Lookup("pull")
	fs.BoolVar(&c.json, "json", false, "print the findings as JSON, in the form of BuildKit's lint request")
	insecureFlag(fs, &c.insecure)
}

func (c *lintCommand) accept(s *stdio, args []string) error {
	if len(args) == 0 {
		args = []string{"."}
	}
	c.progress, c.checkOnly = "plain", true
	return c.buildCommand.accept(s, args)
}

func (c *lintCommand) run(ctx context.Context, s *session) error { return c.buildCommand.run(ctx, s) }
