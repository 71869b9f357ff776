package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/parser"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
)

// limitFlags are how much of the machine steps, or a container, may take. The first
// group of fields is what the flags say, the second what check made of it.
type limitFlags struct {
	memory, swap, cpus, shmText string
	cpuset, mems                string
	shares                      uint64
	period, quota, pids         int64
	limitTexts                  []string

	resources executor.Resources
	limits    []specs.POSIXRlimit
	shmSize   int64
}

// flags declares the flags; who names whom they limit.
func (f *limitFlags) flags(fs *pflag.FlagSet, who string) {
	fs.StringVarP(&f.memory, "memory", "m", "", "let "+who+" use at most this much memory, a `SIZE` such as 512m or 2g")
	fs.StringVar(&f.swap, "memory-swap", "", "the same for memory and swap together, a `SIZE`; -1 is no limit of swap (default: twice --memory)")
	fs.StringVar(&f.cpus, "cpus", "", "let "+who+" use at most this `NUMBER` of processors, as in 1.5")
	fs.Uint64VarP(&f.shares, "cpu-shares", "c", 0, "the `WEIGHT` of "+who+" where processors are short; everybody has 1024")
	fs.Int64Var(&f.period, "cpu-period", 0, "the period of --cpu-quota in `MICROSECONDS` (default: 100000)")
	fs.Int64Var(&f.quota, "cpu-quota", 0, "let "+who+" use at most this many `MICROSECONDS` of processors each period")
	fs.StringVar(&f.cpuset, "cpuset-cpus", "", "let "+who+" use these `PROCESSORS` alone, as in 0-2,4")
	fs.StringVar(&f.mems, "cpuset-mems", "", "let "+who+" use these memory `NODES` alone")
	fs.Int64Var(&f.pids, "pids-limit", 0, "let "+who+" have at most this `NUMBER` of processes and threads; -1 is no limit")
	fs.StringVar(&f.shmText, "shm-size", "", "give "+who+" a /dev/shm of this `SIZE` (default: 64m)")
	fs.StringArrayVar(&f.limitTexts, "ulimit", nil, "set a resource limit of "+who+", `NAME=SOFT[:HARD]`; -1 is none (may be repeated)")
}

func (f *limitFlags) check() error {
	for _, text := range f.limitTexts {
		l, err := parseLimit(text)
		if err != nil {
			return usagef("--ulimit=%s: %v", text, err)
		}
		f.limits = append(f.limits, l)
	}
	if err := f.checkShm(); err != nil {
		return err
	}
	if err := f.checkMemory(); err != nil {
		return err
	}
	return f.checkCPU()
}

func (f *limitFlags) checkShm() error {
	if f.shmText == "" {
		return nil
	}
	n, err := parser.ParseSize(f.shmText)
	if err != nil || n == 0 {
		return usagef("--shm-size=%s: it takes a size such as 256m or 1g", f.shmText)
	}
	f.shmSize = n
	return nil
}

// leastMemory is what docker wants a limit to be at least.
const leastMemory = 6 << 20

func (f *limitFlags) checkMemory() error {
	r := &f.resources
	var err error
	if f.memory != "" {
		if r.Memory, err = parser.ParseSize(f.memory); err != nil || r.Memory < leastMemory {
			return usagef("--memory=%s: it takes a size such as 512m or 2g, 6m at least", f.memory)
		}
	}
	switch {
	case f.swap == "":
		return nil
	case f.memory == "":
		return usagef("--memory-swap is the limit of memory and swap together: give --memory too")
	case f.swap == "-1":
		r.Swap = -1
		return nil
	}
	if r.Swap, err = parser.ParseSize(f.swap); err != nil || r.Swap < r.Memory {
		return usagef("--memory-swap=%s: it takes a size that is not below --memory, or -1", f.swap)
	}
	return nil
}

func (f *limitFlags) checkCPU() error {
	r := &f.resources
	if f.cpus != "" {
		n, err := strconv.ParseFloat(f.cpus, 64)
		if err != nil || !(n >= 0.01) || n > 1<<16 {
			return usagef("--cpus=%s: it takes a number of processors such as 0.5 or 2", f.cpus)
		}
		if f.quota != 0 || f.period != 0 {
			return usagef("--cpus says what --cpu-quota and --cpu-period say: give one of them")
		}
		r.CPUQuota = int64(math.Round(n * 100_000))
	}
	if f.quota != 0 || f.period != 0 {
		if f.quota < 1000 || f.period != 0 && (f.period < 1000 || f.period > 1_000_000) {
			return usagef("--cpu-quota is 1000 microseconds or more, --cpu-period 1000 to 1000000")
		}
		r.CPUQuota, r.CPUPeriod = f.quota, uint64(f.period)
	}
	r.CPUShares = f.shares
	return f.checkSets()
}

// checkSets looks at the flags that choose processors, and the number of processes.
func (f *limitFlags) checkSets() error {
	r := &f.resources
	for _, set := range []struct{ flag, text string }{{"--cpuset-cpus", f.cpuset}, {"--cpuset-mems", f.mems}} {
		if _, err := executor.ParseCPUs(set.text); err != nil {
			return usagef("%s=%s: it takes numbers and ranges such as 0-2,4", set.flag, set.text)
		}
	}
	if have := onlineCPUs(); have != "" && !amongCPUs(f.cpuset, have) {
		return usagef("--cpuset-cpus=%s: this machine has the processors %s", f.cpuset, have)
	}
	if f.pids < -1 {
		return usagef("--pids-limit=%d: it takes a number, or -1 for no limit", f.pids)
	}
	r.CPUs, r.Mems, r.PIDs = f.cpuset, f.mems, f.pids
	return nil
}

// tell says in a line what limits come to where there is no cgroup for them.
func (f *limitFlags) tell(w io.Writer, e *executor.Executor) {
	if e == nil || f.resources == (executor.Resources{}) {
		return
	}
	err := e.CanLimit(f.resources)
	if err == nil {
		return
	}
	var kept, dropped []string
	for _, l := range []struct {
		flag  string
		asked bool
		in    string
	}{
		{"--memory", f.memory != "", "the data of each process (RLIMIT_DATA)"},
		{"--pids-limit", f.pids > 0, "the processes of the user, root excepted (RLIMIT_NPROC)"},
		{"--cpus", f.cpus != "" || f.quota != 0, "whole processors"},
		{"--cpuset-cpus", f.cpuset != "", "the processors that commands start on"},
		{"--cpu-shares", f.shares != 0, ""},
		{"--cpuset-mems", f.mems != "", ""},
	} {
		switch {
		case l.asked && l.in != "":
			kept = append(kept, l.flag+" limits "+l.in)
		case l.asked:
			dropped = append(dropped, l.flag+" has no effect")
		}
	}
	fmt.Fprintf(w, "note: %v, so %s\n", err, strings.Join(append(kept, dropped...), ", "))
}

// onlineCPUs lists the processors of this machine, "" if they are not known.
func onlineCPUs() string {
	text, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// amongCPUs reports whether all of some processors are among others.
func amongCPUs(some, all string) bool {
	want, err1 := executor.ParseCPUs(some)
	have, err2 := executor.ParseCPUs(all)
	missing := func(n uint64) bool { return !slices.Contains(have, n) }
	return err1 != nil || err2 != nil || !slices.ContainsFunc(want, missing)
}
