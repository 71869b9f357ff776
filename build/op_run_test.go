package build

import (
	"slices"
	"strings"
	"testing"
)

func TestProxyEnv(t *testing.T) {
	for _, tt := range []struct {
		name string
		args map[string]string
		want string
	}{
		{"none", map[string]string{"A": "b", "HTTP_PROXY2": "x"}, ""},
		{"both cases", map[string]string{"HTTP_PROXY": "http://p"}, "HTTP_PROXY=http://p http_proxy=http://p"},
		{"from lower case", map[string]string{"no_proxy": "a,b"}, "NO_PROXY=a,b no_proxy=a,b"},
		{"lower case wins", map[string]string{"ALL_PROXY": "upper", "all_proxy": "lower"}, "ALL_PROXY=lower all_proxy=lower"},
		{"empty", map[string]string{"FTP_PROXY": ""}, ""},
		{"in order", map[string]string{"HTTPS_PROXY": "s", "Http_Proxy": "h"}, "HTTP_PROXY=h http_proxy=h HTTPS_PROXY=s https_proxy=s"},
	} {
		if got := proxyEnv(tt.args); !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
