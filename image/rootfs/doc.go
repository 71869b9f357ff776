// Package rootfs resolves paths that come from outside (a tar, a build context,
// an image, a Dockerfile) inside a root directory, so that no symbolic link and
// no ".." leads out of it.
//
// Paths are slash-separated and taken relative to the root, a leading slash or
// not. Links are followed as a process chrooted into the root would follow them:
// an absolute link starts at the root, ".." at the root stays there.
//
// The kernel does the work: openat2(2) with RESOLVE_IN_ROOT and
// RESOLVE_NO_MAGICLINKS. Where openat2 is missing or forbidden, the same is done
// one component at a time with O_NOFOLLOW.
//
// Everything is relative to file descriptors, and the process's working
// directory and umask are never touched.
package rootfs
