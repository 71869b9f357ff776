package executor

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Resources are how much of the machine a step may take. The zero value is no limit.
type Resources struct {
	Memory int64 // bytes
	// Swap is memory and swap together in bytes; -1 is no limit of swap, 0 twice Memory.
	Swap      int64
	CPUShares uint64 // 1024 is what everybody has
	CPUPeriod uint64 // microseconds; 0 is 100ms
	CPUQuota  int64  // microseconds of every period, of all processors together
	CPUs      string // the processors that it may use, as in "0-2,4"
	Mems      string // the same for memory nodes
	PIDs      int64  // processes and threads
}

// defaultPeriod is the kernel's.
const defaultPeriod = 100_000

// spec is the part of a runtime spec that says it; nil says nothing.
func (r Resources) spec() *specs.LinuxResources {
	if r == (Resources{}) {
		return nil
	}
	var s specs.LinuxResources
	if r.Memory > 0 || r.Swap != 0 {
		s.Memory = &specs.LinuxMemory{}
		if r.Memory > 0 {
			s.Memory.Limit = new(r.Memory)
		}
		if r.Swap != 0 {
			s.Memory.Swap = new(r.Swap)
		} else if r.Memory > 0 {
			s.Memory.Swap = new(2 * r.Memory)
		}
	}
	if r.CPUShares > 0 || r.CPUPeriod > 0 || r.CPUQuota != 0 || r.CPUs != "" || r.Mems != "" {
		s.CPU = &specs.LinuxCPU{Cpus: r.CPUs, Mems: r.Mems}
		if r.CPUShares > 0 {
			s.CPU.Shares = new(r.CPUShares)
		}
		if r.CPUQuota > 0 {
			s.CPU.Quota = new(r.CPUQuota)
			s.CPU.Period = new(orDefault(r.CPUPeriod, defaultPeriod))
		}
	}
	if r.PIDs != 0 {
		s.Pids = &specs.LinuxPids{Limit: new(r.PIDs)}
	}
	return &s
}

func orDefault(n, other uint64) uint64 {
	if n == 0 {
		return other
	}
	return n
}

// setting is one file of a cgroup. One that may be missing is of a kernel that
// does not count swap.
type setting struct {
	controller, file, value string
	optional                bool
}

// settings brings the resources of a spec down to files of cgroup v2 or v1, and
// refuses what has none.
func settings(s *specs.LinuxResources, v2 bool) ([]setting, error) {
	if s == nil {
		return nil, nil
	}
	if err := refuseResources(s); err != nil {
		return nil, err
	}
	var list []setting
	if s.Memory != nil {
		list = memorySettings(s.Memory, v2)
	}
	if s.CPU != nil {
		list = append(list, cpuSettings(s.CPU, v2)...)
	}
	if s.Pids != nil && s.Pids.Limit != nil {
		list = append(list, setting{controller: "pids", file: "pids.max", value: pidsMax(*s.Pids.Limit)})
	}
	return list, nil
}

// refuseResources names what of a spec's resources nothing here sets.
func refuseResources(s *specs.LinuxResources) error {
	memory := s.Memory != nil && *s.Memory != specs.LinuxMemory{Limit: s.Memory.Limit, Swap: s.Memory.Swap}
	cpu := s.CPU != nil && *s.CPU != specs.LinuxCPU{Shares: s.CPU.Shares, Quota: s.CPU.Quota, Period: s.CPU.Period, Cpus: s.CPU.Cpus, Mems: s.CPU.Mems}
	if memory || cpu || len(s.Devices)+len(s.HugepageLimits)+len(s.Rdma)+len(s.Unified) > 0 || s.BlockIO != nil || s.Network != nil {
		return errors.New("run spec: the native runner does not support these cgroup limits")
	}
	return nil
}

func memorySettings(m *specs.LinuxMemory, v2 bool) []setting {
	var list []setting
	if m.Limit != nil {
		file := "memory.limit_in_bytes"
		if v2 {
			file = "memory.max"
		}
		list = append(list, setting{controller: "memory", file: file, value: strconv.FormatInt(*m.Limit, 10)})
	}
	if m.Swap == nil {
		return list
	}
	if !v2 { // that of memory must be below it at all times
		return append(list, setting{controller: "memory", file: "memory.memsw.limit_in_bytes", value: strconv.FormatInt(*m.Swap, 10), optional: true})
	}
	swap := *m.Swap
	if m.Limit != nil && swap > 0 {
		swap -= *m.Limit
	}
	return append(list, setting{controller: "memory", file: "memory.swap.max", value: unlimited(swap, "max"), optional: true})
}

// initThreads is how many threads the init process of a step comes to, and some more: it
// is counted with the step, and ends when it can have no thread.
const initThreads = 10

