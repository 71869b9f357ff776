package seccomp

import "golang.org/x/sys/unix"

// The offsets of struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// assembler writes instructions. Conditional jumps reach the next two instructions
// alone, and unconditional ones any, so that no distance is too far.
type assembler struct {
	code   []unix.SockFilter
	places []int         // of labels
	jumps  map[int]label // instructions to be told where a label is
}

type label int

func newAssembler() *assembler { return &assembler{jumps: map[int]label{}} }

func (a *assembler) label() label {
	a.places = append(a.places, -1)
	return label(len(a.places) - 1)
}

// place puts a label before the next instruction.
func (a *assembler) place(l label) { a.places[l] = len(a.code) }

func (a *assembler) emit(code uint16, jt, jf uint8, k uint32) {
	a.code = append(a.code, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
}

func (a *assembler) load(offset uint32) {
	a.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, offset)
}

func (a *assembler) and(mask uint32) { a.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, 0, 0, mask) }

func (a *assembler) ret(action uint32) { a.emit(unix.BPF_RET|unix.BPF_K, 0, 0, action) }

func (a *assembler) jump(to label) {
	a.jumps[len(a.code)] = to
	a.emit(unix.BPF_JMP|unix.BPF_JA, 0, 0, 0)
}

// jumpIf jumps where the comparison (unix.BPF_JEQ, JGT, JGE) with k holds, and goes on
// where it does not.
func (a *assembler) jumpIf(comparison uint16, k uint32, to label) {
	a.emit(unix.BPF_JMP|comparison|unix.BPF_K, 0, 1, k)
	a.jump(to)
}

// jumpUnless is the opposite of jumpIf.
func (a *assembler) jumpUnless(comparison uint16, k uint32, to label) {
	a.emit(unix.BPF_JMP|comparison|unix.BPF_K, 1, 0, k)
	a.jump(to)
}

// link fills in the jumps.
func (a *assembler) link() []unix.SockFilter {
	for at, to := range a.jumps {
		a.code[at].K = uint32(a.places[to] - at - 1)
	}
	return a.code
}
