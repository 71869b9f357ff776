// Package conformance tells whether builders make the same images of the same
// Dockerfiles. Only tests import it; the corpus is in cmd/ocibuild/testdata/conformance.
//
// # A case
//
// A case is one txtar file. The text before the first section says what it is
// about; a line "needs: WORD..." there names what the machine must have: root,
// ids (more ids than one), or a program. The sections are
//
//	Dockerfile         the file that is built; "args" may name another, ctx/ holds it then
//	ctx/PATH           a file of the context, mode 0644
//	ctx.tree           more of the context, as a tree
//	ctx/PATH.tree      an archive in the context, made of a tree: ctx/a.tar.gz.tree is ctx/a.tar.gz
//	ctx/PATH.base64    a file of the context that is no text
//	images/NAME.tree   an image that the Dockerfile may name, in place of base: its files
//	images/NAME.json   and its config, as in an image ({"config":{"Env":["A=b"]}})
//	args               flags, one a line: --build-arg, --target, --file, --label, --platform
//	want               the tree of the image
//	config             the config of the image, as JSON: its inner part, and of the outer one what this
//	                   machine's images do not all have
//	history            the image's history; "+" marks the entries that have a layer, "@" their time
//	error              the build fails; ocibuild's message holds each line
//
// Want or error must be there. A case whose Dockerfile says FROM base, and
// which has no such image of its own, is built on [Base]. What the image
// shares with its base is left out of want, and what of the base is gone
// stands there as "gone".
//
// # A tree
//
// A tree is a line a path: the path, its type, and what there is to say of it.
//
//	/d dir 0755 0:0
//	/d/f file 0644 0:0 "text" user.key="value"
//	/d/g file 0644 0:0 = /d/f
//	/d/l link 0777 0:0 -> f
//	/n char 0666 0:0 1,3
//	/p fifo 0600 1:2 @1000
//
// A path, a target or a value with blanks or bytes that are not printable is a quoted Go
// string. "= PATH" makes a hard link; "@SECONDS" is the modification time. In want, config
// and history, times after the year 2000 are left out, which are the test's own, and those
// of directories, which BuildKit does not always keep. A file of more than 64 bytes is
// sha256:DIGEST size:N there.
//
// Where a tree is written to be made, mode and owner may be missing (0755 for directories,
// 0644 for what else there is, 0:0), zeros:N is a file of N zeros, host:FILE has the bytes
// of a file of this machine, and the type socket is known. In archives the paths are taken
// as they are, the lines in their order, and user=NAME and group=NAME are the owner's
// names.
package conformance
