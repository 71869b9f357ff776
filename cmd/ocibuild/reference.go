package main

// instruction is what the help says of one Dockerfile instruction. The tests
// hold the table to the parser, flag by flag, and to what the builder refuses.
type instruction struct {
	keyword, short string
	forms          []string
	flags          []instructionFlag
	mounts         []mountHelp
	about          string
	examples       []string
}

// instructionFlag is one flag. use is an instruction that has it.
type instructionFlag struct{ name, value, does, use string }

// mountHelp is one type of RUN --mount. use is a value of the flag that has it.
type mountHelp struct {
	name, does string
	options    []string // by their first names
	use        string
}

// mountOption is one option of RUN --mount with its other names, or a pair.
type mountOption struct{ names, does string }

// mountOptions are the options that some type has.
var mountOptions = []mountOption{
	{"type", "bind if it is left out"},
	{"target, dst, destination", "where the step finds it (secret: /run/secrets/ID)"},
	{"source, src", "the part of from that is shown (default: all)"},
	{"from", "a stage or an image (default: the context)"},
	{"readonly, ro", "the step cannot write (default for bind)"},
	{"readwrite, rw", "the step can write; of a bind nothing is kept"},
	{"id", "the name of the cache, secret or agent"},
	{"sharing", "shared (default), private or locked, at the same time"},
	{"required", "fail if the secret or agent is not given"},
	{"env", "put the secret into this variable"},
	{"size", "at most that much, as in 64m"},
	{"mode", "the permissions in octal"},
	{"uid, gid", "the owner's and the group's numbers"},
}

