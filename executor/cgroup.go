package executor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hierarchy is a mounted tree of cgroups and where in it this process is.
type hierarchy struct {
	v2          bool
	controllers []string // of v1: those of this mount; of v2: nil
	mount, own  string   // directories
}

// cgroupFile is a list of what is where in /proc, for this process.
type cgroupFile struct{ mountinfo, membership []byte }

func readCgroupFiles() (f cgroupFile, err error) {
	if f.mountinfo, err = os.ReadFile("/proc/self/mountinfo"); err != nil {
		return f, err
	}
	f.membership, err = os.ReadFile("/proc/self/cgroup")
	return f, err
}

// hierarchies finds the trees of cgroups that are mounted, and this process in them.
func (f cgroupFile) hierarchies() []hierarchy {
	paths := map[string]string{} // by controller; "" is v2's
	for line := range bytes.Lines(f.membership) {
		field := strings.SplitN(strings.TrimRight(string(line), "\n"), ":", 3)
		if len(field) != 3 {
			continue
		}
		for c := range strings.SplitSeq(field[1], ",") {
			paths[c] = field[2]
		}
	}
	var list []hierarchy
	for line := range bytes.Lines(f.mountinfo) {
		before, after, _ := strings.Cut(string(line), " - ")
		field, fstype := strings.Fields(before), strings.Fields(after)
		if len(field) < 5 || len(fstype) < 3 || fstype[0] != "cgroup" && fstype[0] != "cgroup2" {
			continue
		}
		h := hierarchy{v2: fstype[0] == "cgroup2", mount: field[4]}
		path, ok := paths[""]
		if !h.v2 {
			h.controllers = slices.DeleteFunc(strings.Split(fstype[2], ","), func(o string) bool { path, known := paths[o]; return !known || path == "" })
			if len(h.controllers) == 0 {
				continue
			}
			path, ok = paths[h.controllers[0]]
		}
		if ok {
			h.own = below(h.mount, field[3], path)
			list = append(list, h)
		}
	}
	return list
}

// below is where path, which a hierarchy has in its root, is in a mount of a part of
// that hierarchy; the mount itself when that is not known.
func below(mount, part, path string) string {
	if rel, ok := strings.CutPrefix(path, strings.TrimSuffix(part, "/")); ok && (rel == "" || rel[0] == '/') {
		return filepath.Join(mount, filepath.Clean("/"+rel))
	}
	return mount
}

// cgroups are the trees that steps may get a cgroup in.
type cgroups []hierarchy

func findCgroups() (cgroups, error) {
	files, err := readCgroupFiles()
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	all := cgroups(files.hierarchies())
	all.sweep()
	return all, nil
}

// sweep removes what ended processes have left, wherever one of ours would be.
func (cs cgroups) sweep() {
	for _, h := range cs {
		for _, dir := range h.places() {
			sweepCgroups(dir)
		}
	}
}

// places lists the directories that a step's may be made in.
func (h hierarchy) places() []string {
	list := []string{h.own}
	for dir := h.own; h.v2 && dir != h.mount && strings.HasPrefix(dir, h.mount); {
		dir = filepath.Dir(dir)
		list = append(list, dir)
	}
	return list
}

// cgroup is where the processes of one step are counted and limited together: a
// directory in each tree that has something to say. It is locked for as long as it
// is used, by which leftovers are known.
type cgroup struct {
	dirs []cgroupDir
}

type cgroupDir struct {
	path        string
	v2          bool
	controllers []string
	lock        *os.File
}

// cgroupPrefix begins the names of ours.
const cgroupPrefix = "ocibuild-"

// errNoCgroup is that there is no place for a cgroup of ours.
var errNoCgroup = errors.New("no cgroup that we may write to has the controllers")

