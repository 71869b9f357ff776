// Package image keeps images: an OCI image layout directory that is at once
// the builder's store and an ordinary layout for other programs.
//
//	<root>/format                    "ocibuild store 1": the version of what is beside it
//	<root>/oci-layout                the layout's own version
//	<root>/index.json                the reference table, one descriptor a tag
//	<root>/blobs/<algorithm>/<hex>   content, named by its digest
//	<root>/ingest/                   what is being written and is not yet a blob; part-<algorithm>-<hex> is
//	                                 the beginning of a blob that a later Fetch continues, note-<hex> what one
//	                                 process wants the next to know, such as where an unfinished upload is
//	<root>/trash/                    blobs a prune is about to remove
//	<root>/quarantine/<time>/        what a Repair took out of the way: a layout of its own
//	<root>/config                    the user's: how the store is to be kept
//	<root>/locks/                    flock(2) files; locks/leases/ has one a live build
//	<root>/cache/blobs/<hex>.<algorithm>-<level>
//	                                 which blob an uncompressed layer was compressed to
//	<root>/cache/blobs/places        which repositories have which blobs, a line each
//	<root>/cache/summaries           what lists say of manifests and indexes, so that they need not be read
//
// # References
//
// A tag is a descriptor in index.json whose annotations hold the familiar
// name (org.opencontainers.image.ref.name: app:v1) and the full one
// (io.containerd.image.name: docker.io/library/app:v1). Entries that another
// program wrote with the first alone are read as well. A name with a digest,
// as a pull by digest leaves one, has the full form alone. Descriptors without a
// readable name are left as they are, and keep what they stand for.
//
// # Images for several platforms
//
// An index is stored as it came, byte for byte, with what builders say of its
// images (attestations), other artifacts and indexes within it. What it names
// need not be there: an index is whole as long as the store has the manifest of
// one image of it, with all that this needs. So a pull of one platform is
// completed by a pull of another, and Remove takes the image for one platform
// away. Manifests without a container image (artifacts) are kept the same way;
// only what needs a root file system refuses them.
//
// # Layers on their own
//
// A layer is a difference together with all below it, and is identified by its
// chain id. The layers of an image stay for as long as the image. One that is
// kept without an image has an entry in index.json without a name: an OCI
// artifact (application/vnd.ocibuild.layer.v1) whose layers are it and those
// below it, and whose config has their diff ids and its labels. So prune, fsck
// and other programs need no rule for it, and KeepMore need not name it. It is
// no image, and lists of images pass over it.
//
// # Writing
//
// Content goes to a file in ingest/, is hashed, and is renamed to its digest.
// A blob whose bytes and directory entry have reached the disk has the sticky
// bit in its mode; any other may still lose its bytes when power fails. Sync
// makes blobs durable, and whatever names blobs (Tag, Assemble, a cache
// record) syncs them first. After a reboot Open checks the blobs that were
// not durable and drops the damaged ones, so no name ever points at them.
//
// # Here or there
//
// A layer that is known to be at a registry (Seen) need not be here: its image
// is in the table, may be assembled, kept and pruned as any other, and Fsck
// calls the store clean. Who reads the layer brings it here, through the Remote
// of the store. The configs and manifests of such an image are here always. As
// other programs know nothing of this, an image that is not whole has no
// org.opencontainers.image.ref.name in index.json: the names that the layout
// offers to them are those of whole images. (image-spec lets a layout miss blobs
// that an external store has.)
//
// # Using and pruning
//
// A blob's modification time is the moment it was last used. Prune keeps what
// is reachable from index.json, what the caller asks it to keep, and whatever
// was used since the oldest live lease, or the prune itself, began. It renames
// a blob to trash/ before it looks at the time again, so a use beside it is
// never lost: the blob goes back. A sequence of calls that makes blobs before
// something names them must hold a Lease.
//
// # Reading
//
// Everything read through Blob and ReadBlob is verified against size and
// digest. Manifests and indexes are limited to 4 MiB, configs to 16 MiB,
// indexes within indexes to a depth of 4.
//
// # Files of images
//
// Files shows the root file system of an image from its layers' tables of
// contents (package image/layer); the bytes of a file come straight from the
// layer that holds it. The tables are remembered by whoever gives a TOCs.
//
// The package does not unpack layers, does not compress by itself, does not talk
// to registries but through a Remote, and knows neither Dockerfiles nor processes.
package image
