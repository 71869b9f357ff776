package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"github.com/u-root/u-root/pkg/core/chmod"
	"golang.org/x/sys/unix"
)

func basename(args []string) error {
	if len(args) < 2 {
		return usage("basename PATH [SUFFIX]")
	}
	name := filepath.Base(args[1])
	if len(args) > 2 && name != args[2] {
		name = strings.TrimSuffix(name, args[2])
	}
	fmt.Println(name)
	return nil
}

func dirname(args []string) error {
	if len(args) != 2 {
		return usage("dirname PATH")
	}
	fmt.Println(filepath.Dir(args[1]))
	return nil
}

func ln(args []string) error {
	var symbolic, force, plain bool
	rest, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&symbolic, "symbolic", "s", false, "symbolic links")
		f.BoolVarP(&force, "force", "f", false, "replace what is there")
		f.BoolVarP(&plain, "no-dereference", "n", false, "a link to a directory is no directory")
	})
	if err != nil {
		return err
	}
	if len(rest) == 1 {
		rest = append(rest, ".")
	}
	if len(rest) < 2 {
		return usage("ln [-sfn] TARGET... LINK")
	}
	targets, dest := rest[:len(rest)-1], rest[len(rest)-1]
	info, err := os.Stat(dest)
	if plain {
		info, err = os.Lstat(dest)
	}
	into := err == nil && info.IsDir()
	if len(targets) > 1 && !into {
		return fmt.Errorf("%s: not a directory", dest)
	}
	for _, target := range targets {
		link := dest
		if into {
			link = filepath.Join(dest, filepath.Base(target))
		}
		if force {
			_ = os.Remove(link)
		}
		make := os.Link
		if symbolic {
			make = os.Symlink
		}
		if err := make(target, link); err != nil {
			return err
		}
	}
	return nil
}

func readlink(args []string) error {
	var follow bool
	paths, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&follow, "canonicalize", "f", false, "follow every link")
	})
	if err != nil {
		return err
	}
	for _, path := range paths {
		read := os.Readlink
		if follow {
			read = func(path string) (string, error) {
				path, err := filepath.EvalSymlinks(path)
				if err != nil {
					return "", err
				}
				return filepath.Abs(path)
			}
		}
		target, err := read(path)
		if err != nil {
			return exitCode(1)
		}
		fmt.Println(target)
	}
	return nil
}

func rmdir(args []string) error {
	for _, path := range args[1:] {
		if err := syscall.Rmdir(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// changeMode is u-root's chmod with -R, and with the set-id and sticky bits, which that refuses.
func changeMode(args []string) error {
	rest := args[1:]
	recursive := len(rest) > 0 && rest[0] == "-R"
	if recursive {
		rest = rest[1:]
	}
	if len(rest) < 2 {
		return usage("chmod [-R] MODE FILE...")
	}
	mode, err := strconv.ParseUint(rest[0], 8, 12)
	if err != nil {
		if recursive {
			rest = append([]string{"--recursive"}, rest...)
		}
		return chmod.New().Run(rest...)
	}
	for _, path := range rest[1:] {
		if err := forEach(path, recursive, func(path string) error { return syscall.Chmod(path, uint32(mode)) }); err != nil {
			return err
		}
	}
	return nil
}

// forEach calls do for a path and, when recursive, for all that is below it but symbolic links.
func forEach(path string, recursive bool, do func(path string) error) error {
	if !recursive {
		return do(path)
	}
	return filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type() == fs.ModeSymlink {
			return err
		}
		return do(path)
	})
}

func chown(args []string) error {
	var recursive, noFollow bool
	rest, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&recursive, "recursive", "R", false, "directories with all that is in them")
		f.BoolVarP(&noFollow, "no-dereference", "h", false, "links themselves")
	})
	if err != nil {
		return err
	}
	if len(rest) < 2 {
		return usage("chown [-Rh] USER[:GROUP] FILE...")
	}
	uid, gid, err := lookupOwner(rest[0])
	if err != nil {
		return err
	}
	change := os.Chown
	if noFollow {
		change = os.Lchown
	}
	for _, path := range rest[1:] {
		if err := forEach(path, recursive, func(path string) error { return change(path, uid, gid) }); err != nil {
			return err
		}
	}
	return nil
}

// lookupOwner reads "user", "user:group", ":group", "user:" or numbers. What is not named is -1.
func lookupOwner(spec string) (uid, gid int, err error) {
	uid, gid = -1, -1
	name, group, _ := strings.Cut(spec, ":")
	if name != "" {
		if uid, err = strconv.Atoi(name); err != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return 0, 0, err
			}
			uid, _ = strconv.Atoi(u.Uid)
			if strings.HasSuffix(spec, ":") {
				gid, _ = strconv.Atoi(u.Gid)
			}
		}
	}
	if group != "" {
		if gid, err = strconv.Atoi(group); err != nil {
			g, err := user.LookupGroup(group)
			if err != nil {
				return 0, 0, err
			}
			gid, _ = strconv.Atoi(g.Gid)
		}
	}
	return uid, gid, nil
}

