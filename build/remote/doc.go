// Package remote fetches what a build names by URL: files of web servers, and
// commits of git repositories. What it has fetched it keeps, and fetches again
// only what has changed.
//
// [Client.File] gives what a URL has now: a server that has said of which version
// or time its answer was (ETag, Last-Modified) is asked whether that still holds,
// any other is asked for everything. [Client.Git] finds out which commit a branch
// or tag stands for, which takes one question and no download; [Tree.Checkout]
// fetches that commit and writes its files.
//
// # Invariants
//
// A file is kept when all of it has arrived and its digest, where one is wanted,
// is right. A download that breaks off is continued from where it broke if the
// server knows ranges and says that it has the same version still, and begun anew
// if not. What can succeed when it is repeated is repeated, after a pause; what
// cannot is not.
//
// A Client asks about each URL and each reference once: all that one build makes
// of them is made of the same files.
//
// Credentials come from the secrets of the build and from URLs. They go to the
// server that they are for, and into nothing else: not into errors, not to the
// disk, and not into the arguments of a process.
//
// Git is the program of that name. It runs without the user's configuration,
// without hooks and without anybody to ask; it speaks http, https, ssh and git,
// and reads no repository of this machine as a submodule. Files of a checkout have
// mode 0644 or 0755 and belong to the process's user, whatever its umask. It dies
// with the process that started it.
//
// # Format
//
//	<dir>/http/<hex>/info          what the server said of the content, as JSON; hex is the SHA-256 of the URL
//	<dir>/http/<hex>/<hex>         the content, by its SHA-256
//	<dir>/http/<hex>/part-*        what has arrived of content that is not complete
//	<dir>/repositories/<hex>/      a bare git repository; hex is the SHA-256 of its URL and its kind of object names
//	<dir>/trees/<hex>/files/       a checkout; hex is the SHA-256 of its identity
//	<dir>/trees/<hex>/sum          the digest of its files, for Check
//	<dir>/work/<random>/           a checkout in the making, flocked by the process that makes it
//	<dir>/known_hosts              the keys of hosts that ssh has met
//
// In a repository, refs/ocibuild/<object> says that a commit or tag is there with
// all that it needs. Everything is made elsewhere and renamed into place, under a
// lock with its name, so that a kill leaves nothing that the next build would
// take for whole. The modification time of the third column is when something was
// last used: [Prune] goes by it. Nothing here is the only copy of anything.
//
// # What it will not do
//
// It unpacks nothing, knows no Dockerfile, and has no protocols of its own for
// object stores. Submodules are fetched by git, each time a tree is made that has
// some.
package remote
