package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ocibuild/ocibuild/registry/hosts"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// endpoint is one place where a repository can be had, and how it is reached now.
type endpoint struct {
	hosts.Endpoint
	scheme string
	host   string // as it is dialled
	auth   *auth.Client
	server *server
}

// path returns the path of something in the repository, or at the host if there is none.
func (e *endpoint) path(rest string) string {
	if e.Name == "" {
		return e.Root + "/" + rest
	}
	return e.Root + "/" + e.Name + "/" + rest
}

// use says what a job's endpoints are for.
func (j job) use() hosts.Use {
	switch j.op {
	case opPush, opDelete, opLogin, opLogout:
		return hosts.Push
	case opTags, opCatalog, opPing:
		return hosts.List
	}
	return hosts.Pull
}

// endpoints lists where the job's repository can be had, in the order in which they are to be asked. Those that were in trouble come last.
func (j job) endpoints(ctx context.Context) ([]*endpoint, error) {
	places, err := j.c.places.Endpoints(j.repo.Host, j.repo.Name, j.reference, j.use())
	if err != nil {
		return nil, j.configError(err)
	}
	var good, bad []*endpoint
	for _, p := range places {
		e, err := j.c.reach(p)
		if err != nil {
			return nil, j.configError(err)
		}
		if e.server.trouble.Load() {
			bad = append(bad, e)
		} else {
			good = append(good, e)
		}
	}
	return append(good, bad...), nil
}

// origin is the one place where the repository itself is: where it is changed, and asked for what mirrors do not know.
func (j job) origin(ctx context.Context) (*endpoint, error) {
	list, err := j.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	e := list[len(list)-1]
	for _, other := range list {
		if !other.Mirror {
			e = other
		}
	}
	j.c.settle(ctx, e)
	return e, nil
}

// configError makes an error of what is wrong with the configuration, or forbidden by it.
func (j job) configError(err error) error {
	e := j.errorf("", "")
	e.Err = err
	var file *hosts.Error
	if errors.As(err, &file) {
		e.Hint = file.Hint
	}
	return e
}

// ask puts a call to the endpoints of the job one after the other until one has an answer that is no refusal. Each is asked once; if none
// has it, those that may only have had a bad moment are asked again, with patience. The caller closes the answer's body.
func (j job) ask(ctx context.Context, r call) (*http.Response, error) {
	all, err := j.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	list := able(all, r.needs())
	if len(list) == 0 {
		return nil, j.errorf("see the capabilities in its hosts.toml", "no server may be asked for it")
	}
	var refusals []string
	var again []*endpoint
	for _, e := range list[:len(list)-1] {
		resp, err := j.answer(withoutRetry(ctx), e, r)
		if err == nil && resp.StatusCode < http.StatusBadRequest || ctx.Err() != nil {
			return resp, err
		}
		if j.c.retry.judge(e.host, resp, err).again {
			again = append(again, e)
		}
		refusals = append(refusals, j.refusal(e, resp, err))
	}
	last := list[len(list)-1]
	resp, err := j.answer(ctx, last, r)
	if err == nil && resp.StatusCode < http.StatusBadRequest || len(list) == 1 || ctx.Err() != nil {
		return resp, err
	}
	if err == nil && !passingStatus(resp.StatusCode) {
		again = nil // the last one knows
	}
	for _, e := range again {
		second, secondErr := j.answer(ctx, e, r)
		if secondErr == nil && second.StatusCode < http.StatusBadRequest {
			discard(resp)
			return second, nil
		}
		discard(second)
	}
	if err == nil {
		resp.Request = resp.Request.WithContext(context.WithValue(resp.Request.Context(), refusalsKey{}, refusals))
		return resp, nil
	}
	return nil, alsoAsked(err, refusals)
}

// refusalsKey is where an answer's request keeps what others have said before.
type refusalsKey struct{}

// alsoAsked adds to an error what others have said before.
func alsoAsked(err error, refusals []string) error {
	var e *Error
	if len(refusals) > 0 && errors.As(err, &e) {
		e.Others = refusals
	}
	return err
}

// able keeps the endpoints that may be asked for something.
func able(list []*endpoint, needs hosts.Can) []*endpoint {
	var out []*endpoint
	for _, e := range list {
		if e.Can&needs == needs {
			out = append(out, e)
		}
	}
	return out
}

// needs says what an endpoint must be trusted with to answer the call.
func (r call) needs() hosts.Can {
	switch {
	case strings.HasPrefix(r.path, "manifests/") && !strings.Contains(r.path, ":"):
		return hosts.CanResolve
	case strings.HasPrefix(r.path, "manifests/"), strings.HasPrefix(r.path, "blobs/"):
		return hosts.CanPull
	case strings.HasPrefix(r.path, "referrers/"):
		return hosts.CanReferrers
	}
	return 0
}

// refusal tells of an endpoint that does not have what was asked for, and puts one that is in trouble behind the others. It closes the
// answer.
func (j job) refusal(e *endpoint, resp *http.Response, err error) string {
	why := ""
	if err == nil {
		why = outcome(resp, nil)
		discard(resp)
	} else {
		why = printable(err.Error())
		var answer *Error
		if errors.As(err, &answer) {
			why = answer.why()
			if answer.Err != nil {
				why = strings.TrimPrefix(why+": "+answer.Err.Error(), ": ")
			}
		}
	}
	if (err != nil || resp.StatusCode != http.StatusNotFound) && !e.server.trouble.Swap(true) {
		j.c.report(Progress{Host: nameHost(e.host), Note: fmt.Sprintf("%s: others are asked for %s first", why, j.repo.Host)})
	}
	return nameHost(e.host) + ": " + why
}

// distrust puts the endpoint that an answer came from behind the others: its content is not what it should be, or breaks off.
func (c *Client) distrust(resp *http.Response) {
	if e := answeredBy(resp); e != nil && e.Mirror {
		e.server.trouble.Store(true)
	}
}

// answeredBy returns the endpoint that was asked for an answer.
func answeredBy(resp *http.Response) *endpoint {
	if resp == nil || resp.Request == nil {
		return nil
	}
	e, _ := resp.Request.Context().Value(endpointKey{}).(*endpoint)
	return e
}

type endpointKey struct{}
