package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/build/space"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
)

// remotes lets builds fetch what they name by URL.
type remotes struct{ client *remote.Client }

// File gives what a URL has now.
func (r remotes) File(ctx context.Context, url string, want digest.Digest, report build.Report) (*build.RemoteFile, error) {
	f, err := r.client.File(ctx, url, want, remote.Report(report))
	if err != nil {
		return nil, err
	}
	return &build.RemoteFile{ReaderAt: f, Size: f.Size, Digest: f.Digest, ModTime: f.ModTime}, nil
}

// Git finds out which commit is meant.
func (r remotes) Git(ctx context.Context, g *parser.Git) (build.RemoteTree, error) {
	t, err := r.client.Git(ctx, g)
	if err != nil {
		return nil, err
	}
	return remoteTree{t}, nil
}

type remoteTree struct{ *remote.Tree }

// Checkout gives the directory with the files.
func (t remoteTree) Checkout(ctx context.Context, report build.Report) (string, error) {
	return t.Tree.Checkout(ctx, remote.Report(report))
}

// remoteHint finds the next step after an error of what was to be fetched.
func remoteHint(err error) (string, bool) {
	var (
		far   *remote.Error
		other *remote.MismatchError
		git   *remote.GitMissingError
	)
	switch {
	case errors.As(err, &far):
		return far.Hint, true
	case errors.As(err, &other):
		return other.Hint, true
	case errors.As(err, &git):
		return "install it: most systems have it as the package git", true
	}
	return "", false
}

// remotes makes what a build fetches with. The caller closes the client.
func (s *session) remotes(secrets map[string][]byte, agent build.SSHAgent) (remotes, error) {
	st, err := s.store()
	if err != nil {
		return remotes{}, err
	}
	dir, err := filepath.Abs(filepath.Join(st.Root(), space.RemoteDir))
	if err != nil {
		return remotes{}, err
	}
	o := remote.Options{Dir: dir, Locks: st, Env: s.env, UserAgent: "ocibuild/" + version(), Secrets: secrets}
	if agent != nil {
		o.SSH = agent
	}
	return remotes{remote.New(o)}, nil
}
