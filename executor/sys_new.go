//go:build arm64 || riscv64 || loong64

package executor

// System calls that only older architectures have.
const (
	sysReadlink = -1
)
