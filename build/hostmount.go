package build

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/parser"
)

// hostType is the type of a mount that the command line asks for: a directory of this
// machine.
const hostType = "host"

// hostMounts are the mounts of a step that the command line asks for. Each step reads
// the directories anew: one before it may have written to them.
func (r *run) hostMounts() ([]*stepMount, error) {
	var list []*stepMount
	for _, h := range r.req.Run.HostMounts {
		files, err := r.openDir(h.Source, nil)
		if err != nil {
			return nil, &Hinted{fmt.Errorf("--mount-host=%s: %w", h.Source, err), "it takes a directory of this machine"}
		}
		list = append(list, &stepMount{
			Mount: parser.Mount{Type: hostType, Source: "/", ReadOnly: h.ReadOnly, Raw: h.Source}, r: r, target: h.Target, files: files, dir: h.Source,
		})
	}
	return list, nil
}

// identifyHost finds out what directories of the machine hold before the step may change
// that.
func (o *runOp) identifyHost(ctx context.Context) error {
	for _, m := range o.p.mounts {
		if m.Type != hostType {
			continue
		}
		if err := m.identify(ctx); err != nil {
			return fmt.Errorf("--mount-host=%s: %w", m.Raw, err)
		}
	}
	return nil
}

// host shows a directory of the machine itself.
func (s *scene) host(m *stepMount) error {
	tree, err := executor.OpenTree(m.dir)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() { tree.Close() })
	s.proc.Binds = append(s.proc.Binds, executor.Bind{Target: m.target, Tree: tree, ReadOnly: m.ReadOnly})
	return nil
}
