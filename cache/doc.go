// Package cache remembers what earlier builds found out, so that a later build need not do it again.
//
// Which function do you want? A step's key is made with a [Hasher]; what the step gave is kept with [Store.Put] and found
// with [Store.Get]; why nothing was found is told by [Store.Nearest]. The digest of a context file is kept in a [Files] memo,
// the answer to any other pure question as a fact ([Store.GetFact]), and the table of contents of a layer with [Store.GetTOC].
// The directory of a cache mount, which steps fill as they like, is given by [Store.Mount].
//
// # Invariants
//
// Nothing here is the only copy of anything: whatever is lost is found out again. So every reader takes a missing, torn,
// foreign or damaged file for a miss (with a reason, where somebody may ask), and never for an error that ends a build.
//
// Every file is written under a temporary name in its own directory and renamed into place, so a reader in another process
// sees the old or the new file and nothing between; of two writers the last one wins, and both wrote the same answer. The
// files are not synced: a file that a power failure tears is recognised by its checksum. The blobs that a record names are
// the caller's to sync before [Store.Put].
//
// A file's mtime says when it was last used, to within [UseResolution]; [Store.Prune] goes by it.
//
// # Format
//
//	<dir>/steps/<key>                   a Record as JSON
//	<dir>/steps-by-name/<hex>/<key>     empty; hex is the SHA-256 of the record's name
//	<dir>/facts/<kind>/<key>            bytes, the caller's
//	<dir>/toc/<hex>                     bytes, the caller's; hex is the layer's diffID
//	<dir>/files/<hex>                   a file memo; hex is the SHA-256 of the context's name
//	<dir>/mounts/<name>/                a cache mount; what is in it is the steps'
//
// Every file of ours but the empty ones begins with one line, "ocibuild <kind> <version> <bytes> <crc32c>", where bytes counts what
// follows the line and crc32c is its Castagnoli checksum; a file whose line is not exactly that is damaged. A file memo's
// body is described at [Files].
//
// # What it will not do
//
// It knows no Dockerfile, no image and no layer; it never looks at the blobs that a record names, holds no lock (one step in
// two processes is the caller's to order), and does not protect against somebody who may write to its directory.
package cache
