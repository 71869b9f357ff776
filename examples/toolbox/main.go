// Command toolbox is a POSIX shell and the commonest core utilities in one static program, so that the examples have an image
// to build on without a network. It is run by a link with the name of an applet, as `toolbox APPLET ARG...`, or as
// `toolbox --install DIR`, which makes those links. The shell is mvdan.cc/sh and most utilities are u-root's.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/u-root/u-root/pkg/core"
	"github.com/u-root/u-root/pkg/core/base64"
	"github.com/u-root/u-root/pkg/core/cat"
	"github.com/u-root/u-root/pkg/core/cp"
	"github.com/u-root/u-root/pkg/core/find"
	"github.com/u-root/u-root/pkg/core/gzip"
	"github.com/u-root/u-root/pkg/core/ls"
	"github.com/u-root/u-root/pkg/core/mkdir"
	"github.com/u-root/u-root/pkg/core/mktemp"
	"github.com/u-root/u-root/pkg/core/mv"
	"github.com/u-root/u-root/pkg/core/rm"
	"github.com/u-root/u-root/pkg/core/shasum"
	"github.com/u-root/u-root/pkg/core/tar"
	"github.com/u-root/u-root/pkg/core/touch"
	"github.com/u-root/u-root/pkg/core/xargs"
)

// An applet is one utility. Its first argument is its name.
type applet func(args []string) error

// exitCode ends the program without a message.
type exitCode int

// Error says the code; main does not print it.
func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// applets lists every utility by name.
func applets() map[string]applet {
	all := map[string]applet{
		"sh": shell,
		"[":  builtin, "echo": builtin, "false": builtin, "printf": builtin, "pwd": builtin, "test": builtin, "true": builtin,
		"cut": cut, "grep": grep, "head": head, "seq": seq, "sort": sortLines, "tail": tail, "tee": tee, "tr": tr, "uniq": uniq, "wc": wc,
		"basename": basename, "chmod": changeMode, "chown": chown, "date": date, "dirname": dirname, "env": env, "id": id, "ln": ln,
		"readlink": readlink, "rmdir": rmdir, "sleep": sleep, "uname": uname,
		"gzip": compress, "gunzip": compress,
	}
	for name, command := range map[string]func() core.Command{
		"base64": base64.New, "cat": cat.New, "cp": cp.New, "find": find.New, "ls": ls.New, "mkdir": mkdir.New,
		"mktemp": mktemp.New, "mv": mv.New, "rm": rm.New, "shasum": shasum.New, "tar": tar.New, "touch": touch.New, "xargs": xargs.New,
	} {
		all[name] = func(args []string) error { return command().Run(args[1:]...) }
	}
	return all
}

// compress is gzip under either of its names.
func compress(args []string) error {
	return gzip.New(args[0]).Run(args[1:]...)
}

func main() {
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	all := applets()
	if _, ok := all[args[0]]; !ok {
		args = args[1:]
	}
	err := run(all, args)
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		os.Exit(1)
	}
}

// run carries out one applet, or the installation.
func run(all map[string]applet, args []string) error {
	if len(args) == 0 {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			fmt.Println(name)
		}
		return nil
	}
	if args[0] == "--install" && len(args) == 2 {
		return install(all, args[1])
	}
	run, ok := all[args[0]]
	if !ok {
		return errors.New("no such applet")
	}
	return run(args)
}

// install makes a link to this program for every applet. What has the name of an applet already stays.
func install(all map[string]applet, dir string) error {
	target, err := os.Executable()
	if err != nil {
		return err
	}
	if filepath.Dir(target) == filepath.Clean(dir) {
		target = filepath.Base(target)
	}
	for name := range all {
		err := os.Symlink(target, filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
