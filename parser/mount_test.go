package parser

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func expandTest(word string) (string, error) { return Expander{}.Word(word, testEnv) }

func TestMounts(t *testing.T) {
	tests := []struct {
		name, raw string
		want      Mount
	}{
		{"bind is the default", "target=/a", Mount{Type: "bind", Target: "/a", ReadOnly: true}},
		{
			"bind", "type=bind,from=x,source=/b,target=/a,rw",
			Mount{Type: "bind", From: "x", Source: "/b", Target: "/a"},
		},
		{"other names", "TYPE=Cache,src=b,dst=/a,ro", Mount{Type: "cache", Source: "b", Target: "/a", ReadOnly: true}},
		{"destination", "type=cache,destination=/a", Mount{Type: "cache", Target: "/a"}},
		{"readonly=false", "target=/a,readonly=false", Mount{Type: "bind", Target: "/a"}},
		{"readwrite=false", "type=cache,target=/a,readwrite=false", Mount{Type: "cache", Target: "/a", ReadOnly: true}},
		{
			"cache", "type=cache,id=i,target=/a,sharing=LOCKED,from=x,mode=0700,uid=1,gid=2",
			Mount{
				Type: "cache", ID: "i", Target: "/a", Sharing: "locked", From: "x",
				Mode: ptr(uint32(0o700)), UID: ptr(uint32(1)), GID: ptr(uint32(2)),
			},
		},
		{"tmpfs", "type=tmpfs,target=/a,size=1.5k", Mount{Type: "tmpfs", Target: "/a", Size: 1536}},
		{
			"secret", "type=secret,id=i,target=/a,required,mode=400",
			Mount{Type: "secret", ID: "i", Target: "/a", Required: true, ReadOnly: true, Mode: ptr(uint32(0o400))},
		},
		{"secret in the environment", "type=secret,id=i,env=TOKEN", Mount{Type: "secret", ID: "i", Env: "TOKEN", ReadOnly: true}},
		{"required after the type", "type=ssh,required=true", Mount{Type: "ssh", Required: true, ReadOnly: true}},
		{"quoted comma", `"target=/a,b",type=cache`, Mount{Type: "cache", Target: "/a,b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Raw = tt.raw
			parsed, err := parseMount(tt.raw, nil)
			if err != nil || parsed.From != tt.want.From {
				t.Fatal(parsed.From, err)
			}
			got, err := parsed.Expand(expandTest)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestMountVariables(t *testing.T) {
	const raw = `type=${XXX:-tmpfs},target=$PWD/a,"size=${XXX:-1}m",id='x'`
	parsed, err := parseMount(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Mount{Type: "${XXX:-tmpfs}", Target: "$PWD/a", ID: "'x'", Raw: raw}
	if diff := cmp.Diff(want, parsed); diff != "" {
		t.Errorf("before (-want +got)\n%s", diff)
	}
	got, err := parsed.Expand(expandTest)
	if err != nil {
		t.Fatal(err)
	}
	want = Mount{Type: "tmpfs", Target: "/home/a", ID: "x", Size: 1 << 20, Raw: raw}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after (-want +got)\n%s", diff)
	}
}

func TestMountRefusals(t *testing.T) {
	tests := []struct{ name, raw, want string }{
		{"empty", "", "bad mount"},
		{"bad quoting", `"a`, "bad mount"},
		{"type", "type=x", `unsupported mount type "x"`},
		{"key", "tagret=/a", "unexpected key 'tagret' in 'tagret=/a' (did you mean target?)"},
		{"bare word", "x", "invalid field 'x' must be a key=value pair"},
		{"bare key", "target", "invalid field 'target' must be a key=value pair (write target=<value>)"},
		{"switch", "ro=x", "invalid value for ro: x"},
		{"sharing value", "type=cache,sharing=x", `unsupported sharing value "x"`},
		{"sharing of a bind", "target=/a,sharing=shared", "invalid cache sharing set for bind mount"},
		{"size of a cache", "type=cache,size=1", "unexpected key 'size' for mount type 'cache'"},
		{"size", "type=tmpfs,size=1x", "invalid value for size: 1x"},
		{"mode", "type=cache,mode=9", "invalid value 9 for mode (mode is octal, as in 0755)"},
		{"uid", "type=cache,uid=-1", "invalid value -1 for uid (uid is a number)"},
		{"mode of a bind", "mode=1", `mode not allowed for "bind" type mounts`},
		{"uid of a tmpfs", "type=tmpfs,uid=1", `uid not allowed for "tmpfs" type mounts`},
		{"gid of a bind", "gid=1", `gid not allowed for "bind" type mounts`},
		{"required before the type", "required,type=secret,id=a", "unexpected key 'required' for mount type 'bind' (secret and ssh mounts alone can be missing; type stands before required)"},
		{"size before the type", "size=1m,type=tmpfs", "unexpected key 'size' for mount type 'bind'"},
		{"required bind", "required", "unexpected key 'required' for mount type 'bind'"},
		{"secret from", "type=secret,id=a,from=b", "secret mount should not have a from"},
		{"secret sharing", "type=secret,id=a,sharing=shared", "secret mount should not define sharing"},
		{"secret without a name", "type=secret", "invalid secret mount. one of source, target required"},
		{"secret with two names", "type=secret,id=a,source=b", "both source and id can't be set"},
		{"secret env", "type=secret,id=a,env=", "a secret's env needs a variable's name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseMount(tt.raw, expandTest)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if _, err := parseMount(tt.raw, nil); (err != nil) != strings.HasPrefix(tt.want, "bad mount") {
				t.Errorf("before variables are known: %v", err)
			}
		})
	}
	if _, err := parseMount("target=/a,from=$a", nil); err == nil || !strings.Contains(err.Error(), "'from' doesn't support variable expansion, define alias stage instead") {
		t.Errorf("from a variable: %v", err)
	}
	late := []struct{ name, raw, want string }{
		{"type", "type=$PWD", `unsupported mount type "/home"`},
		{"undefined", "target=${XXX:?no}", "XXX: no"},
		{"together", `type="$XXX"secret`, "bad mount"},
		{"together late", `type=${XXX}secret`, "invalid secret mount"},
	}
	for _, tt := range late {
		t.Run("late "+tt.name, func(t *testing.T) {
			_, err := Mount{Raw: tt.raw}.Expand(expandTest)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestParseSize(t *testing.T) {
	tests := []struct {
		text string
		want int64
	}{
		{"0", 0},
		{"32", 32},
		{"32b", 32},
		{"32 B", 32},
		{"2k", 2 << 10},
		{"2KB", 2 << 10},
		{"2kib", 2 << 10},
		{"1.5 m", 3 << 19},
		{"3G", 3 << 30},
		{"1t", 1 << 40},
		{"1p", 1 << 50},
		{"", -1},
		{"k", -1},
		{"-1", -1},
		{"1x", -1},
		{"1kx", -1},
		{"1kbb", -1},
		{"1  k", -1},
		{"1e", -1},
		{"9223372036854775808", -1},
		{"8192p", -1},
		{"1.2.3", -1},
	}
	for _, tt := range tests {
		got, err := ParseSize(tt.text)
		if (err != nil) != (tt.want < 0) || err == nil && got != tt.want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", tt.text, got, err, tt.want)
		}
	}
}
