package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/ocibuild/ocibuild/registry/retry"

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
	case opPush, opDelete:
		return hosts.Push
	case opTags, opCatalog, opPing, opLogin, opLogout:
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
		if _, absent := e.server.absent.Load(e.Name); absent || e.server.trouble.Load() {
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
	q := &inquiry{job: j, r: r}
	last := len(list) - 1
	if resp, err := q.mirrors(ctx, list[:last]); resp != nil || err != nil {
		return resp, err
	}
	resp, err := j.answer(ctx, list[last], r)
	if given(resp, err) || last == 0 || ctx.Err() != nil {
		return resp, err
	}
	if err != nil || retry.Status(resp.StatusCode) { // else the last one knows
		if second := q.patiently(ctx); second != nil {
			discard(resp)
			return second, nil
		}
	}
	return q.refused(resp, err)
}

// given says that an answer is no refusal.
func given(resp *http.Response, err error) bool {
	return err == nil && resp.StatusCode < http.StatusBadRequest
}

// inquiry is a call that several endpoints are asked.
type inquiry struct {
	job
	r        call
	refusals []string    // what they have said
	again    []*endpoint // those that may have had a bad moment
}

// mirrors asks each endpoint once. It returns neither an answer nor an error if none has what is asked for.
func (q *inquiry) mirrors(ctx context.Context, list []*endpoint) (*http.Response, error) {
	for _, e := range list {
		resp, err := q.answer(withoutRetry(ctx), e, q.r)
		if given(resp, err) || ctx.Err() != nil {
			return resp, err
		}
		if q.c.retry.judge(ctx, e.host, resp, err).again {
			q.again = append(q.again, e)
		}
		q.refusals = append(q.refusals, q.refusal(e, resp, err))
	}
	return nil, nil
}

// patiently asks again those that may have had a bad moment. It returns nil if they have nothing either.
func (q *inquiry) patiently(ctx context.Context) *http.Response {
	for _, e := range q.again {
		resp, err := q.answer(ctx, e, q.r)
		if given(resp, err) {
			return resp
		}
		discard(resp)
	}
	return nil
}

// refused adds to the last refusal what others have said before.
func (q *inquiry) refused(resp *http.Response, err error) (*http.Response, error) {
	var e *Error
	switch {
	case err == nil:
		resp.Request = resp.Request.WithContext(context.WithValue(resp.Request.Context(), refusalsKey{}, q.refusals))
	case errors.As(err, &e):
		e.Others = q.refusals
	}
	return resp, err
}

// refusalsKey is where an answer's request keeps what others have said before.
type refusalsKey struct{}

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

// refusal tells of an endpoint that does not have what was asked for, and puts it behind the others: one that is in trouble for
// everything, one that has not got a manifest for what is in its repository. It closes the answer.
func (q *inquiry) refusal(e *endpoint, resp *http.Response, err error) string {
	defer discard(resp)
	why := whyNot(resp, err)
	switch {
	case err != nil || resp.StatusCode != http.StatusNotFound:
		if !e.server.trouble.Swap(true) {
			q.c.report(Progress{Host: nameHost(e.host), Note: fmt.Sprintf("%s: others are asked for %s first", why, q.repo.Host)})
		}
	case strings.HasPrefix(q.r.path, "manifests/"):
		e.server.absent.Store(e.Name, true)
	}
	return nameHost(e.host) + ": " + why
}

// whyNot words a refusal.
func whyNot(resp *http.Response, err error) string {
	var answer *Error
	switch {
	case err == nil:
		return outcome(resp, nil)
	case !errors.As(err, &answer):
		return printable(err.Error())
	case answer.Err != nil:
		return strings.TrimPrefix(answer.why()+": "+answer.Err.Error(), ": ")
	}
	return answer.why()
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
