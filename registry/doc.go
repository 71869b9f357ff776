// Package registry is a client of OCI distribution-spec 1.1 and Docker Registry v2 servers: it resolves, pulls, pushes, copies and
// deletes images, and logs in to registries.
//
// A Client moves content between a registry and a Store, which image.Store satisfies; the package itself keeps nothing on disk but
// what a login writes. Names follow the specification: a Repository is a host and a name, a reference is a tag or a digest.
//
// # Invariants
//
//   - Every blob and manifest is verified against its descriptor's size and digest in the stream that carries it: a reader gives an
//     error at its end when they differ. What goes into a Store is hashed there, once, with what an earlier attempt has left of it. What is
//     asked for by tag is verified against the digest that the registry names.
//   - Content is stored and pushed children first: whoever sees a manifest finds what it names.
//   - A manifest that is about another (its subject) is listed with it: by the registry, else by the client in the tag that the
//     specification has for that.
//   - An index is kept as the bytes that were received; a pull fetches the platforms that are wanted of it, or all, attestations and other
//     documents included.
//   - Credentials go to the registry that they were stored for and to the token service that it names, never along a redirect to
//     another origin, and never into an error. Queries of URLs (which may be signed) are left out of errors too.
//   - What can succeed when it is repeated is repeated, with growing pauses or the pause that the registry asks for; what cannot is
//     not. A body that breaks off is continued from where it broke when the registry knows ranges.
//   - A large blob, or one that is still being made, is sent in chunks; after a break the registry is asked how far it came. The session is
//     noted in the Memory, so that a later process goes on with it. A registry that refuses chunks gets one piece.
//   - What a repository was found to have is believed for a day. If it then refuses a manifest for want of a blob, what is remembered of the
//     manifest's blobs is forgotten, and they are asked for and sent once more.
//   - Every failure that a registry or the way to it has caused is an *Error.
//
// # Bytes
//
// A pull asks the Store from where on it wants a blob. Large blobs come in pieces (ranges), several at once while there are free slots,
// and are given on in order, so that what a Store has of a blob is always a beginning. Ranges are asked for and not trusted: an answer that is
// not the piece that was asked for ends that, and the blob comes in one stream. Each blob that moves, and each piece that moves ahead of
// its turn, has one of Options.Parallel slots; beside that no host has more than a few requests of a kind at once, and one that asks
// for a pause gets it from all of them. A body that gives next to nothing for a minute has broken off; the time that its reader spends
// elsewhere does not count.
//
// A registry cannot make a pull endless or large: manifests, configs, lists and what they name are bounded, as are indexes within
// indexes and all manifests of a pull; a body ends where its descriptor says.
//
// # Endpoints
//
// Where a repository is had is what the configuration of the machine says (see package hosts): a job has a list of endpoints, mirrors
// first. job.send puts a call to one after the other until one has what it asks for; an endpoint that was in trouble, or whose content was
// damaged, is asked after the others from then on. Changes, and lists of tags and repositories, have one endpoint alone, job.origin. What
// is configured for a host, headers and certificates, counts for requests to that host and for no other that it leads to.
//
// # Transport
//
// Loopback hosts are spoken to in plain http unless they want https, hosts named in Options.Insecure in https with any
// certificate, else in plain http; all others in https only. Proxies come from the usual environment variables.
//
// # Credentials
//
// They are where Docker and podman keep them, the first that has one counts: $DOCKER_AUTH_CONFIG, which holds the text of a config.json;
// the file $REGISTRY_AUTH_FILE; config.json in $DOCKER_CONFIG or ~/.docker; and, without $REGISTRY_AUTH_FILE, podman's auth.json. In each
// the entry for the longest part of host/repository counts. Helpers are asked for whole hosts. docker.io may stand there by its old name
// https://index.docker.io/v1/.
//
// # What it does not do
//
// Docker schema 1 manifests and the v1 API are refused. It lists the tags of a repository and, where the registry lets it, the
// repositories, but does not search, and it does not unpack layers.
package registry
