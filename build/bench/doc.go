// Package bench measures whole builds: the program as a user starts it, the
// bare work with no builder at all (the floor), and, where they are wanted,
// other builders. It holds benchmarks alone; `make bench` and `make
// bench-peers` run them.
//
// # Method
//
// Every scenario makes its inputs once, on a filesystem of its own: as root a
// fresh ext4 in a sparse file, for ext4 creates files several times slower for
// minutes after many were deleted, and nothing is deleted before the end; for
// others, or with BENCH_DIR, a plain directory. Then, in turns, the floor and
// each builder run, so that all of them see the same machine at the same time.
// What is quoted is the median of the turns; -benchtime=5x asks for five.
//
// Of a program, wall is the time from its start to its end, cpu the time that
// it and all that it waited for spent on processors, and peak the largest
// resident set among these processes. It is started by a small process, for a
// process begins its life with the peak of the one that started it. BuildKit
// works in a daemon: of that the same figures are taken from /proc, before and
// after.
//
// A floor that makes a layer writes it to a file once, hashes it, and ends with one
// fsync(2), for a build does not say that it is done before its image would outlive the
// machine. (A compressed copy, which is made for a push, can be made again, and is not synced.)
//
// The caches of the kernel are warm: what a scenario reads was written just
// before. No figure is compared with anything in a test; machines differ.
package bench