// make makes a cgroup with limits, or, without any, one that counts memory.
func (cs cgroups) make(limits *specs.LinuxResources) (_ *cgroup, err error) {
	g := &cgroup{}
	defer func() {
		if err != nil {
			g.remove()
		}
	}()
	asked := map[bool][]setting{}
	for _, v2 := range []bool{true, false} {
		if asked[v2], err = settings(limits, v2); err != nil {
			return nil, err
		}
	}
	var needed []string
	for _, s := range append(asked[true], setting{controller: "memory"}) {
		if !slices.Contains(needed, s.controller) {
			needed = append(needed, s.controller)
		}
	}
	for _, h := range cs {
		mine := h.has(needed)
		if len(mine) == 0 {
			continue
		}
		dir, err := h.makeOne(mine, limits != nil)
		if err != nil {
			return nil, err
		}
		g.dirs = append(g.dirs, dir)
		needed = slices.DeleteFunc(needed, func(c string) bool { return slices.Contains(mine, c) })
	}
	if len(needed) > 0 {
		return nil, fmt.Errorf("%w (%s)", errNoCgroup, strings.Join(needed, ", "))
	}
	for _, d := range g.dirs {
		if err := d.set(asked[d.v2]); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// has lists those of some controllers that this tree is in charge of.
func (h hierarchy) has(needed []string) []string {
	have := h.controllers
	if h.v2 {
		text, err := os.ReadFile(filepath.Join(h.mount, "cgroup.controllers"))
		if err != nil {
			return nil
		}
		have = strings.Fields(string(text))
	}
	var mine []string
	for _, c := range needed {
		if slices.Contains(have, c) {
			mine = append(mine, c)
		}
	}
	return mine
}

// makeOne makes a directory for a step: in v1 below our own, in v2, where a cgroup
// with processes of its own has no limited ones below it, in the nearest one above
// us that has the controllers for those below it. For limits that were asked for
// they may be enabled there.
func (h hierarchy) makeOne(controllers []string, enable bool) (cgroupDir, error) {
	if !h.v2 {
		d, err := newCgroupDir(h.own)
		d.controllers = controllers
		if err == nil && slices.Contains(controllers, "cpuset") {
			err = d.inheritCPUSet(h.own)
		}
		return d, err
	}
	for _, dir := range h.places() {
		if mayHoldSteps(dir, controllers, enable) {
			d, err := newCgroupDir(dir)
			d.v2, d.controllers = true, controllers
			return d, err
		}
	}
	return cgroupDir{}, fmt.Errorf("%w (%s)", errNoCgroup, strings.Join(controllers, ", "))
}

// mayHoldSteps reports whether processes of ours may be moved to a cgroup of v2 below
// dir that has the controllers.
func mayHoldSteps(dir string, controllers []string, enable bool) bool {
	for _, f := range []string{"", "cgroup.procs"} {
		if unix.Faccessat(unix.AT_FDCWD, filepath.Join(dir, f), unix.W_OK, unix.AT_EACCESS) != nil {
			return false
		}
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	text, err := os.ReadFile(control)
	if err != nil {
		return false
	}
	have := strings.Fields(string(text))
	for _, c := range controllers {
		if slices.Contains(have, c) {
			continue
		}
		if !enable || os.WriteFile(control, []byte("+"+c), 0) != nil {
			return false
		}
	}
	return true
}

// newCgroupDir makes and locks a directory.
func newCgroupDir(parent string) (cgroupDir, error) {
	for {
		dir, err := os.MkdirTemp(parent, cgroupPrefix+strconv.Itoa(os.Getpid())+"-")
		if err != nil {
			return cgroupDir{}, fmt.Errorf("make cgroup in %s: %w", parent, bareErrno(err))
		}
		f, err := os.Open(dir)
		if err == nil {
			if err = flock(f, unix.LOCK_EX|unix.LOCK_NB); err == nil {
				if _, err = os.Stat(dir); err == nil {
					return cgroupDir{path: dir, lock: f}, nil
				}
			}
			f.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return cgroupDir{}, errors.Join(err, removeCgroup(dir))
		} // else somebody took it for a leftover before it was locked
	}
}

// sweepCgroups removes the cgroups of processes that have ended.
func sweepCgroups(parent string) {
	names, _ := filepath.Glob(filepath.Join(parent, cgroupPrefix+"*"))
	for _, dir := range names {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = removeTree(dir) // it may hold what is just ending; the next one tries again
		}
		f.Close()
	}
}

// removeTree removes a cgroup and those below it, all of which are empty.
func removeTree(dir string) error {
	below, _ := os.ReadDir(dir)
	for _, e := range below {
		if e.IsDir() {
			_ = removeTree(filepath.Join(dir, e.Name()))
		}
	}
	return unix.Rmdir(dir)
}

// removeCgroup removes an empty cgroup. The kernel may need a moment after the end
// of its last process.
func removeCgroup(dir string) error {
	var err error
	for i := range 50 {
		if err = removeTree(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

// inheritCPUSet gives a new cpuset of v1, which begins with nothing, what its parent has.
func (d cgroupDir) inheritCPUSet(parent string) error {
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(parent, f))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(d.path, f), bytes.TrimSpace(text), 0); err != nil {
			return err
		}
	}
	return nil
}

func (d cgroupDir) set(list []setting) error {
	for _, s := range list {
		if !slices.Contains(d.controllers, s.controller) {
			continue
		}
		err := os.WriteFile(filepath.Join(d.path, s.file), []byte(s.value), 0)
		dispensable := s.optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission))
		if err != nil && !dispensable {
			return fmt.Errorf("set %s to %s: %w", s.file, s.value, bareErrno(err))
		}
	}
	return nil
}

// bareErrno drops the path from an error.
func bareErrno(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// add puts a process, and all that it will start, into the cgroup.
func (g *cgroup) add(pid int) error {
	for _, d := range g.dirs {
		if err := os.WriteFile(filepath.Join(d.path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("put the step into its cgroup: %w", err)
		}
	}
	return nil
}

// remove removes the cgroup, in which nothing runs any more.
func (g *cgroup) remove() {
	if g == nil {
		return
	}
	for _, d := range g.dirs {
		_ = removeCgroup(d.path) // what stays, the next program's sweep removes
		d.lock.Close()
	}
	g.dirs = nil
}

// kill ends every process of the group, those that are made meanwhile too.
func (g *cgroup) kill() {
	if g == nil || len(g.dirs) == 0 {
		return
	}
	for range 1000 {
		data, err := os.ReadFile(filepath.Join(g.dirs[0].path, "cgroup.procs"))
		if err != nil || len(data) == 0 {
			return
		}
		for f := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 1 && pid != os.Getpid() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// memory gives the directory where memory is counted.
func (g *cgroup) memory() (cgroupDir, bool) {
	if g == nil {
		return cgroupDir{}, false
	}
	for _, d := range g.dirs {
		if slices.Contains(d.controllers, "memory") {
			return d, true
		}
	}
	return cgroupDir{}, false
}

// peak is the most memory that was in use at once, or 0.
func (g *cgroup) peak() int64 {
	d, ok := g.memory()
	if !ok {
		return 0
	}
	file := "memory.max_usage_in_bytes"
	if d.v2 {
		file = "memory.peak" // since Linux 5.19
	}
	text, err := os.ReadFile(filepath.Join(d.path, file))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// outOfMemory reports whether the kernel killed a process because the limit was
// reached.
func (g *cgroup) outOfMemory() bool {
	d, ok := g.memory()
	if !ok {
		return false
	}
	file := "memory.oom_control"
	if d.v2 {
		file = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(d.path, file))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) == 2 && f[0] == "oom_kill" {
			return f[1] != "0"
		}
	}
	return false
}
