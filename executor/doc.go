// Package executor runs one process in a root filesystem and keeps the
// snapshots that such a process starts from and leaves behind.
//
// It knows nothing of images, Dockerfiles or caches. A [Process] says what to
// run; [Spec] turns it, purely, into an OCI runtime-spec value; [Executor.Run]
// carries that value out natively, by starting this same binary again as the
// first process of new namespaces (see [Init], which every main function and
// TestMain must call before anything else).
//
// # One step
//
// The parent mounts the snapshot as a detached overlay (it is attached to no directory and
// vanishes with its last descriptor), starts /proc/self/exe in new mount, pid, ipc, uts,
// cgroup and, for network "none", network namespaces, and sends it a compact plan over a
// socket. That process attaches the overlay in its own mount namespace, pivots into it,
// mounts /proc, /sys and /dev, the parts of other trees ([Bind]), among them sockets
// ([Listen]), and the files in memory ([File]) that the step is shown, takes the identity
// of the step on its main thread under a seccomp filter ([Security]), starts the command,
// reaps every orphan and reports how the command ended. Its own end ends the pid namespace,
// so nothing a step starts outlives it: not when the command leaves processes behind, not
// when the context is cancelled, and not when the parent is killed, because the other end
// of the socket is then closed.
//
// Before the plan is sent, the process is put into a cgroup of the step's own, where
// one can be had, that counts its memory and keeps its [Resources]: in v1 below ours,
// in v2 below the nearest one above us that has the controllers. The directory is
// flocked while it is used, so that the next step removes what a killed builder left.
// Where there is none, each process is limited by setrlimit(2).
//
// A network namespace that is to reach others is connected by pasta or slirp4netns
// before the plan is sent. Certificates that a step is to trust as well are files in
// memory over the bundles that its image has. With [Executor.UseRuntime] the init process
// makes a bundle in memory and starts runc or crun in its own namespaces, whose end is
// then theirs; that program manages no cgroup.
//
// A command that is to have a terminal gets one of the step's own /dev/pts, our side of
// which the init process sends back.
//
// # Without mounts
//
// At [LevelChroot] the same spec is carried out with files: the snapshot is a copy
// of the layers, what would be mounted is put into it and taken away again, and what has
// changed is found by an inventory before and after. The init process stays outside of
// the tree as the step's subreaper, and a second start of this binary goes into it by
// chroot(2), confines itself by Landlock and seccomp, and becomes the command. A filter
// with a supervisor opens files of /proc for the step. Where a better level can mount, but no
// overlays, it works on such copies too.
//
// # With one user id
//
// At [LevelSingle] all files belong to one id. A filter leaves to the init process what would
// give files to others, and what processes ask of users: it notes owners on files, and keeps who
// each process believes to be. A step of a user other than root runs in one more user
// namespace, which calls the id as that user is called; what it has made is found afterwards.
//
// # Snapshots on disk
//
// Below the directory given to [OpenSnapshots]:
//
//	committed/<name>/fs    one layer as an overlay lower directory; the mtime of
//	                       committed/<name> is when it was last used, and a file
//	                       "inherit" beside fs says that its root directory's mode
//	                       and owner are those of the layer below; "note" is what
//	                       its maker has noted of it (see [Snapshot.Note])
//	active/<id>/fs, work*  a snapshot being made; its directory is flocked by the
//	                       process that makes it, so leftovers are recognisable
//	trash/<id>             what Prune and Discard are deleting
//	attached/<digest>      what is mounted where, of layers that Prune is to keep
//	                       (see [Snapshots.Attach])
//	etc/<digest>           hosts and resolv.conf files bound over a step's own
//	trees/<hash>           copies of layers for a next step to go on with, taken by renaming
//	views/<hash>           copies of layers to be read
//	points/                a tree with nothing but /etc/hosts and /etc/resolv.conf, both
//	                       empty: the lowest lower directory of a running step's overlay
//	empty/                 an empty directory
//	overlays               where an overlay was mounted last: it is not tried again
//	boot                   the boot that the store was last opened in
//	lock                   flocked, shared while a snapshot is made or used and
//	                       exclusively while Prune moves one away
//
// A commit is one rename: a name is there whole or not at all, and never changes.
// Layers are not synced to disk, being made of what is kept elsewhere; after a boot,
// those that were committed in the last minutes before it are dropped.
//
// # Invariants
//
// A step leaves no mount, process, cgroup or descriptor behind. Mount points that the image
// lacks leave no trace in the upper directory, but for /proc, /dev and /sys. Descriptors of
// the caller, but standard output and error as pipes, do not reach the command.
//
// # What it will not do
//
// It runs no hooks. It refuses a spec that asks for what it does not carry out. It needs
// Linux 5.12 (mount_setattr, openat2, overlay in user namespaces).
package executor
