package build

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func at(seconds int64) *time.Time { t := time.Unix(seconds, 0).UTC(); return &t }

func TestFillCreated(t *testing.T) {
	history := func(times ...*time.Time) (h []ocispec.History) {
		for _, c := range times {
			h = append(h, ocispec.History{Created: c})
		}
		return h
	}
	tests := []struct {
		name  string
		in    []*time.Time
		base  int
		epoch *time.Time
		want  []*time.Time
	}{
		{"metadata takes the time of the first new layer", []*time.Time{at(1), nil, at(5), nil, at(9), nil}, 1, nil, []*time.Time{at(1), at(5), at(5), at(5), at(9), at(9)}},
		{"only metadata takes the base's time", []*time.Time{at(1), nil, nil}, 1, nil, []*time.Time{at(1), at(1), at(1)}},
		{"an epoch spares the base", []*time.Time{at(7), nil, at(5)}, 1, at(3), []*time.Time{at(7), at(3), at(3)}},
		{"an epoch is a limit", []*time.Time{at(7), nil, at(2), at(5)}, 1, at(3), []*time.Time{at(7), at(2), at(2), at(3)}},
		{"what of a base has no time is new", []*time.Time{at(7), nil, at(8), at(9)}, 3, at(3), []*time.Time{at(7), at(3), at(3), at(3)}},
		{"nothing has a time", []*time.Time{nil}, 0, nil, []*time.Time{nil}},
		{"nothing but an epoch", []*time.Time{nil}, 0, at(3), []*time.Time{at(3)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := fillCreated(image.Config{History: history(tt.in...)}, history(tt.in[:tt.base]...), tt.epoch)
			if diff := cmp.Diff(history(tt.want...), got.History); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.want[len(tt.want)-1], got.Created); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAccounted(t *testing.T) {
	made := &Layer{made: "[1/1] RUN x", created: *at(4)}
	h := []ocispec.History{{CreatedBy: "a"}, {CreatedBy: "b", EmptyLayer: true}, {CreatedBy: "c"}}
	tests := []struct {
		name   string
		layers []*Layer
		want   []ocispec.History
	}{
		{"as many", []*Layer{{}, {}}, h},
		{"fewer layers", []*Layer{{}}, []ocispec.History{h[0], h[1], {CreatedBy: "c", EmptyLayer: true}}},
		{"more layers", []*Layer{{}, {}, made}, append(h[:3:3], ocispec.History{Created: at(4), CreatedBy: "[1/1] RUN x", Comment: exporterComment})},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, accounted(h, tt.layers)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestImagePlatform(t *testing.T) {
	type platform = ocispec.Platform
	tests := []struct {
		name       string
		have, want platform
		chosen     bool
		is         platform
	}{
		{"the base's", platform{OS: "linux", Architecture: "s390x"}, platform{OS: "linux", Architecture: "amd64"}, false, platform{OS: "linux", Architecture: "s390x"}},
		{"normal", platform{OS: "Linux", Architecture: "aarch64", Variant: "v8"}, platform{}, false, platform{OS: "linux", Architecture: "arm64"}},
		{"chosen", platform{OS: "linux", Architecture: "s390x", Variant: "z", OSVersion: "1"}, platform{OS: "linux", Architecture: "amd64"}, true, platform{OS: "linux", Architecture: "amd64"}},
		{"the same keeps its variant", platform{OS: "linux", Architecture: "amd64", Variant: "v3", OSVersion: "1"}, platform{OS: "linux", Architecture: "amd64"}, true, platform{OS: "linux", Architecture: "amd64", Variant: "v3", OSVersion: "1"}},
		{"another variant", platform{OS: "linux", Architecture: "arm", Variant: "v6"}, platform{OS: "linux", Architecture: "arm", Variant: "v7"}, true, platform{OS: "linux", Architecture: "arm", Variant: "v7"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.is, finish{platform: tt.want, chosen: tt.chosen}.imagePlatform(tt.have)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}
