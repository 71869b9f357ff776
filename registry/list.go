package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	opTags    = "list tags"
	opCatalog = "list repositories"
	// pageSize is how many names are asked for at once.
	pageSize = 1000
	// maxPage bounds an answer: some registries give all that they have at once.
	maxPage = 32 << 20
)

// Tags yields the tags of a repository in the registry's order, and an error at the end of a list that is not complete.
func (c *Client) Tags(ctx context.Context, repo Repository) iter.Seq2[string, error] {
	j, err := c.newJob(opTags, repo, "")
	if err != nil {
		return failed(err)
	}
	return j.list(ctx, call{method: http.MethodGet, path: j.name("tags", "list")}, func(body []byte) ([]string, error) {
		var page struct {
			Tags []string `json:"tags"`
		}
		err := json.Unmarshal(body, &page)
		return page.Tags, err
	})
}

// Catalog yields the names of a registry's repositories, as far as it lets us see them, and an error at the end of a list that is not
// complete. Many public registries have no such list.
func (c *Client) Catalog(ctx context.Context, host string) iter.Seq2[string, error] {
	host, err := registryHost(host)
	if err != nil {
		return failed(err)
	}
	j := job{c: c, op: opCatalog, repo: Repository{Host: host}}
	r := call{method: http.MethodGet, path: "_catalog", scopes: []string{auth.ScopeRegistryCatalog}}
	return j.list(ctx, r, func(body []byte) ([]string, error) {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		err := json.Unmarshal(body, &page)
		return page.Repositories, err
	})
}

func failed(err error) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", err) }
}

// list follows the pages of a list.
func (j job) list(ctx context.Context, r call, names func(body []byte) ([]string, error)) iter.Seq2[string, error] {
	r.query = url.Values{"n": {strconv.Itoa(pageSize)}}
	return func(yield func(string, error) bool) {
		e, err := j.origin(ctx)
		if err != nil {
			yield("", err)
			return
		}
		for seen := map[string]bool{}; ; {
			body, next, err := j.page(ctx, e, r)
			if err != nil {
				yield("", err)
				return
			}
			list, err := names(body)
			if err != nil {
				yield("", j.errorf("", "the answer is no list: %s", err.Error()))
				return
			}
			for _, name := range list {
				if !yield(printable(name), nil) {
					return
				}
			}
			if next == nil {
				return
			}
			if seen[next.String()] {
				yield("", j.errorf("", "the pages of the list go in a circle"))
				return
			}
			seen[next.String()] = true
			r.url = next
		}
	}
}

// page reads one page and where the next one is; nil after the last.
func (j job) page(ctx context.Context, e *endpoint, r call) ([]byte, *url.URL, error) {
	resp, err := j.sendTo(ctx, e, r)
	var answer *Error
	if errors.As(err, &answer) && j.op == opCatalog && answer.Status >= 400 && answer.Status < 500 {
		answer.Hint = "not every registry tells which repositories it has; their tags can be listed by name"
	}
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	switch {
	case err != nil:
		return nil, nil, j.cutError(ctx, "the list", err)
	case len(body) > maxPage:
		return nil, nil, j.errorf("", "the list is larger than %d bytes", maxPage)
	}
	next, err := nextPage(resp)
	if err != nil {
		return nil, nil, j.errorf("", "%s", err.Error())
	}
	return body, next, nil
}

// nextPage reads the Link header. It never leads to another host.
func nextPage(resp *http.Response) (*url.URL, error) {
	for _, link := range resp.Header.Values("Link") {
		target, params, _ := strings.Cut(link, ">")
		target, ok := strings.CutPrefix(strings.TrimSpace(target), "<")
		if !ok || !strings.Contains(strings.ReplaceAll(params, `"`, ""), "rel=next") {
			continue
		}
		next, err := resp.Request.URL.Parse(target)
		if err != nil {
			return nil, errors.New("the link to the next page is malformed")
		}
		if next.Host != resp.Request.URL.Host || next.Scheme != resp.Request.URL.Scheme {
			return nil, errors.New("the link to the next page leads to another host")
		}
		return next, nil
	}
	return nil, nil
}
