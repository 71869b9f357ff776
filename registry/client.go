package registry

import (
	"context"
	"crypto/tls"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/registry/hosts"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"
)

const (
	defaultParallel  = 6
	defaultUserAgent = "ocibuild"
	// maxWaiting bounds how many blobs of one manifest are looked up at once, or wait for their turn to move.
	maxWaiting = 32
	// stallTimeout is how long a body may give next to nothing before it counts as broken off.
	stallTimeout = time.Minute
	// headerTimeout is how long an answer may take once a request is sent. It is long because a registry that keeps its blobs in an
	// object store may copy a large one before it answers an upload.
	headerTimeout = 5 * time.Minute
	// pingAfter is how long an HTTP/2 connection may be silent before it is asked whether it still lives, pingTimeout how long it may
	// take to say so.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	// maxHeader bounds the header of an answer.
	maxHeader = 1 << 20
)

// Options says how a Client behaves. Its zero value is useful.
type Options struct {
	// Insecure lists hosts ("host" for any port, or "host:port") that may show any certificate or speak plain http.
	Insecure []string
	// Credentials gives the credential for a host. Nil means those that this machine has stored.
	Credentials CredentialFunc
	// ConfigDir is the directory of Docker's config.json, beside which no other place counts. Empty means all the places where Docker and
	// podman keep credentials.
	ConfigDir string
	// Hosts says where registries' repositories can be had. Nil means the configuration of this machine.
	Hosts *hosts.Config
	// UserAgent is sent with every request; empty means "ocibuild".
	UserAgent string
	// Parallel bounds how many blobs, and pieces of large ones, move at once; 0 means 6.
	Parallel int
	// Whole moves every blob in one piece, however large it is.
	Whole bool
	// Progress is told how transfers go. Its calls never overlap.
	Progress func(Progress)
}

// Repository names a repository of a registry, such as docker.io and library/alpine.
type Repository struct {
	// Host is the registry's host, with its port if it has one. docker.io is mapped to the host that serves it.
	Host string
	// Name is the repository's name on that host.
	Name string
}

// Source is where pushed content comes from.
type Source interface {
	// Use reports whether the blob is there, and keeps it from being pruned for now.
	Use(d digest.Digest) bool
	// Blob opens a blob; reading it to its end fails unless size and digest are right. The caller closes it.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Store is where pulled content goes and pushed content comes from. image.Store satisfies it.
type Store interface {
	Source
	// Put stores what r gives if it has the size and digest wanted. Storing what is there already is no error.
	Put(ctx context.Context, want ocispec.Descriptor, r io.Reader) (ocispec.Descriptor, error)
	Fetcher
	Memory
	// UseAnywhere is Use that is also content with a blob which some repository was seen to have.
	UseAnywhere(d digest.Digest) bool
}

// Fetcher stores blobs that may come in several attempts.
type Fetcher interface {
	// Fetch stores a blob unless it is there. open gives its bytes from an offset on, which is where an earlier attempt has ended.
	// Content of another digest is an error with a method Mismatch() bool. Errors of open and of its readers are given back as they
	// are. Two calls for one blob fetch it once.
	Fetch(ctx context.Context, want ocispec.Descriptor, open func(ctx context.Context, offset int64) (io.ReadCloser, error)) error
}

// Client talks to registries. It is safe for concurrent use; one client for many transfers keeps its tokens and connections.
type Client struct {
	options   Options
	places    *hosts.Config // where repositories can be had
	retry     *retrier
	keys      *keyring
	secrets   secrets
	slots     *semaphore.Weighted // one for each blob that moves
	pulling   keyedLock           // one for each blob that is being pulled, so that two images fetch what they share once
	noting    keyedLock           // one for each list of referrers that is being added to
	noRanges  sync.Map            // hosts that do not give the ranges that they are asked for
	pieceSize int64               // of blobs that are fetched in pieces
	pushing   keyedLock           // one for each blob on its way to a repository
	sent      sync.Map            // "host/repository@digest" of blobs that are known to be there
	// noSelfMount are hosts that do not answer the question for a blob that is a mount from the same repository.
	noSelfMount sync.Map
	noChunks    sync.Map // hosts that take uploads in one piece only
	chunkSize   int64    // of blobs that are sent in chunks
	dialer      func(timeout time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error)

	mu         sync.Mutex
	servers    map[string]*server         // by all that is configured for them
	transports map[string]*http.Transport // by what they have to do with certificates and time

	progressMu sync.Mutex
}

// New returns a client.
func New(o Options) *Client {
	if o.UserAgent == "" {
		o.UserAgent = defaultUserAgent
	}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	c := &Client{
		options:   o,
		slots:     semaphore.NewWeighted(int64(o.Parallel)),
		pieceSize: pieceSize,
		chunkSize: chunkSize,
		dialer:    dialer,
		places:    o.Hosts,

		servers: map[string]*server{}, transports: map[string]*http.Transport{},
	}
	if o.Whole {
		c.pieceSize, c.chunkSize = math.MaxInt64/minPieces, math.MaxInt64/minPieces
	}
	if c.places == nil {
		c.places = hosts.New(hosts.DefaultPlaces(os.Getenv))
	}
	c.keys = &keyring{dir: o.ConfigDir, getenv: os.Getenv, helpers: c.places.CredentialHelpers}
	c.retry = newRetrier(func(host, note string) { c.report(Progress{Host: host, Note: note}) })
	return c
}

func dialer(timeout time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	return d.DialContext
}

// newTransport returns a transport for many parallel transfers from few hosts. It never asks for or undoes a content encoding: blobs
// are verified as the bytes that are stored.
func (c *Client) newTransport(conf *tls.Config, dialTimeout time.Duration) *http.Transport {
	if dialTimeout == 0 {
		dialTimeout = 30 * time.Second
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            c.dialer(dialTimeout),
		TLSClientConfig:        conf,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    20 * time.Second,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeader,
		ExpectContinueTimeout:  time.Second,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
	}
}

// Ping checks that the host is a registry and lets us in.
func (c *Client) Ping(ctx context.Context, host string) error {
	host, err := registryHost(host)
	if err != nil {
		return err
	}
	j := job{c: c, op: opPing, repo: Repository{Host: host}}
	resp, err := j.send(ctx, call{method: http.MethodGet, path: ""})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// keyedLock is a set of mutexes, made as they are needed.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// lock waits until it has the lock of key, or until ctx is done.
func (l *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		busy, ok := l.held[key]
		if !ok {
			if l.held == nil {
				l.held = map[string]chan struct{}{}
			}
			l.held[key] = make(chan struct{})
			l.mu.Unlock()
			return func() { l.unlock(key) }, nil
		}
		l.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *keyedLock) unlock(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[key])
	delete(l.held, key)
}
