package build

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLintCopyBeforeInstall(t *testing.T) {
	told := func(line, text string) []string {
		return []string{line + " CopyBeforeInstall: Every change in the context repeats " + text}
	}
	npm := `"npm ci" (line 4), since COPY . . comes before it: put COPY package.json package-lock.json ./ and that RUN above it`
	for _, tt := range []lintCase{
		{name: "npm", text: "FROM alpine:3\nWORKDIR /a\nCOPY . .\nRUN npm ci\n", want: told("3", npm)},
		{name: "in the order that keeps the cache", text: "FROM alpine:3\nWORKDIR /a\nCOPY package*.json ./\nRUN npm ci\nCOPY . .\nRUN npm run build\n"},
		{name: "installed before, and once more", text: "FROM alpine:3\nCOPY package*.json ./\nRUN npm ci\nCOPY . .\nRUN npm ci --offline\n"},
		{name: "with a cache", text: "FROM alpine:3\nCOPY . .\nRUN --mount=type=cache,target=/root/.npm npm ci\n"},
		{name: "a package by name", text: "FROM alpine:3\nCOPY . .\nRUN npm install -g serve && npm install left-pad\n"},
		{name: "something made in between", text: "FROM alpine:3\nCOPY . .\nRUN ./make-package-json\nRUN npm ci\n"},
		{name: "something made in the same step", text: "FROM alpine:3\nCOPY . .\nRUN cp a/package.json . && npm ci\n"},
		{name: "harmless steps in between", text: "FROM alpine:3\nCOPY . .\nRUN corepack enable\nENV A=b\nRUN set -e; cd /x && npm ci\n", want: told("2",
			`"npm ci" (line 5), since COPY . . comes before it: put COPY package.json package-lock.json ./ and that RUN above it`)},
		{name: "in the stage below", text: "FROM alpine:3 AS a\nWORKDIR /a\nCOPY . .\nFROM a\nRUN yarn --frozen-lockfile\n", want: told("3",
			`"yarn --frozen-lockfile" (line 5), since COPY . . comes before it: put COPY package.json yarn.lock ./ and that RUN above it`)},
		{name: "once for a COPY", text: "FROM alpine:3 AS a\nWORKDIR /a\nCOPY . .\nRUN npm ci\nFROM a\nRUN npm ci\n", want: told("3", npm)},
		{name: "pip", text: "FROM alpine:3\nADD ./ /app\nRUN python3 -m pip install --no-cache-dir -r requirements.txt\n", want: told("2",
			`"python3 -m pip install --no-cache-dir -r requirements.txt" (line 3), since ADD ./ /app comes before it: put COPY requirements.txt ./ and that RUN above it`)},
		{name: "pip of the context itself", text: "FROM alpine:3\nCOPY . .\nRUN pip install --no-cache-dir -r requirements.txt .\n"},
		{name: "go", text: "FROM alpine:3\nCOPY . .\nRUN go mod download && go build\n", want: told("2",
			`"go mod download" (line 3), since COPY . . comes before it: put COPY go.mod go.sum ./ and that RUN above it`)},
		{name: "bundle", text: "FROM alpine:3\nCOPY . .\nRUN bundle config set frozen 1 && bundle install -j4\n", want: told("2",
			`"bundle install -j4" (line 3), since COPY . . comes before it: put COPY Gemfile Gemfile.lock ./ and that RUN above it`)},
		{name: "composer", text: "FROM alpine:3\nCOPY . .\nRUN composer install --no-dev\n", want: told("2",
			`"composer install --no-dev" (line 3), since COPY . . comes before it: put COPY composer.json composer.lock ./ and that RUN above it`)},
		{name: "cargo", text: "FROM alpine:3\nCOPY . .\nRUN cargo build --release\n", want: told("2",
			`"cargo build --release" (line 3), since COPY . . comes before it: give the RUN --mount=type=cache,target=/usr/local/cargo/registry `+
				`and --mount=type=cache,target=target (copy the result out of target in the same RUN)`)},
		{name: "apt-get", text: "FROM alpine:3\nCOPY . .\nRUN apt-get update && apt-get install -y git && rm -rf /var/lib/apt/lists/*\n", want: told("2",
			`"apt-get install -y git" (line 3), since COPY . . comes before it: move that RUN above it`)},
		{name: "a package of the context", text: "FROM alpine:3\nCOPY . .\nRUN apt-get install -y ./git.deb\n"},
		{name: "a list of the context", text: "FROM alpine:3\nCOPY . .\nRUN apt-get install -y $(cat packages)\n"},
		{name: "apt-get in a stage that needs no context", text: "FROM alpine:3 AS a\nCOPY . .\nFROM a\nRUN apt-get install -y git\n"},
		{name: "part of the context", text: "FROM alpine:3\nCOPY src .\nRUN npm ci\n"},
		{name: "from a stage", text: "FROM alpine:3 AS a\nFROM alpine:3\nCOPY --from=a . .\nRUN npm ci\n"},
		{name: "without some", text: "FROM alpine:3\nCOPY --exclude=src . .\nRUN npm ci\n"},
		{name: "a context of few files", text: "FROM alpine:3\nCOPY . .\nRUN npm ci\n", edit: ignoring(t, "*\n!package*.json\n")},
		{name: "skipped", text: "FROM alpine:3\n# check=skip=CopyBeforeInstall\nCOPY . .\nRUN npm ci\n"},
		{name: "a step of another shell", text: "FROM alpine:3\nSHELL [\"pwsh\", \"-c\"]\nCOPY . .\nRUN npm ci\n"},
		{name: "exec form", text: "FROM alpine:3\nCOPY . .\nRUN [\"npm\", \"ci\"]\n", want: told("2",
			`"npm ci" (line 3), since COPY . . comes before it: put COPY package.json package-lock.json ./ and that RUN above it`)},
		{name: "a heredoc", text: "FROM alpine:3\nCOPY . .\nRUN <<EOF\n#!/usr/bin/env bash\nnpm ci\nEOF\n", want: told("2",
			`"npm ci" (line 3), since COPY . . comes before it: put COPY package.json package-lock.json ./ and that RUN above it`)},
		{name: "a heredoc of another language", text: "FROM alpine:3\nCOPY . .\nRUN <<EOF\n#!/usr/bin/python\nnpm ci\nEOF\n"},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintPackageCaches(t *testing.T) {
	const (
		apt = "PackageCacheInLayer: apt-get update leaves the package lists in the image: end the step with && rm -rf /var/lib/apt/lists/*, " +
			"or keep them in RUN --mount=type=cache,target=/var/lib/apt,sharing=locked"
		apk = "leaves the package index in the image: write apk add --no-cache, without apk update"
		dnf = "leaves its cache in the image: end the step with && dnf clean all (or yum, microdnf), or keep it in RUN --mount=type=cache,target=/var/cache/dnf,sharing=locked"
		pip = "leaves what it downloaded in the image: write pip install --no-cache-dir, or keep it in RUN --mount=type=cache,target=/root/.cache/pip"
	)
	for _, tt := range []lintCase{
		{name: "apt", text: "FROM alpine:3\nRUN apt-get update && apt-get install -y git\n", want: []string{"2 " + apt}},
		{name: "apt, removed", text: "FROM alpine:3\nRUN apt-get update && apt-get install -y git && rm -rf /var/lib/apt/lists/*\n"},
		{name: "apt, removed with more", text: "FROM alpine:3\nRUN apt-get update; rm -rf /var/lib/{apt,dpkg}\n"},
		{name: "apt, removed too late", text: "FROM alpine:3\nRUN apt-get update && apt-get install -y git\nRUN rm -rf /var/lib/apt/lists/*\n", want: []string{"2 " + apt}},
		{name: "apt, in a cache", text: "FROM alpine:3\nRUN --mount=type=cache,target=/var/lib/apt apt-get update && apt-get install -y git\n"},
		{name: "apt, in a cache above", text: "FROM alpine:3\nRUN --mount=type=tmpfs,target=/var apt-get update && apt-get install -y git\n"},
		{name: "apt, in a cache elsewhere", text: "FROM alpine:3\nRUN --mount=type=cache,target=/var/cache/apt apt-get update\n", want: []string{"2 " + apt}},
		{name: "apt, in a stage that leaves nothing", text: "FROM alpine:3 AS b\nRUN apt-get update && apt-get install -y git\nFROM alpine:3\nCOPY --from=b /a /b\n"},
		{name: "apt, in a stage below", text: "FROM alpine:3 AS b\nRUN apt-get update && apt-get install -y git\nFROM b\n", want: []string{"2 " + apt}},
		{name: "apt, in some builds", text: "FROM alpine:3\nRUN if [ $DEBUG ]; then apt-get update; fi\n"},
		{name: "apt, in a script", text: "FROM alpine:3\nRUN echo 'apt-get update' > /x && cat <<E > /y\napt-get update\nE\n"},
		{name: "apt, skipped", text: "FROM alpine:3\n# check=skip=PackageCacheInLayer\nRUN apt-get update\n"},
		{name: "apk", text: "FROM alpine:3\nRUN apk add git\n", want: []string{"2 PackageCacheInLayer: apk add " + apk}},
		{name: "apk update", text: "FROM alpine:3\nRUN apk update && apk add --no-cache git\n", want: []string{"2 PackageCacheInLayer: apk update " + apk}},
		{name: "apk, without a cache", text: "FROM alpine:3\nRUN apk --no-cache add git && apk add -t x --no-cache y\n"},
		{name: "apk, removed", text: "FROM alpine:3\nRUN apk add -U git && rm -rf /var/cache/apk/*\n"},
		{name: "dnf", text: "FROM alpine:3\nRUN dnf -y install git\n", want: []string{"2 PackageCacheInLayer: dnf install " + dnf}},
		{name: "microdnf, cleaned", text: "FROM alpine:3\nRUN microdnf install -y git && microdnf clean all\n"},
		{name: "yum, removed", text: "FROM alpine:3\nRUN yum install -y git && rm -rf /var/cache/yum\n"},
		{name: "pip", text: "FROM alpine:3\nRUN pip3 install flask\n", want: []string{"2 PackageCacheInLayer: pip3 install " + pip}},
		{name: "pip as a module", text: "FROM alpine:3\nRUN python -m pip install flask\n", want: []string{"2 PackageCacheInLayer: pip install " + pip}},
		{name: "pip, without a cache", text: "FROM alpine:3\nRUN pip install --no-cache-dir flask\n"},
		{name: "pip, told by a variable", text: "FROM alpine:3\nENV PIP_NO_CACHE_DIR=1\nRUN pip install flask\n"},
		{name: "pip, told by a variable of the step", text: "FROM alpine:3\nRUN PIP_NO_CACHE_DIR=1 pip install flask\n"},
		{name: "pip, in a cache of another user", text: "FROM alpine:3\nRUN --mount=type=cache,target=/home/me/.cache/pip pip install flask\n"},
		{name: "pip, on a base that is not known", text: "FROM elsewhere:3\nRUN pip install flask\n"},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintStaleLists(t *testing.T) {
	const clean = " && rm -rf /var/lib/apt/lists/*"
	told := []string{
		"2 PackageCacheInLayer: apt-get update leaves the package lists in the image: end the step with && rm -rf /var/lib/apt/lists/*, " +
			"or keep them in RUN --mount=type=cache,target=/var/lib/apt,sharing=locked",
	}
	stale := `3 StalePackageLists: "apt-get install -y git" takes packages from the lists that line 2 fetched, which stay in the cache as they are: ` +
		"write RUN apt-get update && apt-get install in one"
	for _, tt := range []lintCase{
		{name: "two steps", text: "FROM alpine:3\nRUN apt-get update\nRUN apt-get install -y git\n", want: append([]string{stale}, told...)},
		{name: "one step", text: "FROM alpine:3\nRUN apt-get update && apt-get install -y git" + clean + "\n"},
		{name: "each for itself", text: "FROM alpine:3\nRUN apt-get update && apt-get install -y a" + clean + "\nRUN apt-get update && apt-get install -y git" + clean + "\n"},
		{name: "in a cache", text: "FROM alpine:3\nRUN --mount=type=cache,target=/var/lib/apt apt-get update\nRUN --mount=type=cache,target=/var/lib/apt apt-get install -y git\n"},
		{name: "no lists of this file", text: "FROM alpine:3\nRUN apt-get install -y git\n"},
		{name: "a file", text: "FROM alpine:3\nRUN apt-get update\nRUN apt-get install -y ./x.deb\n", want: told},
		{name: "a script that may fetch them", text: "FROM alpine:3\nRUN apt-get update\nRUN ./setup && apt-get install -y git\n", want: told},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintChown(t *testing.T) {
	told := func(line, target, from, copied string) []string {
		return []string{line + " ChownAfterCopy: chown -R " + target + " writes the files of line " + from + " into a second layer: write " + copied +
			" there, below the line that makes the user"}
	}
	for _, tt := range []lintCase{
		{name: "the same directory", text: "FROM alpine:3\nCOPY src /app\nRUN chown -R me:me /app\n", want: told("3", "/app", "2", "COPY --chown=me:me")},
		{name: "one above", text: "FROM alpine:3\nWORKDIR /app\nADD src lib/\nRUN make && chown --recursive 1 .\n", want: told("4", ".", "3", "ADD --chown=1")},
		{name: "another", text: "FROM alpine:3\nCOPY src /app\nRUN chown -R me /application\n"},
		{name: "before the files come", text: "FROM alpine:3\nRUN chown -R me /app\nCOPY src /app\n"},
		{name: "with their owner", text: "FROM alpine:3\nCOPY --chown=me src /app\nRUN chown -R me /app\n"},
		{name: "the directory alone", text: "FROM alpine:3\nCOPY src /app\nRUN chown me /app\n"},
		{name: "what a shell knows", text: "FROM alpine:3\nCOPY src /app\nRUN chown -R me $APP; chown -R $me /app\n"},
		{name: "a directory of a base that is not known", text: "FROM elsewhere:3\nCOPY src lib\nRUN chown -R me lib\n"},
		{name: "in a stage that is left behind", text: "FROM alpine:3 AS a\nCOPY src /app\nRUN chown -R me /app\nFROM alpine:3\n"},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintUnpinned(t *testing.T) {
	for _, tt := range []lintCase{
		{name: "no tag", text: "FROM alpine\n", want: []string{"1 UnpinnedBase: alpine has no tag, so that a later build begins with another image: name a version, alpine:VERSION"}},
		{name: "latest", text: "FROM alpine:latest AS a\nFROM scratch\n", want: []string{"1 UnpinnedBase: alpine:latest is whatever is latest, so that a later build begins with another image: name a version, alpine:VERSION"}},
		{name: "an image that is copied from", text: "FROM scratch\nCOPY --from=alpine /a /b\n", want: []string{"2 UnpinnedBase: alpine has no tag, so that a later build begins with another image: name a version, alpine:VERSION"}},
		{name: "a tag or a digest", text: "FROM alpine:3\nFROM alpine@sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"},
		{name: "who calls decides", text: "ARG BASE=alpine\nFROM $BASE\n"},
		{name: "stages and scratch", text: "FROM scratch AS a\nFROM a AS latest\nCOPY --from=a x y\n"},
		{name: "skipped", text: "# check=skip=UnpinnedBase\nFROM alpine\n"},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintEmulated(t *testing.T) {
	arm := func(req *CheckRequest) { req.Plan.Platform, _ = ParsePlatform("linux/arm64") }
	told := "3 EmulatedRun: Stage build is for linux/arm64 and runs on linux/amd64 through an emulator, slowly: where it compiles, begin it with " +
		"FROM --platform=$BUILDPLATFORM and compile for $TARGETARCH"
	for _, tt := range []lintCase{
		{name: "of another processor", text: "FROM scratch AS build\nCOPY a b\nRUN a\nRUN b\nFROM scratch\n", edit: arm, want: []string{told}},
		{name: "cross-compiled", text: "FROM --platform=$BUILDPLATFORM alpine:3 AS build\nRUN a\nFROM scratch\nCOPY --from=build a b\n", edit: arm},
		{name: "of the machine", text: "FROM scratch\nRUN a\n"},
		{name: "of one that the machine is compatible with", text: "FROM scratch\nRUN a\n", edit: func(req *CheckRequest) { req.Plan.Platform, _ = ParsePlatform("linux/386") }},
	} {
		t.Run(tt.name, tt.check)
	}
}

func TestLintGitDir(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	with := func(ignored string) func(*CheckRequest) {
		return func(req *CheckRequest) {
			req.ContextDir = dir
			ignoring(t, ignored)(req)
		}
	}
	told := []string{
		"2 GitDirInImage: COPY . /app takes the directory .git along: the image holds the whole history, and each commit makes the step run again. Add .git to .dockerignore",
	}
	for _, tt := range []lintCase{
		{name: "the whole context", text: "FROM scratch\nCOPY . /app\n", edit: with(""), want: told},
		{name: "ignored", text: "FROM scratch\nCOPY . /app\n", edit: with(".git\n")},
		{name: "ignored with all that begins like it", text: "FROM scratch\nCOPY . /app\n", edit: with(".*\n")},
		{name: "part of it", text: "FROM scratch\nCOPY src /app\n", edit: with("")},
		{name: "in a stage that is left behind", text: "FROM scratch AS b\nCOPY . /app\nFROM scratch\nCOPY --from=b /app/x /x\n", edit: with("")},
		{name: "no history", text: "FROM scratch\nCOPY . /app\n", edit: func(req *CheckRequest) { req.ContextDir = t.TempDir() }},
	} {
		t.Run(tt.name, tt.check)
	}
}
