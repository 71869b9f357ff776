package registry

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"io"
)

// Options says how a Client behaves. Its zero value is useful.
type Options struct {
	// Insecure lists hosts ("host" or "host:port") that may show any certificate or speak plain http.
	Insecure []string
	// Credentials gives the credential for a host. Nil means Docker's config.json and its helpers.
	Credentials CredentialFunc
	// ConfigDir is the directory of Docker's config.json; empty means $DOCKER_CONFIG, else ~/.docker.
	ConfigDir string
	// UserAgent is sent with every request; empty means "ocibuild".
	UserAgent string
	// Parallel bounds how many blobs move at once; 0 means 4.
	Parallel int
	// Progress is told how transfers go. Its calls never overlap.
	Progress func(Progress)
}

// CredentialFunc gives the credential for a registry host, the zero Credential when there is none.
type CredentialFunc func(ctx context.Context, host string) (Credential, error)

// Credential is what proves an identity to a registry: user name and password, or an identity token.
type Credential struct {
	Username, Password string
	// IdentityToken is an OAuth2 refresh token; it takes the place of user name and password.
	IdentityToken string
}

// Progress is one step of a transfer.
type Progress struct {
	Host, Repo string
	Descriptor ocispec.Descriptor
	// Offset of Total bytes have moved.
	Offset, Total int64
	Done          bool
	// Note says what happens in a word ("pulling", "pushing", "exists", "mounted") or tells of something noteworthy in a sentence.
	Note string
}

// Repository names a repository of a registry: "docker.io" and "library/alpine". docker.io is mapped to the host that serves it.
type Repository struct{ Host, Name string }

// Store is where pulled content goes and pushed content comes from. image.Store satisfies it.
type Store interface {
	// Use reports whether the blob is there, and keeps it from being pruned for now.
	Use(d digest.Digest) bool
	// Blob opens a blob; reading it to its end fails unless size and digest are right. The caller closes it.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Put stores what r gives if it has the size and digest wanted. Storing what is there already is no error.
	Put(ctx context.Context, want ocispec.Descriptor, r io.Reader) (ocispec.Descriptor, error)
}

// PullRequest says what to pull.
type PullRequest struct {
	Repo Repository
	// Reference is a tag or a digest.
	Reference string
	// Platform chooses from an index; nil means this machine's, on linux.
	Platform *ocispec.Platform
}

// PushRequest says what to push and where.
type PushRequest struct {
	Repo Repository
	// Reference is the tag to set; empty, or the descriptor's digest, pushes without a tag.
	Reference string
	// Descriptor is the manifest or index in the store.
	Descriptor ocispec.Descriptor
	// MountFrom lists repositories that may hold some of the blobs; those of the same host are asked before bytes are sent.
	MountFrom []Repository
}

// Client talks to registries. It is safe for concurrent use.
type Client struct{ o Options }

// New returns a client.
func New(o Options) *Client { return &Client{o: o} }

// Error is a failure that a registry, or the way to it, has caused.
type Error struct {
	// Op is what was being done: "pull", "push", "resolve", "login", ...
	Op string
	// Host, Repository and Reference say to what; Reference is a tag or a digest, and the latter two may be empty.
	Host, Repository, Reference string
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Code and Message are the registry's own words.
	Code, Message string
	// Hint is the next step for the user.
	Hint string
	// Err is the cause, if it is not the registry's answer.
	Err error
}

// Error says what failed, why, and what to do next.
func (e *Error) Error() string { return e.Op }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Ping checks that the host is a registry that lets us in.
func (c *Client) Ping(ctx context.Context, host string) error { return &Error{} }

// Resolve returns the descriptor of the manifest or index that a tag or digest names.
func (c *Client) Resolve(ctx context.Context, repo Repository, reference string) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, &Error{}
}

// Manifest returns a manifest or index and its descriptor.
func (c *Client) Manifest(ctx context.Context, repo Repository, reference string) (ocispec.Descriptor, []byte, error) {
	return ocispec.Descriptor{}, nil, &Error{}
}

// Blob opens a blob. Reading it to its end fails unless size and digest are right. The caller closes it.
func (c *Client) Blob(ctx context.Context, repo Repository, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return nil, &Error{}
}

// BlobExists reports whether the repository has the blob.
func (c *Client) BlobExists(ctx context.Context, repo Repository, d digest.Digest) (bool, error) {
	return false, &Error{}
}

// PushBlob uploads a blob unless the repository has it. open gives its bytes anew for each attempt.
func (c *Client) PushBlob(ctx context.Context, repo Repository, desc ocispec.Descriptor, open func(context.Context) (io.ReadCloser, error)) error {
	return &Error{}
}

// MountBlob makes a blob of another repository of the same host part of repo; false if the registry would not.
func (c *Client) MountBlob(ctx context.Context, repo, from Repository, d digest.Digest) (bool, error) {
	return false, &Error{}
}

// PushManifest stores a manifest or index under a tag or its digest.
func (c *Client) PushManifest(ctx context.Context, repo Repository, reference string, desc ocispec.Descriptor, body []byte) error {
	return &Error{}
}

// Pull fetches an image into the store and returns the descriptor of what the reference names.
func (c *Client) Pull(ctx context.Context, r PullRequest, into Store) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, &Error{}
}

// Push sends an image from the store to a registry.
func (c *Client) Push(ctx context.Context, r PushRequest, from Store) error { return &Error{} }

// Login checks a user name and password against the registry and stores them where Docker's config.json says. The warnings are for the user.
func (c *Client) Login(ctx context.Context, host, user, secret string) (warnings []string, err error) {
	return nil, &Error{}
}

// Logout forgets the credential of a host. It returns ErrNotLoggedIn when there is none.
func (c *Client) Logout(ctx context.Context, host string) error { return &Error{} }
