package registry

import (
	"context"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// maxMounts is how many repositories are asked for a blob before its bytes are sent.
const maxMounts = 3

// MountBlob makes a blob of another repository of the same host part of repo. It is false if the registry would not, which is no error.
func (c *Client) MountBlob(ctx context.Context, repo, from Repository, d digest.Digest) (bool, error) {
	j, err := c.newJob(opPush, repo, d.String())
	if err != nil {
		return false, err
	}
	if _, err := c.newJob(opPush, from, ""); err != nil {
		return false, err
	}
	if dialHost(repo.Host) != dialHost(from.Host) {
		return false, nil
	}
	u := &upload{j: j, desc: ocispec.Descriptor{Digest: d}}
	session, mounted, err := u.mount(ctx, from)
	if err != nil {
		return false, err
	}
	if session != nil {
		u.abandon(ctx, session)
	}
	return mounted, nil
}

// candidates are the repositories that the blob may be mounted from.
func (u *upload) candidates() []Repository {
	list := u.mountFrom
	if u.memory != nil {
		for host, name := range u.memory.Places(u.desc.Digest) {
			if dialHost(host) == dialHost(u.j.repo.Host) && name != u.j.repo.Name && repositoryPattern().MatchString(name) {
				list = append(list[:len(list):len(list)], Repository{Host: host, Name: name})
			}
		}
	}
	return list[:min(len(list), maxMounts)]
}

// mountAny tries the repositories that may have the blob. What it gives is an upload's session if a registry opened one instead.
func (u *upload) mountAny(ctx context.Context) (session *url.URL, mounted bool, err error) {
	for _, from := range u.candidates() {
		if session != nil {
			u.abandon(ctx, session)
		}
		session, mounted, err = u.mount(ctx, from)
		if err != nil || mounted {
			return nil, mounted, err
		}
	}
	return session, false, nil
}

// mount asks the registry to take the blob over from another repository. A refusal is no error: there is the upload.
func (u *upload) mount(ctx context.Context, from Repository) (session *url.URL, mounted bool, err error) {
	e, err := u.j.origin(ctx)
	if err != nil {
		return nil, false, err
	}
	resp, err := u.j.answer(ctx, e, call{
		method: http.MethodPost, path: u.j.name("blobs", "uploads", ""),
		query:  url.Values{"mount": {u.desc.Digest.String()}, "from": {from.Name}},
		scopes: []string{auth.ScopeRepository(from.Name, auth.ActionPull)},
	})
	if ctx.Err() != nil {
		return nil, false, u.j.transportError(ctx, ctx.Err())
	}
	if err != nil {
		return nil, false, nil
	}
	defer discard(resp)
	switch resp.StatusCode {
	case http.StatusCreated:
		return nil, true, nil
	case http.StatusAccepted:
		u.noteLeast(resp)
		session, err := u.location(e, resp)
		return session, false, err
	}
	return nil, false, nil
}
