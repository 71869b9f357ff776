// Package space tells what a store takes on the disk, what holds it there, makes
// room in it, and checks and repairs it as a whole.
//
// A Census is one look at the whole store: items, each with what it takes, when it
// was last used, and the blobs that it holds. An image with a name is an item, and
// so is a cache record, an unpacked layer, the directory of a cache mount. A blob
// goes when the last item that holds it goes; what several items share is counted
// once, and belongs to the first area in the order of Areas. All numbers are blocks
// on the disk, and their sum is what du(1) says of the store's directory.
//
// A plan says what of a census would go, by area, age or label, or as much of the
// least recently used as makes the rest fit a size. Carrying it out asks again about
// every item: what was used after the census stays, as does all that was used since
// the oldest running build began. Nothing stops for it, and several may run at once.
//
// Least recently used goes by unit. A blob is one, with all that holds it; so are an
// unpacked layer, a cache mount, a table of contents, a compressed layer. A record
// whose blobs stay in any case would give back its own few bytes only, so these come
// last.
//
// A limit is a ceiling. A Keeper makes room before a program fills the store, while
// it does, and before it names what it has made; where names and running builds
// leave none, it says so, and the program ends.
//
// The package imports the parts of the store (images, cache, snapshots, what was fetched) and knows
// no Dockerfile.
package space