func env(args []string) error {
	vars := os.Environ()
	rest := args[1:]
	if len(rest) > 0 && (rest[0] == "-i" || rest[0] == "-") {
		vars, rest = nil, rest[1:]
	}
	for len(rest) > 0 && strings.Contains(rest[0], "=") {
		vars, rest = append(vars, rest[0]), rest[1:]
	}
	if len(rest) == 0 {
		return writeLines(vars)
	}
	path, err := exec.LookPath(rest[0])
	if err != nil {
		fmt.Fprintf(os.Stderr, "env: %v\n", err)
		return exitCode(127)
	}
	return syscall.Exec(path, rest, vars)
}

func id(args []string) error {
	var userOnly, groupOnly, groups, names bool
	if _, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&userOnly, "user", "u", false, "the user alone")
		f.BoolVarP(&groupOnly, "group", "g", false, "the group alone")
		f.BoolVarP(&groups, "groups", "G", false, "all groups")
		f.BoolVarP(&names, "name", "n", false, "names, not numbers")
	}); err != nil {
		return err
	}
	all := []int{os.Getegid()}
	more, err := os.Getgroups()
	if err != nil {
		return err
	}
	for _, g := range more {
		if !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	show := func(n int, name string) string {
		if names {
			return name
		}
		return strconv.Itoa(n)
	}
	text := make([]string, len(all))
	switch {
	case userOnly:
		fmt.Println(show(os.Geteuid(), userName(os.Geteuid())))
	case groupOnly:
		fmt.Println(show(all[0], groupName(all[0])))
	case groups:
		for i, g := range all {
			text[i] = show(g, groupName(g))
		}
		fmt.Println(strings.Join(text, " "))
	default:
		for i, g := range all {
			text[i] = fmt.Sprintf("%d(%s)", g, groupName(g))
		}
		fmt.Printf("uid=%d(%s) gid=%s groups=%s\n", os.Geteuid(), userName(os.Geteuid()), text[0], strings.Join(text, ","))
	}
	return nil
}

// userName is a user's name, or the number where there is none.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// groupName is a group's name, or the number where there is none.
func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}

func sleep(args []string) error {
	for _, arg := range args[1:] {
		if !strings.ContainsAny(arg, "smh") {
			arg += "s"
		}
		d, err := time.ParseDuration(arg)
		if err != nil {
			return usage("sleep SECONDS")
		}
		time.Sleep(d)
	}
	return nil
}

func uname(args []string) error {
	var all, system, node, release, build, machine bool
	if _, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&all, "all", "a", false, "everything")
		f.BoolVarP(&system, "kernel-name", "s", false, "the kernel")
		f.BoolVarP(&node, "nodename", "n", false, "the host's name")
		f.BoolVarP(&release, "kernel-release", "r", false, "the kernel's release")
		f.BoolVarP(&build, "kernel-version", "v", false, "the kernel's version")
		f.BoolVarP(&machine, "machine", "m", false, "the hardware")
	}); err != nil {
		return err
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	var row []string
	for _, part := range []struct {
		wanted bool
		text   []byte
	}{
		{system || !node && !release && !build && !machine, u.Sysname[:]},
		{node, u.Nodename[:]},
		{release, u.Release[:]},
		{build, u.Version[:]},
		{machine, u.Machine[:]},
	} {
		if part.wanted || all {
			row = append(row, unix.ByteSliceToString(part.text))
		}
	}
	fmt.Println(strings.Join(row, " "))
	return nil
}

func date(args []string) error {
	var utc bool
	var of string
	rest, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&utc, "utc", "u", false, "in UTC")
		f.StringVarP(&of, "date", "d", "", "of @SECONDS or an RFC 3339 time, not of now")
	})
	if err != nil {
		return err
	}
	now := time.Now()
	if seconds, ok := strings.CutPrefix(of, "@"); ok {
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil {
			return usage("date: " + err.Error())
		}
		now = time.Unix(n, 0)
	} else if of != "" {
		if now, err = time.Parse(time.RFC3339, of); err != nil {
			return usage("date: " + err.Error())
		}
	}
	if utc {
		now = now.UTC()
	}
	format := "+%a %b %e %H:%M:%S %Z %Y"
	if len(rest) > 0 {
		format = rest[0]
	}
	if !strings.HasPrefix(format, "+") {
		return usage("date [-u] [-d TIME] [+FORMAT]")
	}
	fmt.Println(strftime(format[1:], now))
	return nil
}

// strftime writes a time in the commonest of C's formats; others stay as they are.
func strftime(format string, t time.Time) string {
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'd': "02", 'e': "_2", 'F': "2006-01-02", 'H': "15", 'I': "03", 'j': "002",
		'm': "01", 'M': "04", 'p': "PM", 'S': "05", 'T': "15:04:05", 'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		layout, ok := layouts[format[i]]
		switch {
		case ok:
			b.WriteString(t.Format(layout))
		case format[i] == 's':
			b.WriteString(strconv.FormatInt(t.Unix(), 10))
		case format[i] == 'N':
			fmt.Fprintf(&b, "%09d", t.Nanosecond())
		case format[i] == '%':
			b.WriteByte('%')
		default:
			b.WriteString(format[i-1 : i+1])
		}
	}
	return b.String()
}
