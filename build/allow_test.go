package build

import (
	"maps"
	"testing"
)

func TestGrant(t *testing.T) {
	var a Allowed
	for _, text := range []string{"network.host", "security.insecure", "device=a.com/x=1", "device=b.com/y=2,alias=gpu"} {
		if err := a.Grant(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if !a.NetworkHost || !a.SecurityInsecure || a.AllDevices || !maps.Equal(a.Devices, map[string]string{"a.com/x=1": "", "gpu": "b.com/y=2"}) {
		t.Errorf("got %+v", a)
	}
	if err := a.Grant("device"); err != nil || !a.AllDevices {
		t.Errorf("got %+v, %v", a, err)
	}
	for _, text := range []string{"", "network", "network.host=x", "devices", "device=", "device=,alias=x", "device=a,alias=", "device=a,name=x"} {
		if err := new(Allowed).Grant(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
