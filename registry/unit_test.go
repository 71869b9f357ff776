package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/registry/retry"

	"github.com/google/go-cmp/cmp"
	"github.com/ocibuild/ocibuild/registry/hosts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestContentRange(t *testing.T) {
	for _, test := range []struct {
		value        string
		start, total int64
		ok           bool
	}{
		{"bytes 5-9/10", 5, 10, true},
		{"bytes 0-0/*", 0, -1, true},
		{"bytes 5-9/9", 0, 0, false},
		{"bytes 9-5/10", 0, 0, false},
		{"bytes -5-9/10", 0, 0, false},
		{"bytes */10", 0, 0, false},
		{"", 0, 0, false},
		{"items 5-9/10", 0, 0, false},
		{"bytes 5-9", 0, 0, false},
	} {
		start, _, total, ok := parseContentRange(test.value)
		if ok != test.ok || ok && (start != test.start || total != test.total) {
			t.Errorf("%q: %d %d %v", test.value, start, total, ok)
		}
	}
}

func TestChoose(t *testing.T) {
	entry := func(s string) ocispec.Descriptor {
		parts := strings.Split(s+"//", "/")
		return ocispec.Descriptor{MediaType: s, Platform: &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}}
	}
	for _, test := range []struct {
		name, want string
		entries    []string
		chosen     string
	}{
		{"exact", "linux/arm64", []string{"linux/amd64", "linux/arm64"}, "linux/arm64"},
		{"arm64 is v8", "linux/arm64", []string{"linux/arm64/v8"}, "linux/arm64/v8"},
		{"v8 is arm64", "linux/arm64/v8", []string{"linux/arm64"}, "linux/arm64"},
		{"arm is v7", "linux/arm", []string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7"},
		{"v7 takes v6", "linux/arm/v7", []string{"linux/arm/v5", "linux/arm/v6"}, "linux/arm/v6"},
		{"v6 never takes v7", "linux/arm/v6", []string{"linux/arm/v7"}, ""},
		{"amd64 takes 386 last", "linux/amd64", []string{"linux/386", "linux/amd64"}, "linux/amd64"},
		{"amd64 takes 386", "linux/amd64", []string{"linux/386"}, "linux/386"},
		{"amd64 never takes v2", "linux/amd64", []string{"linux/amd64/v2"}, ""},
		{"v3 takes v2 before v1", "linux/amd64/v3", []string{"linux/amd64", "linux/amd64/v2"}, "linux/amd64/v2"},
		{"arm64 takes arm", "linux/arm64", []string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7"},
		{"another system", "linux/amd64", []string{"windows/amd64"}, ""},
		{"the first of two", "linux/s390x", []string{"linux/amd64", "linux/s390x", "linux/s390x"}, "linux/s390x"},
		{"attestation", "linux/amd64", []string{"unknown/unknown"}, ""},
		{"odd spelling", "Linux/AArch64/8", []string{"linux/aarch64"}, "linux/aarch64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var entries []ocispec.Descriptor
			for _, e := range test.entries {
				entries = append(entries, entry(e))
			}
			got, ok := choose(entries, *entry(test.want).Platform)
			if ok != (test.chosen != "") || got.MediaType != test.chosen {
				t.Errorf("chose %q", got.MediaType)
			}
		})
	}
}

