// Package hosts finds out how registries are reached on this machine: which mirrors stand before one, what it is called there, which
// certificates count, and which registries are not to be spoken to at all.
//
// It reads the files that other programs have for that, as they are and from where they are:
//
//   - containers' registries.conf (version 2; of version 1 what can be said in it) and its drop-in directories say, by the beginning
//     of a repository's name, where it really is, which mirrors have it, and whether it is blocked.
//   - containerd's hosts.toml, a file for each host, says which servers stand before the host or in its place, what each of them can
//     do, and with which certificates and headers.
//   - The certificates in Docker's, containers' and containerd's certs.d.
//
// The first maps names to names; what it gives is looked up in the other two. So a mirror of registries.conf may have a hosts.toml of
// its own. A Config gives the outcome as a list of Endpoints, in the order in which they are to be asked.
//
// # Invariants
//
//   - What cannot be read or understood is an *Error with its file and line, never passed over: a mirror or a block that is silently
//     not there would send requests where they must not go. Keys that are unknown are passed over, as the originals do.
//   - A file is read once; nothing is read before an endpoint is asked for.
//   - What a repository is called at its origin never changes what it is called in the store or in messages.
//
// # What it does not do
//
// It opens no connection and knows no credential. Short names stay Docker's: aliases and search registries of registries.conf are
// only told, for hints.
package hosts
