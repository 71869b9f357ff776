package executor

import (
	"debug/elf"
	"encoding/binary"
	"io"
	"strings"
)

// programs are the ELF headers of architectures.
var programs = map[string]struct {
	machine elf.Machine
	class   elf.Class
	big     bool
}{
	"amd64":    {elf.EM_X86_64, elf.ELFCLASS64, false},
	"386":      {elf.EM_386, elf.ELFCLASS32, false},
	"arm64":    {elf.EM_AARCH64, elf.ELFCLASS64, false},
	"arm":      {elf.EM_ARM, elf.ELFCLASS32, false},
	"riscv64":  {elf.EM_RISCV, elf.ELFCLASS64, false},
	"ppc64le":  {elf.EM_PPC64, elf.ELFCLASS64, false},
	"ppc64":    {elf.EM_PPC64, elf.ELFCLASS64, true},
	"s390x":    {elf.EM_S390, elf.ELFCLASS64, true},
	"mips64le": {elf.EM_MIPS, elf.ELFCLASS64, false},
	"mips64":   {elf.EM_MIPS, elf.ELFCLASS64, true},
	"loong64":  {elf.EM_LOONGARCH, elf.ELFCLASS64, false},
}

// programHeader is how a program for arch begins, as far as handlers look; nil
// for an architecture that is not known.
func programHeader(arch string) []byte {
	p, ok := programs[arch]
	if !ok {
		return nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	data := elf.ELFDATA2LSB
	if p.big {
		order, data = binary.BigEndian, elf.ELFDATA2MSB
	}
	h := make([]byte, 256)
	copy(h, elf.ELFMAG)
	h[elf.EI_CLASS], h[elf.EI_DATA], h[elf.EI_VERSION] = byte(p.class), byte(data), byte(elf.EV_CURRENT)
	order.PutUint16(h[16:], uint16(elf.ET_EXEC))
	order.PutUint16(h[18:], uint16(p.machine))
	order.PutUint32(h[20:], uint32(elf.EV_CURRENT))
	return h
}

// inspectELF returns the dynamic loader that an ELF program names, and its architecture.
func inspectELF(r io.ReaderAt) (interpreter, arch string) {
	f, err := elf.NewFile(r)
	if err != nil {
		return "", ""
	}
	arch = f.Machine.String()
	for name, p := range programs {
		if p.machine == f.Machine && p.class == f.Class && p.big == (f.Data == elf.ELFDATA2MSB) {
			arch = name
		}
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		name, err := io.ReadAll(p.Open())
		if err != nil {
			return "", arch
		}
		return strings.TrimRight(string(name), "\x00"), arch
	}
	return "", arch
}
