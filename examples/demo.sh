#!/bin/sh
# The demo of `make demo`: builds the toolbox and hello images in a store of its own, $OUT/demo/store, lists them, and runs a
# file of one on this machine. Only that store and $OUT/demo/files are written; run again, everything comes from the cache.
set -eu
: "${OCIBUILD:=bin/ocibuild}" "${OUT:=out}"
mkdir -p "$OUT/demo"
export OCIBUILD_ROOT="$OUT/demo/store"

run() {
	printf '\n$ %s\n' "$*"
	"$@"
}

run "$OCIBUILD" -t toolbox examples/toolbox
run "$OCIBUILD" -t hello:v1 examples/hello
run "$OCIBUILD" -t hello:salut --build-arg GREETING=Salut examples/hello
run "$OCIBUILD" -t hello:v1 examples/hello
run "$OCIBUILD" --target files -o "type=local,dest=$OUT/demo/files" examples/hello
run "$OCIBUILD" images
run "$OCIBUILD" history hello:v1
run "$OUT/demo/files/hello" world

[ "$("$OUT/demo/files/hello" world)" = "Hello, world!" ]
printf '\nThe images are in %s, an OCI image layout; `make clean` removes them.\n' "$OCIBUILD_ROOT"