// pidsMax leaves the step as many processes as it is to have.
func pidsMax(limit int64) string {
	if limit > 0 {
		limit += initThreads
	}
	return unlimited(limit, "max")
}

// unlimited words a limit where a negative one is none.
func unlimited(n int64, none string) string {
	if n < 0 {
		return none
	}
	return strconv.FormatInt(n, 10)
}

func cpuSettings(c *specs.LinuxCPU, v2 bool) []setting {
	var list []setting
	if c.Shares != nil && v2 {
		list = append(list, setting{controller: "cpu", file: "cpu.weight", value: strconv.FormatUint(weight(*c.Shares), 10)})
	} else if c.Shares != nil {
		list = append(list, setting{controller: "cpu", file: "cpu.shares", value: strconv.FormatUint(*c.Shares, 10)})
	}
	if c.Quota != nil {
		period := uint64(defaultPeriod)
		if c.Period != nil {
			period = *c.Period
		}
		if v2 {
			list = append(list, setting{controller: "cpu", file: "cpu.max", value: fmt.Sprintf("%s %d", unlimited(*c.Quota, "max"), period)})
		} else {
			list = append(list, setting{controller: "cpu", file: "cpu.cfs_period_us", value: strconv.FormatUint(period, 10)},
				setting{controller: "cpu", file: "cpu.cfs_quota_us", value: strconv.FormatInt(*c.Quota, 10)})
		}
	}
	for _, s := range []setting{{controller: "cpuset", file: "cpuset.cpus", value: c.Cpus}, {controller: "cpuset", file: "cpuset.mems", value: c.Mems}} {
		if s.value != "" {
			list = append(list, s)
		}
	}
	return list
}

// weight brings shares of v1 (2 to 262144) down to a weight of v2 (1 to 10000), as
// the other runtimes do.
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

// substitute limits the processes of a plan one by one, where no cgroup can be had
// for all of them together.
func (p *plan) substitute(s *specs.LinuxResources) {
	if s == nil {
		return
	}
	if s.Memory != nil && s.Memory.Limit != nil {
		p.lower(unix.RLIMIT_DATA, uint64(*s.Memory.Limit))
	}
	if s.Pids != nil && s.Pids.Limit != nil && *s.Pids.Limit > 0 {
		p.lower(unix.RLIMIT_NPROC, uint64(*s.Pids.Limit))
	}
	if s.CPU == nil {
		return
	}
	if cpus, err := ParseCPUs(s.CPU.Cpus); err == nil {
		p.CPUs = cpus
	}
	if s.CPU.Quota != nil && *s.CPU.Quota > 0 && len(p.CPUs) == 0 {
		period := int64(defaultPeriod)
		if s.CPU.Period != nil {
			period = int64(*s.CPU.Period)
		}
		p.CPUs = firstCPUs(int((*s.CPU.Quota + period - 1) / period))
	}
}

// lower adds a limit that is at most n, and never above what we have ourselves:
// raising takes a capability that few have.
func (p *plan) lower(resource int, n uint64) {
	if slices.ContainsFunc(p.Limits, func(l planLimit) bool { return l.Resource == uint64(resource) }) {
		return // it was asked for by its name
	}
	var now unix.Rlimit
	if unix.Getrlimit(resource, &now) == nil {
		n = min(n, now.Max)
	}
	p.Limits = append(p.Limits, planLimit{uint64(resource), n, n})
}

// firstCPUs gives the first n processors that this process may use; none if that
// would be all.
func firstCPUs(n int) []uint64 {
	var have unix.CPUSet
	if unix.SchedGetaffinity(0, &have) != nil || n >= have.Count() {
		return nil
	}
	var list []uint64
	for i := 0; len(list) < n && i < len(have)*bits.UintSize; i++ {
		if have.IsSet(i) {
			list = append(list, uint64(i))
		}
	}
	return list
}

// maxCPU bounds the numbers of processors.
const maxCPU = 1 << 16

// ParseCPUs reads a list of processors, as in "0-2,4". An empty one is none.
func ParseCPUs(text string) ([]uint64, error) {
	var list []uint64
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		a, err1 := strconv.ParseUint(low, 10, 16)
		b, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || a > b || b >= maxCPU {
			return nil, fmt.Errorf("%q is no list of processors such as 0-2,4", text)
		}
		for ; a <= b; a++ {
			list = append(list, a)
		}
	}
	return list, nil
}

// setAffinity keeps this thread, and what it starts, on some processors.
func setAffinity(cpus []uint64) error {
	if len(cpus) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(int(c))
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("keep the command on processors %v: %w", cpus, err)
	}
	return nil
}
