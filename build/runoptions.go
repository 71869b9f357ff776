package build

import (
	"fmt"
	"iter"
	"time"

	"github.com/ocibuild/ocibuild/executor"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// RunOptions are what all RUN steps of a build get, beside what each asks for.
type RunOptions struct {
	// Network is that of a RUN without --network: "host", "none", "isolated", or ""
	// and "default", which is the builder's.
	Network string
	// Hosts are more lines of /etc/hosts. Their names are part of a step's key, the
	// addresses are not.
	Hosts []executor.HostIP
	// HostMounts are directories of this machine that every step sees; their content is
	// part of its key.
	HostMounts []HostMount
	// DNS and Certificates are how names are found and who is trusted. Like proxies they
	// are no part of a key: they say how others are reached, not what they give.
	DNS          executor.DNS
	Certificates []byte
	// ShmSize is the size of /dev/shm in bytes; 0 is 64 MiB.
	ShmSize int64
	// Limits are what setrlimit(2) sets.
	Limits []specs.POSIXRlimit
	// Resources and Timeout bound each step. They change no result, only whether there is
	// one, and are no part of a key.
	Resources executor.Resources
	Timeout   time.Duration
	// AllowLeak lets a step leave a secret in its files, its output or the config.
	AllowLeak bool
	// Security is what steps may do other than what Docker lets containers do.
	Security executor.Security
	// SSH are the agents that RUN --mount=type=ssh may show a step, by id. They are no
	// part of a key.
	SSH map[string]SSHAgent
	// DeviceDirs are where specifications of devices are; nil is where vendors put them.
	DeviceDirs []string
}

// HostMount shows steps a directory of this machine. What they write there stays, unless
// it is read-only.
type HostMount struct {
	Source, Target string // absolute
	ReadOnly       bool
}

// The build arguments that concern all steps, and need no ARG.
const (
	hostnameArg       = "BUILDKIT_SANDBOX_HOSTNAME" // the name of the machine that steps see
	cacheNamespaceArg = "BUILDKIT_CACHE_MOUNT_NS"   // keeps the cache mounts of builds apart
)

// network is that of a step which asks for one or, with "default", does not.
func (o RunOptions) network(asked string) string {
	if asked == "default" && o.Network != "" {
		return o.Network
	}
	return asked
}

// identity is what of the options is part of a step's key.
func (o RunOptions) identity() (hosts, limits []string) {
	for _, h := range o.Hosts {
		hosts = append(hosts, h.Host)
	}
	for _, l := range o.Limits {
		limits = append(limits, fmt.Sprintf("%s=%d:%d", l.Type, l.Soft, l.Hard))
	}
	return hosts, limits
}

// security yields what of the step's confinement is other than the default, which alone is
// part of its key.
func (o RunOptions) security() iter.Seq2[string, []string] {
	s := o.Security
	return func(yield func(string, []string) bool) {
		var list []string
		if s.NoNewPrivileges {
			list = append(list, "no-new-privileges")
		}
		if s.Unmasked {
			list = append(list, "unmasked")
		}
		if s.Seccomp != "" {
			list = append(list, "seccomp="+s.Seccomp)
		}
		for _, part := range []struct {
			name   string
			values []string
		}{{"security", list}, {"cap-add", s.AddCapabilities}, {"cap-drop", s.DropCapabilities}} {
			if len(part.values) > 0 && !yield(part.name, part.values) {
				return
			}
		}
	}
}
