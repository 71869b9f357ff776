package parser

import "slices"

// Rule is one check of Dockerfiles; a Warning names the one it comes from.
type Rule struct {
	Name        string
	Description string
	URL         string // where more is written, or empty
	// Experimental says that the rule is off unless a check directive asks for it.
	Experimental bool
	// Own says that BuildKit does not have the rule. What it finds is never an
	// error, so that a Dockerfile builds here if it builds there.
	Own bool
}

// Rules lists all rules: BuildKit's in its own order, then ours.
func Rules() []Rule { return slices.Clone(rules) }

// RuleNamed gives the rule of a name. The zero Rule is that of an unknown name.
func RuleNamed(name string) Rule {
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.Name == name })
	if i < 0 {
		return Rule{}
	}
	return rules[i]
}

const ruleURL = "https://docs.docker.com/go/dockerfile/rule/"

// rules is the table. Names, descriptions and links of the first part are
// BuildKit's: scripts look for them.
var rules = []Rule{
	{
		Name: "StageNameCasing", URL: ruleURL + "stage-name-casing/",
		Description: "Stage names should be lowercase",
	},
	{
		Name: "FromAsCasing", URL: ruleURL + "from-as-casing/",
		Description: "The 'as' keyword should match the case of the 'from' keyword",
	},
	{
		Name: "NoEmptyContinuation", URL: ruleURL + "no-empty-continuation/",
		Description: "Empty continuation lines will become errors in a future release",
	},
	{
		Name: "ConsistentInstructionCasing", URL: ruleURL + "consistent-instruction-casing/",
		Description: "All commands within the Dockerfile should use the same casing (either upper or lower)",
	},
	{
		Name: "DuplicateStageName", URL: ruleURL + "duplicate-stage-name/",
		Description: "Stage names should be unique",
	},
	{
		Name: "ReservedStageName", URL: ruleURL + "reserved-stage-name/",
		Description: "Reserved words should not be used as stage names",
	},
	{
		Name: "JSONArgsRecommended", URL: ruleURL + "json-args-recommended/",
		Description: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
	},
	{
		Name: "MaintainerDeprecated", URL: ruleURL + "maintainer-deprecated/",
		Description: "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
	},
	{
		Name: "UndefinedArgInFrom", URL: ruleURL + "undefined-arg-in-from/",
		Description: "FROM command must use declared ARGs",
	},
	{
		Name: "WorkdirRelativePath", URL: ruleURL + "workdir-relative-path/",
		Description: "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
	},
	{
		Name: "UndefinedVar", URL: ruleURL + "undefined-var/",
		Description: "Variables should be defined before their use",
	},
	{
		Name: "MultipleInstructionsDisallowed", URL: ruleURL + "multiple-instructions-disallowed/",
		Description: "Multiple instructions of the same type should not be used in the same stage",
	},
	{
		Name: "LegacyKeyValueFormat", URL: ruleURL + "legacy-key-value-format/",
		Description: "Legacy key/value format with whitespace separator should not be used",
	},
	{
		Name:        "InvalidBaseImagePlatform",
		Description: "Base image platform does not match expected target platform",
	},
	{
		Name: "RedundantTargetPlatform", URL: ruleURL + "redundant-target-platform/",
		Description: "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
	},
	{
		Name: "SecretsUsedInArgOrEnv", URL: ruleURL + "secrets-used-in-arg-or-env/",
		Description: "Sensitive data should not be used in the ARG or ENV commands",
	},
	{
		Name: "InvalidDefaultArgInFrom", URL: ruleURL + "invalid-default-arg-in-from/",
		Description: "Default value for global ARG results in an empty or invalid base image name",
	},
	{
		Name: "FromPlatformFlagConstDisallowed", URL: ruleURL + "from-platform-flag-const-disallowed/",
		Description: "FROM --platform flag should not use a constant value",
	},
	{
		Name: "CopyIgnoredFile", URL: ruleURL + "copy-ignored-file/",
		Description: "Attempting to Copy file that is excluded by .dockerignore",
	},
	{
		Name: "InvalidDefinitionDescription", URL: ruleURL + "invalid-definition-description/",
		Description: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. " +
			"If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
		Experimental: true,
	},
	{
		Name: "ExposeProtoCasing", URL: ruleURL + "expose-proto-casing/",
		Description: "Protocol in EXPOSE instruction should be lowercase",
	},
	{
		Name: "ExposeInvalidFormat", URL: ruleURL + "expose-invalid-format/",
		Description: "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
	},
	{
		Name: "CopyBeforeInstall", Own: true,
		Description: "Dependencies should be installed before the whole context is copied, so that a change of one file does not install them again",
	},
	{
		Name: "PackageCacheInLayer", Own: true,
		Description: "What package managers download for themselves should not be left in the image",
	},
	{
		Name: "StalePackageLists", Own: true,
		Description: "Package lists should be fetched in the step that installs from them, for the cache keeps them however old they are",
	},
	{
		Name: "ChownAfterCopy", Own: true,
		Description: "Files should get their owner when they are copied: a later chown stores all of them once more",
	},
	{
		Name: "GitDirInImage", Own: true,
		Description: "The directory .git should not be copied into the image",
	},
	{
		Name: "UnpinnedBase", Own: true,
		Description: "Base images should be named with a version",
	},
	{
		Name: "EmulatedRun", Own: true,
		Description: "Steps should not need an emulator where a compiler can produce for the other platform",
	},
	{
		Name: "ForeignSyntax", Own: true,
		Description: "The syntax directive should name docker/dockerfile, the frontend whose language is read here",
	},
	{
		Name: "MalformedExecForm", Own: true,
		Description: "What begins like a JSON array should be one, or else the shell gets it with its brackets",
	},
	{
		Name: "MisspeltRule", Own: true,
		Description: "A check directive should name rules that there are",
	},
	{
		Name: "UnusedBuildArg", Own: true,
		Description: "Build arguments should be declared by an ARG",
	},
}
