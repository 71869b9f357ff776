package seccomp

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxInstructions is the kernel's limit for one filter.
const maxInstructions = 4096

// instructionSize is that of struct sock_filter.
const instructionSize = 8

// Filter is a program for seccomp(2).
type Filter []unix.SockFilter

// Marshal gives the filter as bytes.
func (f Filter) Marshal() []byte {
	b := make([]byte, 0, len(f)*instructionSize)
	for _, i := range f {
		b = binary.LittleEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.LittleEndian.AppendUint32(b, i.K)
	}
	return b
}

// Unmarshal reads what Marshal wrote.
func Unmarshal(b string) Filter {
	f := make(Filter, len(b)/instructionSize)
	for i := range f {
		p := []byte(b[i*instructionSize : (i+1)*instructionSize])
		f[i] = unix.SockFilter{Code: binary.LittleEndian.Uint16(p), Jt: p[2], Jf: p[3], K: binary.LittleEndian.Uint32(p[4:])}
	}
	return f
}

// verdict is what happens to one system call: the action of the first condition that
// holds, or action.
type verdict struct {
	conditions []condition
	action     uint32
}

type condition struct {
	args   []specs.LinuxSeccompArg
	action uint32
}

// span are the system calls from start to the next span's start.
type span struct {
	start uint32
	verdict
}

// Compile makes the filter of a spec for this program's architecture and those that the
// spec names beside it. A program of another one is killed.
func Compile(s *specs.LinuxSeccomp) (Filter, error) {
	return compile(s, unix.SECCOMP_RET_KILL_PROCESS)
}

// Notify makes a filter that asks a supervisor about some system calls, has rules for others,
// and lets all else pass, what programs of other architectures call too.
func Notify(names []string, rules ...specs.LinuxSyscall) (Filter, error) {
	return compile(&specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, Architectures: beside[runtime.GOARCH],
		Syscalls: append(rules, specs.LinuxSyscall{Names: names, Action: specs.ActNotify}),
	}, unix.SECCOMP_RET_ALLOW)
}