func TestPlatformName(t *testing.T) {
	for _, test := range []struct {
		p    ocispec.Platform
		want string
	}{
		{amd64, "linux/amd64"},
		{arm64, "linux/arm64"},
		{armV7, "linux/arm/v7"},
		{ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, "linux/arm64"},
		{ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}, "linux/amd64/v3"},
		{ocispec.Platform{OS: "linux", Architecture: "x\x1b[31m"}, "linux/x[31m"},
		{ocispec.Platform{}, "unknown"},
	} {
		if got := platformName(test.p); got != test.want {
			t.Errorf("%v: %q, want %q", test.p, got, test.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, test := range []struct {
		e    Error
		want string
	}{
		{
			Error{Op: "pull", Host: "docker.io", Repository: "library/x", Reference: "v1", Status: 404, Code: "MANIFEST_UNKNOWN", Message: "manifest unknown", Hint: "check"},
			"pull docker.io/library/x:v1: manifest unknown (MANIFEST_UNKNOWN, 404 Not Found); check",
		},
		{Error{Op: "pull", Host: "h", Repository: "x", Reference: "sha256:0", Status: 500}, "pull h/x@sha256:0: 500 Internal Server Error"},
		{Error{Op: "login", Host: "h", Code: "DENIED"}, "login h: denied (DENIED)"},
		{Error{Op: "ping", Host: "h", Err: io.EOF}, "ping h: EOF"},
		{Error{Op: "push", Message: "odd", Err: io.EOF, Hint: "do"}, "push: odd: EOF; do"},
	} {
		if got := test.e.Error(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestErrorWords(t *testing.T) {
	for _, test := range []struct{ name, contentType, body, code, message string }{
		{"spec", "application/json", `{"errors":[{"code":"DENIED","message":"no"}]}`, "DENIED", "no"},
		{"detail in place of message", "application/json", `{"errors":[{"code":"DENIED","detail":"why"}]}`, "DENIED", "why"},
		{"token service of Docker Hub", "application/json", `{"details":"incorrect username or password"}`, "", "incorrect username or password"},
		{"oauth", "application/json", `{"error":"invalid_grant"}`, "", "invalid_grant"},
		{"numbers where words belong", "application/json", `{"errors":[{"code":5,"message":{}}]}`, "", ""},
		{"text", "text/plain; charset=utf-8", "slow\ndown\x1b[31m\n", "", "slow down[31m"},
		{"html", "text/html", "<html>502</html>", "", ""},
		{"empty", "", "", "", ""},
	} {
		if code, message := errorWords(test.contentType, []byte(test.body)); code != test.code || message != test.message {
			t.Errorf("%s: %q %q", test.name, code, message)
		}
	}
}

func TestRedactURLs(t *testing.T) {
	in := `Get "https://u:p@s3.example/b/k?X-Amz-Signature=abc#f": refused at http://h:5000/x?y and https://%zz?sig=1`
	want := `Get "https://s3.example/b/k": refused at http://h:5000/x and https://%zz`
	if got := redactURLs(in); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHosts(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1": true, "127.9.9.9:80": true, "[::1]:5000": true, "[::1]": true, "x.localhost": true,
		"[::ffff:127.0.0.1]": true, "example.com": false, "10.0.0.1:5000": false, "localhost.example": false, "": false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("isLoopback(%q) = %v", host, got)
		}
	}
	c := New(Options{Insecure: []string{"lab.example", "r.example:5000", "[fd00::1]"}})
	for host, want := range map[string]bool{
		"lab.example": true, "lab.example:5000": true, "LAB.example": true, "r.example:5000": true, "r.example": false, "r.example:5001": false,
		"xlab.example": false, "[fd00::1]:5000": true, "": false,
	} {
		if got := c.insecure(host); got != want {
			t.Errorf("insecure(%q) = %v", host, got)
		}
	}
	for in, want := range map[string]string{
		"docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io", "registry-1.docker.io": "docker.io",
		"https://r.example/": "r.example", "http://r.example:5000/v2/": "r.example:5000", "[::1]:5000": "[::1]:5000",
		"r.example/team": "", "": "", "a b": "", "x:99999999": "", "user@host": "",
	} {
		got, err := registryHost(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("registryHost(%q) = %q, %v", in, got, err)
		}
	}
}

func TestPause(t *testing.T) {
	var pauses []time.Duration
	r := newRetrier(func(string, string) {})
	r.random = func() float64 { return 0.999999999 }
	r.sleep = func(_ context.Context, d time.Duration) error {
		pauses = append(pauses, d.Round(time.Millisecond))
		return nil
	}
	for n := range 8 {
		_ = r.pause(context.Background(), "h", n, verdict{}, "x")
	}
	_ = r.pause(context.Background(), "h", 0, verdict{after: 10 * time.Second}, "x")
	want := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 20 * time.Second, 20 * time.Second, 11 * time.Second}
	if diff := cmp.Diff(want, pauses); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := retry.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTimeoutMayPass has timeouts of a dialer, a transport and a context, all of which are context.DeadlineExceeded.
func TestTimeoutMayPass(t *testing.T) {
	dial := func(ctx context.Context, d net.Dialer) error {
		_, err := d.DialContext(ctx, "tcp", "192.0.2.1:9")
		return err
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	waiting := &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: time.Millisecond}}
	_, waitErr := waiting.Get("http://" + silent.Addr().String())
	over, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	<-over.Done()
	r := newRetrier(func(string, string) {})
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want bool
	}{
		{"dialer", context.Background(), dial(context.Background(), net.Dialer{Deadline: time.Now().Add(-time.Second)}), true},
		{"transport", context.Background(), waitErr, true},
		{"context", over, dial(over, net.Dialer{}), false},
	} {
		if !errors.Is(tt.err, context.DeadlineExceeded) {
			t.Errorf("%s: %v is no timeout", tt.name, tt.err)
		}
		if got := r.judge(tt.ctx, "h", nil, tt.err).again; got != tt.want {
			t.Errorf("%s: again is %t for %v", tt.name, got, tt.err)
		}
	}
}

func TestParseManifest(t *testing.T) {
	const config = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}`
	for _, test := range []struct{ name, mediaType, body, want string }{
		{"oci image", ocispec.MediaTypeImageManifest, "{" + config + "}", ocispec.MediaTypeImageManifest},
		{"docker image", mediaTypeDockerManifest, "{" + config + "}", mediaTypeDockerManifest},
		{"its own word wins", "text/plain", `{"mediaType":"` + mediaTypeDockerManifest + `",` + config + "}", mediaTypeDockerManifest},
		{"no word at all", "", "{" + config + "}", ocispec.MediaTypeImageManifest},
		{"index", "", `{"manifests":[]}`, ocispec.MediaTypeImageIndex},
		{"list", mediaTypeDockerList, `{"manifests":[]}`, mediaTypeDockerList},
		{"index that has a config", mediaTypeDockerList, `{"manifests":[],` + config + "}", ""},
		{"image called an index", ocispec.MediaTypeImageIndex, "{" + config + "}", ""},
		{"null config", "", `{"config":null}`, ""},
		{"bad digest", "", `{"config":{"digest":"sha256:../../x"}}`, ""},
		{"negative size", "", strings.Replace("{"+config+"}", `"size":0`, `"size":-1`, 1), ""},
		{"layers of the wrong kind", "", `{"layers":5,` + config + "}", ""},
		{"array", "", `[]`, ""},
		{"null", "", `null`, ""},
		{"nothing", "", ``, ""},
	} {
		doc, err := parseManifest(test.mediaType, []byte(test.body))
		if (err == nil) != (test.want != "") || err == nil && doc.MediaType != test.want {
			t.Errorf("%s: %+v %v", test.name, doc, err)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	have := newStore()
	for _, desc := range []ocispec.Descriptor{have.image(amd64, 1), have.index(amd64, arm64)} {
		f.Add(desc.MediaType, have.blobs[desc.Digest])
	}
	f.Add("", []byte(`{"mediaType":"x","config":null,"manifests":[{"digest":"sha256:0"}]}`))
	f.Fuzz(func(t *testing.T, mediaType string, body []byte) {
		doc, err := parseManifest(mediaType, body)
		if err != nil {
			return
		}
		if !isIndex(doc.MediaType) && !isManifest(doc.MediaType) {
			t.Errorf("media type %q", doc.MediaType)
		}
		for _, child := range doc.children() {
			if child.Digest.Validate() != nil || child.Size < 0 {
				t.Errorf("accepted %v", child)
			}
		}
		choose(doc.Manifests, amd64)
		available(doc.Manifests)
	})
}

func FuzzErrorWords(f *testing.F) {
	f.Add("application/json", []byte(`{"errors":[{"code":"DENIED","message":"no"}]}`))
	f.Add("text/plain", []byte("\x1b]0;title\x07 no"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		code, message := errorWords(contentType, body)
		for _, s := range []string{code, message} {
			if strings.ContainsAny(s, "\x00\x07\x1b\n\r") || len([]rune(s)) > maxMessage+3 {
				t.Errorf("unfit to print: %q", s)
			}
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 0-0/*")
	f.Fuzz(func(t *testing.T, s string) {
		if start, end, total, ok := parseContentRange(s); ok && (start < 0 || end <= start || total >= 0 && end > total) {
			t.Errorf("%q: %d of %d", s, start, total)
		}
	})
}

// challenger answers every request with a challenge, and notes who is sent a credential.
type challenger struct {
	challenge string
	told      []string
}

func (c *challenger) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Authorization") != "" && r.URL.Host != "" {
		c.told = append(c.told, r.URL.Scheme+"://"+r.URL.Host)
	}
	return &http.Response{
		StatusCode: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {c.challenge}},
		Body: io.NopCloser(bytes.NewReader([]byte(`{"token":"t"}`))), Request: r,
	}, nil
}

// FuzzChallenge answers a request with any challenge: the client ends with an error, and tells no credential in plain http.
func FuzzChallenge(f *testing.F) {
	f.Add(`Basic realm="x"`)
	f.Add(`Bearer realm="https://192.0.2.1/token",service="s",scope="repository:a:pull"`)
	f.Add(`Bearer realm="http://r.invalid/token"`)
	f.Add(`Bearer realm="https://user@r.invalid/%zz"`)
	f.Fuzz(func(t *testing.T, challenge string) {
		if strings.Contains(challenge, "://") && !strings.Contains(challenge, "192.0.2.1") && !strings.Contains(challenge, "r.invalid") {
			t.Skip("would look up a name")
		}
		ch := &challenger{challenge: challenge}
		c := newClient(t, Options{Credentials: static("ann", secret)})
		e, err := c.reach(hosts.Endpoint{Host: "r.invalid", Name: "a", Scheme: "https", Root: "/v2"})
		if err != nil {
			t.Fatal(err)
		}
		e.auth.Client.Transport = ch
		j := job{c: c.Client, op: "pull", repo: Repository{Host: "r.invalid", Name: "a"}}
		_, err = j.sendTo(context.Background(), e, call{method: http.MethodGet, path: "manifests/b"})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("got %v", err)
		}
		for _, to := range ch.told {
			if !strings.HasPrefix(to, "https://") {
				t.Errorf("told %s", to)
			}
		}
	})
}

// FuzzReference makes URLs of any names: what is accepted stays below the repository that it names.
func FuzzReference(f *testing.F) {
	f.Add("docker.io", "library/alpine", "3.20")
	f.Add("[::1]:5000", "a/../b", "sha256:"+strings.Repeat("0", 64))
	f.Add("r.invalid/x", "a", "../../v2/b/manifests/c")
	f.Fuzz(func(t *testing.T, host, name, reference string) {
		c := newClient(t, Options{})
		j, err := c.newJob("pull", Repository{Host: host, Name: name}, reference)
		if err != nil {
			return
		}
		e, err := c.reach(hosts.Endpoint{Host: j.repo.Host, Name: j.repo.Name, Scheme: "https", Root: "/v2"})
		if err != nil {
			t.Fatal(err)
		}
		req, err := call{method: http.MethodGet, path: j.name("manifests", reference)}.request(t.Context(), e)
		if err != nil {
			t.Fatalf("%q %q %q were accepted: %v", host, name, reference, err)
		}
		want := "/v2/" + name + "/manifests/" + reference
		if req.URL.Path != want || strings.Contains(req.URL.Path, "..") || req.URL.RawQuery != "" || !strings.EqualFold(req.URL.Host, dialHost(nameHost(host))) {
			t.Errorf("%q %q %q lead to %s", host, name, reference, req.URL)
		}
	})
}
