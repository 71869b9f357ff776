package build

import (
	"slices"
	"testing"

	"github.com/ocibuild/ocibuild/parser"
)

// settled gives a cache mount as a step has it.
func settled(m parser.Mount, args map[string]string) *stepMount {
	m.Type = "cache"
	s := &stepMount{Mount: m, r: &run{}}
	s.r.req.Plan.Args = args
	s.settleCache()
	return s
}

// TestCacheIdentity tells what makes another cache, and what runs a step again.
func TestCacheIdentity(t *testing.T) {
	mode, id := uint32(0o700), uint32(1000)
	plain := settled(parser.Mount{ID: "a", Target: "/c"}, nil)
	for _, tt := range []struct {
		name       string
		mount      *stepMount
		cache, key bool // the same as of plain
	}{
		{"itself", settled(parser.Mount{ID: "a", Target: "/c"}, nil), true, true},
		{"target", settled(parser.Mount{ID: "a", Target: "/d"}, nil), true, true}, // the key has it otherwise
		{"sharing", settled(parser.Mount{ID: "a", Target: "/c", Sharing: "locked"}, nil), true, true},
		{"source", settled(parser.Mount{ID: "a", Target: "/c", Source: "sub"}, nil), true, true},
		{"owner of a source", settled(parser.Mount{ID: "a", Target: "/c", Source: "sub", UID: &id}, nil), true, false},
		{"read-only", settled(parser.Mount{ID: "a", Target: "/c", ReadOnly: true}, nil), true, false},
		{"id", settled(parser.Mount{ID: "b", Target: "/c"}, nil), false, true},
		{"namespace", settled(parser.Mount{ID: "a", Target: "/c"}, map[string]string{cacheNamespaceArg: "n"}), false, true},
		{"mode", settled(parser.Mount{ID: "a", Target: "/c", Mode: &mode}, nil), false, false},
		{"uid", settled(parser.Mount{ID: "a", Target: "/c", UID: &id}, nil), false, false},
		{"gid", settled(parser.Mount{ID: "a", Target: "/c", GID: &id}, nil), false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.mount.cacheName() == plain.cacheName(); got != tt.cache {
				t.Errorf("the same cache: %v, want %v", got, tt.cache)
			}
			if got := slices.Equal(tt.mount.identity(), plain.identity()); got != tt.key {
				t.Errorf("the same key: %v, want %v", got, tt.key)
			}
		})
	}
	if m := settled(parser.Mount{Target: "/c/../d/"}, nil); m.ID != "/d" {
		t.Errorf("the default id is %q", m.ID)
	}
}
