package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// possible refuses what cannot run here, before any work.
func (o *runOp) possible(ctx context.Context) error {
	if o.r.b.Executor == nil {
		return &Hinted{fmt.Errorf("RUN is not possible here: %s", o.r.b.NoRun), "FROM, COPY, ADD and config instructions work without it"}
	}
	emulator, err := emulatorFor(os.DirFS(executor.BinfmtDir), image.HostPlatform(), o.step.Platform)
	if err != nil || emulator == nil || emulator.Fixed {
		return err
	}
	return o.hasInterpreter(ctx, emulator)
}

// emulatorFor gives what will run a platform's programs on this machine: nil for the
// machine itself, and where only running the step will tell. files holds the
// kernel's handlers.
func emulatorFor(files fs.FS, host, p ocispec.Platform) (*executor.Emulator, error) {
	if p.OS != host.OS {
		return nil, &Hinted{fmt.Errorf("RUN for %s cannot be executed on %s", image.FormatPlatform(p), image.FormatPlatform(host)), "build on such a machine"}
	}
	if native(host.Architecture, p.Architecture) {
		return nil, nil
	}
	emulator, err := executor.FindEmulator(files, p.Architecture)
	switch {
	case errors.Is(err, executor.ErrNoBinfmt):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for an emulator: %w", err)
	case emulator == nil:
		return nil, foreign(host, p, errors.New("the kernel has no emulator for it"))
	}
	return emulator, nil
}

// runsHere reports whether programs of a platform run on this machine.
func runsHere(p ocispec.Platform) bool {
	host := image.HostPlatform()
	emulator, err := emulatorFor(os.DirFS(executor.BinfmtDir), host, p)
	return err == nil && (emulator != nil || native(host.Architecture, p.Architecture))
}

// native tells whether a processor runs programs of an architecture itself.
func native(host, arch string) bool {
	return host == arch || host == "amd64" && arch == "386" || host == "arm64" && arch == "arm"
}

// hasInterpreter looks for an emulator that the kernel will look up by its path,
// which inside a step is a path of the image.
func (o *runOp) hasInterpreter(ctx context.Context, e *executor.Emulator) error {
	layers, err := o.state.layers(ctx)
	if err != nil {
		return err
	}
	t, err := o.r.bytes.tree(ctx, layers)
	if err != nil {
		return err
	}
	if _, _, err := find(t, clean(e.Interpreter)); err != nil {
		return foreign(image.HostPlatform(), o.step.Platform, fmt.Errorf("the kernel's emulator %s is registered without the flag F, so that %s would have to be in the image", e.Name, e.Interpreter))
	}
	return nil
}

// foreign is the error of a step whose programs this machine cannot run.
func foreign(host, p ocispec.Platform, err error) error {
	err = fmt.Errorf("RUN for %s cannot be executed on %s: %w", image.FormatPlatform(p), image.FormatPlatform(host), err)
	return &Hinted{err, emulatorHint(p.Architecture)}
}

// emulatorHint tells how this machine comes to run programs of an architecture.
func emulatorHint(arch string) string {
	return "register an emulator: `apt-get install qemu-user-static binfmt-support`, or `docker run --privileged --rm tonistiigi/binfmt --install " +
		arch + "`; or cross-compile in a stage that begins with FROM --platform=$BUILDPLATFORM"
}
