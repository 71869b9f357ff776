package registry

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"testing"
)

// collect gives the names of a list in one line, and its error.
func collect(list iter.Seq2[string, error]) (string, error) {
	var names []string
	for name, err := range list {
		if err != nil {
			return strings.Join(names, " "), err
		}
		names = append(names, name)
	}
	return strings.Join(names, " "), nil
}

func TestLists(t *testing.T) {
	for _, auth := range []string{"", "basic", "bearer"} {
		t.Run("auth "+auth, func(t *testing.T) {
			f, have := newFake(t), newStore()
			for _, name := range []string{"a", "team/b", "team/c", "z"} {
				for _, tag := range []string{"v1", "v2", "v3", "latest", "x"} {
					f.seed(name, tag, have, have.image(amd64, 10))
				}
			}
			f.auth, f.user, f.password = auth, "u", "p"
			c := newClient(t, Options{Credentials: func(context.Context, string) (Credential, error) {
				return Credential{Username: "u", Password: "p"}, nil
			}})
			if got, err := collect(c.Catalog(t.Context(), f.host())); err != nil || got != "a team/b team/c z" {
				t.Errorf("catalog: %q, %v", got, err)
			}
			if got, err := collect(c.Tags(t.Context(), f.repo("team/b"))); err != nil || got != "latest v1 v2 v3 x" {
				t.Errorf("tags: %q, %v", got, err)
			}
		})
	}
}

func TestListStops(t *testing.T) {
	f, have := newFake(t), newStore()
	for _, tag := range []string{"v1", "v2", "v3"} {
		f.seed("a", tag, have, have.image(amd64, 10))
	}
	for range newClient(t, Options{}).Tags(t.Context(), f.repo("a")) {
		break
	}
	if n := f.count("/v2/a/tags/list"); n != 1 {
		t.Errorf("%d pages were fetched for one name", n)
	}
}

func TestListFails(t *testing.T) {
	answer := func(status int, link, body string) func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
		return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
			if link != "" {
				w.Header().Set("Link", link)
			}
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, body)
		}
	}
	tests := []struct {
		name string
		do   func(http.ResponseWriter, *http.Request, http.HandlerFunc)
		want string
	}{
		{"no list", answer(200, "", "hello"), "no list"},
		{"not allowed", answer(405, "", ""), "not every registry tells"},
		{"circle", answer(200, `</v2/_catalog?n=2>; rel="next"`, `{"repositories":["a"]}`), "in a circle"},
		{"another host", answer(200, `<http://example.com/v2/_catalog>; rel="next"`, `{"repositories":["a"]}`), "another host"},
		{"malformed link", answer(200, `<%zz>; rel="next"`, `{}`), "malformed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.fault("_catalog", -1, test.do)
			_, err := collect(newClient(t, Options{}).Catalog(t.Context(), f.host()))
			if e := asError(t, err); !strings.Contains(e.Error(), test.want) {
				t.Errorf("%v", e)
			}
		})
	}
	c := newClient(t, Options{})
	if _, err := collect(c.Tags(t.Context(), newFake(t).repo("nowhere"))); err == nil || !strings.Contains(err.Error(), "NAME_UNKNOWN") {
		t.Errorf("%v", err)
	}
	if _, err := collect(c.Tags(t.Context(), Repository{Host: "localhost", Name: "Bad"})); err == nil || !strings.Contains(err.Error(), "repository name") {
		t.Errorf("%v", err)
	}
	if _, err := collect(c.Catalog(t.Context(), "a/b")); err == nil {
		t.Error("a/b was taken for a host")
	}
}