func compile(s *specs.LinuxSeccomp, foreign uint32) (Filter, error) {
	own, err := native()
	if err != nil {
		return nil, err
	}
	if len(s.Flags) > 0 || s.ListenerPath != "" {
		return nil, fmt.Errorf("seccomp flags and listeners are not supported")
	}
	list := []arch{own}
	for _, name := range s.Architectures {
		a, ok := findArch(func(a arch) bool { return a.name == name })
		if ok && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	a := newAssembler()
	a.load(offsetArch)
	blocks := make([]label, len(list))
	for i, ar := range list {
		blocks[i] = a.label()
		a.jumpIf(unix.BPF_JEQ, ar.audit, blocks[i])
	}
	a.ret(foreign)
	for i, ar := range list {
		spans, err := ar.spans(s)
		if err != nil {
			return nil, err
		}
		a.place(blocks[i])
		a.load(offsetNumber)
		a.tree(spans, ar.bigEndian)
	}
	code := a.link()
	if len(code) > maxInstructions {
		return nil, fmt.Errorf("the seccomp profile takes %d instructions, and the kernel takes %d", len(code), maxInstructions)
	}
	return code, nil
}

// x32Bit marks the numbers of x32 on amd64.
const x32Bit = 0x40000000

// spans are the verdicts on all numbers of an architecture.
func (a arch) spans(s *specs.LinuxSeccomp) ([]span, error) {
	fallback, err := actionOf(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	verdicts, err := a.verdicts(s, fallback)
	if err != nil {
		return nil, err
	}
	newer := fallback
	if s.DefaultAction == specs.ActErrno {
		newer = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	spans := []span{{0, verdict{action: fallback}}}
	next := uint32(0)
	for _, n := range sorted(verdicts) {
		if n > next {
			spans = append(spans, span{next, verdict{action: fallback}})
		}
		spans = append(spans, span{n, *verdicts[n]})
		next = n + 1
	}
	spans = append(spans, span{next, verdict{action: newer}})
	if a.name == specs.ArchX86_64 {
		spans = append(spans, span{x32Bit, verdict{action: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}})
	}
	return merge(spans), nil
}

func sorted(verdicts map[uint32]*verdict) []uint32 {
	var list []uint32
	for n := range verdicts {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// merge makes one of spans that say the same.
func merge(spans []span) []span {
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 {
			last := &out[n-1]
			if last.start == s.start {
				out = out[:n-1]
			} else if last.action == s.action && len(last.conditions)+len(s.conditions) == 0 {
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// verdicts are those that the rules of a spec give by number.
func (a arch) verdicts(s *specs.LinuxSeccomp, fallback uint32) (map[uint32]*verdict, error) {
	numbers := a.numbers()
	out := map[uint32]*verdict{}
	settled := map[uint32]bool{}
	for _, rule := range s.Syscalls {
		action, err := actionOf(rule.Action, rule.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, name := range rule.Names {
			n, ok := numbers[name]
			if !ok {
				continue // another architecture's, or a newer kernel's
			}
			v := out[n]
			if v == nil {
				v = &verdict{action: fallback}
				out[n] = v
			}
			if len(rule.Args) > 0 {
				v.conditions = append(v.conditions, split(rule.Args, action)...)
			} else if !settled[n] {
				v.action, settled[n] = action, true
			}
		}
	}
	return out, nil
}

// split makes one condition of a list of comparisons, or, as runc has it, one of each if
// two of them are about the same argument.
func split(args []specs.LinuxSeccompArg, action uint32) []condition {
	indexes := slices.Clone(args)
	slices.SortFunc(indexes, func(a, b specs.LinuxSeccompArg) int { return cmp.Compare(a.Index, b.Index) })
	one := slices.CompactFunc(indexes, func(a, b specs.LinuxSeccompArg) bool { return a.Index == b.Index })
	if len(one) == len(args) {
		return []condition{{args, action}}
	}
	var list []condition
	for _, a := range args {
		list = append(list, condition{[]specs.LinuxSeccompArg{a}, action})
	}
	return list
}

var actions = map[specs.LinuxSeccompAction]uint32{
	specs.ActAllow:       unix.SECCOMP_RET_ALLOW,
	specs.ActErrno:       unix.SECCOMP_RET_ERRNO,
	specs.ActKill:        unix.SECCOMP_RET_KILL_THREAD,
	specs.ActKillThread:  unix.SECCOMP_RET_KILL_THREAD,
	specs.ActKillProcess: unix.SECCOMP_RET_KILL_PROCESS,
	specs.ActTrap:        unix.SECCOMP_RET_TRAP,
	specs.ActTrace:       unix.SECCOMP_RET_TRACE,
	specs.ActLog:         unix.SECCOMP_RET_LOG,
	specs.ActNotify:      unix.SECCOMP_RET_USER_NOTIF,
}

// maxErrno is the highest error number that a system call can give.
const maxErrno = 4095

func actionOf(name specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	action, ok := actions[name]
	if !ok {
		return 0, fmt.Errorf("unknown seccomp action %q", name)
	}
	if action != unix.SECCOMP_RET_ERRNO && action != unix.SECCOMP_RET_TRACE {
		return action, nil
	}
	data := uint(unix.EPERM)
	if errno != nil {
		data = *errno
	}
	if data > maxErrno {
		return 0, fmt.Errorf("%d is no error number", data)
	}
	return action | uint32(data), nil
}

// tree asks for the number in a binary search.
func (a *assembler) tree(spans []span, bigEndian bool) {
	if len(spans) == 1 {
		a.verdict(spans[0].verdict, bigEndian)
		return
	}
	half := len(spans) / 2
	upper := a.label()
	a.jumpIf(unix.BPF_JGE, spans[half].start, upper)
	a.tree(spans[:half], bigEndian)
	a.place(upper)
	a.tree(spans[half:], bigEndian)
}

func (a *assembler) verdict(v verdict, bigEndian bool) {
	for _, c := range v.conditions {
		next := a.label()
		for _, arg := range c.args {
			a.compare(arg, bigEndian, next)
		}
		a.ret(c.action)
		a.place(next)
	}
	a.ret(v.action)
}

// compare goes on where the comparison holds, and jumps where it does not.
func (a *assembler) compare(arg specs.LinuxSeccompArg, bigEndian bool, otherwise label) {
	low := uint32(offsetArgs + 8*arg.Index)
	high := low + 4
	if bigEndian {
		low, high = high, low
	}
	value, mask := arg.Value, ^uint64(0)
	holds := a.label()
	yes, no := holds, otherwise
	comparison := uint16(unix.BPF_JEQ)
	switch arg.Op {
	case specs.OpMaskedEqual:
		mask, value = arg.Value, arg.ValueTwo
	case specs.OpNotEqual:
		yes, no = no, yes
	case specs.OpGreaterEqual:
		comparison = unix.BPF_JGE
	case specs.OpGreaterThan:
		comparison = unix.BPF_JGT
	case specs.OpLessThan:
		comparison, yes, no = unix.BPF_JGE, no, yes
	case specs.OpLessEqual:
		comparison, yes, no = unix.BPF_JGT, no, yes
	}
	a.load(high)
	if mask != ^uint64(0) {
		a.and(uint32(mask >> 32))
	}
	if comparison != unix.BPF_JEQ {
		a.jumpIf(unix.BPF_JGT, uint32(value>>32), yes)
	}
	a.jumpUnless(unix.BPF_JEQ, uint32(value>>32), no)
	a.load(low)
	if mask != ^uint64(0) {
		a.and(uint32(mask))
	}
	a.jumpIf(comparison, uint32(value), yes)
	a.jump(no)
	a.place(holds)
}
