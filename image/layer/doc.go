// Package layer turns directories into layer tars and layer tars into directories.
//
// It knows no store and no manifest. What comes out of it is a tar stream, its
// identities (Digests) and its table of contents (TOC).
//
// # The tar
//
// Writer makes canonical tars: a USTAR header where everything fits, a PAX
// header where it does not (long or non-ASCII names, numeric ids above 2^21,
// negative times, files of 8 GiB and more, extended attributes), no user or
// group names, times in whole seconds, two zero blocks at the end. The same
// entries in the same order give the same bytes, always.
//
// Deletions are OCI whiteouts: an empty file ".wh.NAME" hides NAME of the
// layers below, ".wh..wh..opq" hides everything that the layers below have in
// its directory. A whiteout never hides what its own layer holds, whatever the
// order in the tar. Names that begin with ".wh." cannot be stored otherwise.
//
// # Identities
//
// DiffID is the SHA-256 of the whole uncompressed tar. Content is a SHA-256 over
// everything in the tar but modification times, so that a step that is run again
// and makes the same files gives the same Content.
//
// # The table of contents
//
// TOC.Marshal writes, and UnmarshalTOC reads:
//
//	"ocitoc" version(1 byte) 0x00
//	count                         uvarint
//	count times:
//	    flags                     1 byte: 1 digest, 2 link name, 4 device, 8 attributes, 16 nanoseconds
//	    type                      1 byte, as in the tar
//	    name                      uvarint length, bytes
//	    mode, uid, gid, size      uvarint
//	    offset                    varint
//	    mtime seconds             varint
//	    [mtime nanoseconds]       uvarint
//	    [digest]                  32 bytes of SHA-256
//	    [link name]               uvarint length, bytes
//	    [major, minor]            uvarint
//	    [attributes]              uvarint count, then name and value, each with its uvarint length, sorted by name
//	CRC-32C of all before it      4 bytes, big-endian
//
// # Compression
//
// Packer compresses in blocks, several at once, and writes them in order: gzip in blocks of 1 MiB, each with the last 32 KiB before it as
// its dictionary, in one member; zstd in frames of 4 MiB; eStargz with a gzip member for each file, or for each 4 MiB of a large one,
// then the table of contents and the footer. The bytes depend on the input, the compression and the level, and on these sizes.
//
// # What Apply promises
//
// Nothing in a tar is written, linked, or changed outside the directory that it
// is applied to: every name is resolved by image/rootfs, ".." is refused, the
// last component of a name is never followed, and symbolic links in a parent are
// followed only inside the root. Attributes outside the small set that belongs in
// an image (see KeepXattr) are dropped, overlayfs' own above all.
//
// A whiteout of something that no layer below has is kept in Overlay format, where
// overlayfs may list its name in a directory that one layer alone has. Diff of an
// upper directory makes no such whiteouts.
//
// Apply and Diff are inverses: what Diff writes, Apply in Overlay format puts
// back, and Diff of that gives the same bytes again.
package layer