// dockerfileReference is the table, in the order of the alphabet.
var dockerfileReference = []instruction{
	{
		keyword: "ADD", short: "copy files, unpack archives, fetch URLs and git repositories",
		forms: []string{"ADD [FLAGS] SOURCE... DEST", `ADD [FLAGS] ["SOURCE", ..., "DEST"]`, "ADD [FLAGS] <<NAME DEST"},
		flags: append([]instructionFlag{
			{name: "unpack", value: "[=false]", does: "whether archives are unpacked (default: local ones are)", use: "ADD --unpack=false a.tar /"},
			{
				name: "checksum", value: "DIGEST", does: "sha256:, sha384: or sha512: and what a URL must hold; of a repository the commit",
				use: "ADD --checksum=sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad https://example.org/a /a",
			},
			{name: "keep-git-dir", does: "keep .git of a repository", use: "ADD --keep-git-dir https://example.org/a.git /a"},
		}, copyFlags("ADD")...),
		about: "Like COPY, and a local tar, plain or compressed with gzip, bzip2, xz or zstd, is unpacked into the destination, a directory. Its " +
			"content tells whether a file is one, not its name.\n" +
			"The file of a URL has mode 600 and its server's time. A repository is a URL that ends in .git, one of ssh or git, or " +
			"USER@HOST:PATH, with #REF:DIR behind it, or a query (ref, tag, branch, commit, subdir, keep-git-dir, submodules, mtime). " +
			"It needs git. Secrets for private ones: HTTP_AUTH_TOKEN_HOST, HTTP_AUTH_HEADER_HOST, GIT_AUTH_TOKEN, GIT_AUTH_HEADER.",
		examples: []string{"ADD rootfs.tar.xz /", "ADD --checksum=sha256:6b86... https://example.org/f /f", "ADD https://example.org/a.git#v1.2:src /src"},
	},
	{
		keyword: "ARG", short: "declare build arguments",
		forms: []string{"ARG NAME[=DEFAULT] ..."},
		about: "--build-arg NAME=VALUE wins over the default. An argument can be used from its line to the end of the stage and in stages " +
			"built FROM it; RUN sees it in its environment, the image does not keep it. ENV of the same name that follows wins.\n" +
			"Above the first FROM it is global: FROM lines can use it, and stages that declare it again without a default.\n" +
			"There without being declared, once a stage declares them: TARGETPLATFORM, TARGETOS, TARGETARCH, TARGETVARIANT, the same with BUILD " +
			"for the machine that builds, and TARGETSTAGE. HTTP_PROXY and its like reach every RUN.",
		examples: []string{"ARG VERSION=1.2", "ARG TARGETARCH"},
	},
	{
		keyword: "CMD", short: "what a container runs by default",
		forms:    []string{`CMD ["PROGRAM", "ARGUMENT", ...]`, "CMD COMMAND"},
		about:    "Arguments for the ENTRYPOINT if there is one. The second form goes through SHELL. The last CMD of a stage counts.",
		examples: []string{`CMD ["serve", "--port=80"]`},
	},
	{
		keyword: "COPY", short: "copy files from the context, a stage or an image",
		forms: []string{"COPY [FLAGS] SOURCE... DEST", `COPY [FLAGS] ["SOURCE", ..., "DEST"]`, "COPY [FLAGS] <<NAME DEST"},
		flags: append([]instructionFlag{
			{name: "from", value: "STAGE|IMAGE", does: "copy from there instead of from the context; no variables", use: "COPY --from=busybox:1 /bin/sh /bin/"},
			{name: "parents", does: "keep the sources' directories, from /./ on if a source has it", use: "COPY --parents src/./a/b /dst/"},
		}, copyFlags("COPY")...),
		about: "Of a directory the contents are copied. A source may have the wildcards *, ? and [a-z], of which none crosses a slash. " +
			"DEST is relative to WORKDIR; it is a directory if it ends in a slash, as it should for several sources. " +
			"Files that .dockerignore leaves out are not in the context. From the context files belong to root, from a stage they keep their owner.\n" +
			"A <<NAME makes a file of the lines that follow, up to one that is NAME; variables in them are expanded unless NAME is quoted.",
		examples: []string{"COPY package.json package-lock.json ./", "COPY --from=build --chown=app /out/ /srv/", "COPY --exclude=*.md docs /docs"},
	},
	{
		keyword: "ENTRYPOINT", short: "the program a container runs",
		forms:    []string{`ENTRYPOINT ["PROGRAM", "ARGUMENT", ...]`, "ENTRYPOINT COMMAND"},
		about:    "The arguments of `docker run`, else CMD, are added to the first form. A CMD of the base image is forgotten.",
		examples: []string{`ENTRYPOINT ["/app"]`},
	},
	{
		keyword: "ENV", short: "set environment variables",
		forms: []string{"ENV NAME=VALUE ...", "ENV NAME VALUE (old)"},
		about: "For the steps that follow, the stages built FROM this one, and the image. All words of a line see the variables from " +
			"before it. For secrets there is RUN --mount=type=secret: what ENV sets can be read from the image.",
		examples: []string{`ENV PATH=/opt/app/bin:$PATH LANG=C.UTF-8`},
	},
	{
		keyword: "EXPOSE", short: "name the ports a container listens at",
		forms:    []string{"EXPOSE PORT[-LAST][/tcp|/udp|/sctp] ..."},
		about:    "Tells who runs the image; nothing is opened by it.",
		examples: []string{"EXPOSE 80 53/udp"},
	},
	{
		keyword: "FROM", short: "begin a stage on an image or an earlier stage",
		forms: []string{"FROM [FLAGS] IMAGE|STAGE|scratch [AS NAME]"},
		flags: []instructionFlag{
			{name: "platform", value: "OS/ARCH", does: "the image's platform, mostly $BUILDPLATFORM (default: the target's)", use: "FROM --platform=$BUILDPLATFORM busybox:1"},
		},
		about: "The last stage is the result unless --target says otherwise; only stages that it needs are built. scratch is empty. " +
			"ONBUILD triggers of the base run right behind the line. Variables come from ARGs above the first FROM.",
		examples: []string{"FROM golang:1.26 AS build", "FROM --platform=$BUILDPLATFORM node:24 AS assets", "FROM scratch"},
	},
	{
		keyword: "HEALTHCHECK", short: "how to ask a container whether it is well",
		forms: []string{`HEALTHCHECK [FLAGS] CMD ["PROGRAM", ...]`, "HEALTHCHECK [FLAGS] CMD COMMAND", "HEALTHCHECK NONE"},
		flags: []instructionFlag{
			{name: "interval", value: "TIME", does: "between two questions (default: 30s)", use: "HEALTHCHECK --interval=1m CMD a"},
			{name: "timeout", value: "TIME", does: "how long an answer may take (default: 30s)", use: "HEALTHCHECK --timeout=3s CMD a"},
			{name: "start-period", value: "TIME", does: "in which failures do not count (default: 0s)", use: "HEALTHCHECK --start-period=1m CMD a"},
			{name: "start-interval", value: "TIME", does: "between two questions in that period (default: 5s)", use: "HEALTHCHECK --start-interval=1s CMD a"},
			{name: "retries", value: "NUMBER", does: "failures in a row that make it unwell (default: 3)", use: "HEALTHCHECK --retries=5 CMD a"},
		},
		about:    "Docker reads it; it is no part of the OCI specification. NONE takes away the base image's. The last one of a stage counts.",
		examples: []string{"HEALTHCHECK --interval=1m CMD wget -qO- http://localhost/ || exit 1"},
	},
	{
		keyword: "LABEL", short: "set labels",
		forms:    []string{"LABEL NAME=VALUE ...", "LABEL NAME VALUE (old)"},
		about:    "Labels of the base image are kept; --label on the command line wins.",
		examples: []string{`LABEL org.opencontainers.image.source=https://example.org/app`},
	},
	{
		keyword: "MAINTAINER", short: "set the author (old)",
		forms:    []string{"MAINTAINER NAME"},
		about:    "LABEL org.opencontainers.image.authors=NAME says the same.",
		examples: []string{"MAINTAINER me@example.org"},
	},
	{
		keyword: "ONBUILD", short: "keep an instruction for images built FROM this one",
		forms:    []string{"ONBUILD INSTRUCTION"},
		about:    "It runs right behind the FROM of such a build, once. Not for FROM, MAINTAINER and ONBUILD.",
		examples: []string{"ONBUILD COPY . /app"},
	},
	{
		keyword: "RUN", short: "run a command",
		forms: []string{"RUN [FLAGS] COMMAND", `RUN [FLAGS] ["PROGRAM", "ARGUMENT", ...]`, "RUN [FLAGS] <<NAME"},
		flags: []instructionFlag{
			{name: "mount", value: "type=TYPE,...", does: "files for the step alone; see below", use: "RUN --mount=target=/src true"},
			{name: "network", value: "default|none|host", does: "host needs --allow network.host", use: "RUN --network=none true"},
			{name: "security", value: "sandbox|insecure", does: "insecure needs --allow security.insecure", use: "RUN --security=sandbox true"},
			{name: "device", value: "NAME[,required]", does: "a CDI device, for --allow device", use: "RUN --device=vendor/class=name true"},
		},
		mounts: []mountHelp{
			{name: "bind", does: "files from elsewhere", options: []string{"target", "source", "from", "readonly", "readwrite"}, use: "type=bind,target=/a,source=b,from=busybox:1"},
			{name: "cache", does: "kept between builds", options: []string{"target", "id", "sharing", "from", "source", "mode", "uid", "gid", "readonly"}, use: "type=cache,target=/a,from=busybox:1"},
			{name: "tmpfs", does: "a directory in memory", options: []string{"target", "size"}, use: "type=tmpfs,target=/a"},
			{name: "secret", does: "a secret of --secret", options: []string{"id", "target", "env", "required", "mode", "uid", "gid"}, use: "type=secret,id=a"},
			{name: "ssh", does: "an agent of --ssh", options: []string{"id", "target", "required", "mode", "uid", "gid"}, use: "type=ssh"},
		},
		about: "The first form goes through SHELL, whose variables and quotes these are. Of a <<NAME alone the lines that follow are the " +
			"script, or, if they begin with #!, the program. What is left running is killed at the end.",
		examples: []string{"RUN --mount=type=cache,target=/root/.cache go build -o /out/ ./...", "RUN --mount=type=secret,id=token,env=TOKEN ./fetch"},
	},
	{
		keyword: "SHELL", short: "set the shell that commands go through",
		forms:    []string{`SHELL ["PROGRAM", "ARGUMENT", ...]`},
		about:    `For RUN, CMD, ENTRYPOINT and HEALTHCHECK in their form without brackets, from here on. The default is ["/bin/sh", "-c"].`,
		examples: []string{`SHELL ["/bin/bash", "-euo", "pipefail", "-c"]`},
	},
	{
		keyword: "STOPSIGNAL", short: "the signal that ends a container",
		forms:    []string{"STOPSIGNAL NAME|NUMBER"},
		about:    "The default is SIGTERM.",
		examples: []string{"STOPSIGNAL SIGINT"},
	},
	{
		keyword: "USER", short: "who runs the steps that follow and the container",
		forms:    []string{"USER USER[:GROUP]"},
		about:    "Names or numbers; names are looked up in the image's /etc/passwd and /etc/group.",
		examples: []string{"USER app", "USER 1000:1000"},
	},
	{
		keyword: "VOLUME", short: "name mount points",
		forms:    []string{"VOLUME PATH ...", `VOLUME ["PATH", ...]`},
		about:    "Tells who runs the image. Later steps may still change what is there.",
		examples: []string{"VOLUME /var/lib/app"},
	},
	{
		keyword: "WORKDIR", short: "set the working directory, and make it",
		forms:    []string{"WORKDIR PATH"},
		about:    "A relative path joins the one before. A directory that is missing is made, and belongs to USER.",
		examples: []string{"WORKDIR /src"},
	},
}

// copyFlags are the flags that COPY and ADD share.
func copyFlags(keyword string) []instructionFlag {
	return []instructionFlag{
		{name: "chown", value: "USER[:GROUP]", does: "who owns the files; names are looked up in the image", use: keyword + " --chown=1:2 a /"},
		{name: "chmod", value: "MODE", does: "their permissions, octal or like u+x,go=r", use: keyword + " --chmod=755 a /"},
		{name: "link", does: "a layer that depends on no other", use: keyword + " --link a /"},
		{name: "exclude", value: "PATTERN", does: "leave these out; may be repeated", use: keyword + " --exclude=*.md a /"},
	}
}
