#!/usr/bin/env bash
# Builds examples/debian on a Debian base that mmdebstrap makes and `ocibuild import` takes in, runs what it compiled, and builds
# it again to see that nothing runs twice. Root does so rootful, and then as the ordinary user in $TEST_USER (builder); anybody
# else as themselves. The compiler is then installed again at the other isolation levels. Needs mmdebstrap and a package mirror.
set -eu
: "${OCIBUILD:=bin/ocibuild}" "${OUT:=out}" "${TEST_USER:=builder}"
here=$(dirname "$0")
base=$PWD/$OUT/debian/bookworm.tar

# build DIR COMMAND...: the whole build in DIR, where every ocibuild is run by COMMAND.
build() {
	local dir=$1
	shift
	"$@" "$dir/ocibuild" --root "$dir/store" import "$dir/bookworm.tar" bookworm
	"$@" "$dir/ocibuild" --root "$dir/store" -t debian-hello -o "type=local,dest=$dir/files" "$dir/context"
	[ "$("$dir/files/hello")" = "hello from a static C program" ]
	"$@" "$dir/ocibuild" --root "$dir/store" --progress=plain -t debian-hello "$dir/context" >"$dir/again" 2>&1
	if ! grep -qi cached "$dir/again"; then
		cat "$dir/again"
		echo "the second build is not cached" >&2
		return 1
	fi
	"$@" "$dir/ocibuild" --root "$dir/store" fsck
}

# prepare DIR: what a build reads.
prepare() {
	mkdir -p "$1/context"
	cp "$OCIBUILD" "$1/ocibuild"
	cp "$here/Dockerfile" "$here/hello.c" "$1/context"
	cp --reflink=auto "$base" "$1/bookworm.tar"
}

# at LEVEL DIR COMMAND...: the same build in the store of an earlier one, at an isolation level; owners are in the image.
at() {
	local level=$1 dir=$2
	shift 2
	mkdir -p "$dir/owners"
	printf 'FROM bookworm\nRUN touch /theirs && chown www-data /theirs\nUSER www-data\nRUN test "$(id -u)" = 33 && touch /tmp/own\n' >"$dir/owners/Dockerfile"
	echo "== at level $level"
	"$@" "$dir/ocibuild" build --root "$dir/store" --no-cache --isolation "$level" -t debian-hello -o "type=local,dest=$dir/files-$level" "$dir/context"
	[ "$("$dir/files-$level/hello")" = "hello from a static C program" ]
	"$@" "$dir/ocibuild" build --root "$dir/store" --no-cache --isolation "$level" -t owners "$dir/owners"
	"$@" "$dir/ocibuild" --root "$dir/store" ls -l owners:/theirs | grep -Eq ' +33 +0 '
	"$@" "$dir/ocibuild" --root "$dir/store" ls -l owners:/tmp/own | grep -Eq ' +33 +33 '
	"$@" "$dir/ocibuild" --root "$dir/store" fsck
}

work=$(mktemp -d "${TMPDIR:-/var/tmp}/ocibuild-debian.XXXXXX")
chmod 0755 "$work"
cleanup() {
	if [ "$(id -u)" != 0 ]; then
		"$OCIBUILD" --root "$work/own/store" prune --force --all >/dev/null || true
	fi
	rm -rf "$work"
}
trap cleanup EXIT

mkdir -p "$(dirname "$base")"
if [ ! -s "$base" ]; then
	mmdebstrap --variant=minbase --format=tar bookworm "$base.tmp"
	mv "$base.tmp" "$base"
fi
prepare "$work/own"
echo "== as $(id -un)"
build "$work/own" env
builds=1
if [ "$(id -u)" = 0 ]; then
	id "$TEST_USER" >/dev/null || { echo "no user $TEST_USER for the rootless build; name one in TEST_USER" >&2; exit 1; }
	prepare "$work/rootless"
	chown -R "$TEST_USER:" "$work/rootless"
	echo "== as $TEST_USER"
	(cd "$work/rootless" && build "$work/rootless" runuser -u "$TEST_USER" -- env HOME="$work/rootless")
	at chroot "$work/own" env
	(cd "$work/rootless" && at rootless-single "$work/rootless" runuser -u "$TEST_USER" -- env HOME="$work/rootless")
	builds=4
else
	at rootless-single "$work/own" env
	builds=2
fi
echo "debian: $builds passed, 0 failed"
