package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Locker gives locks that all processes share which use the same directory.
type Locker interface {
	// Lock takes the lock of that name and waits for it until ctx ends.
	Lock(ctx context.Context, name string) (unlock func(), err error)
	// TryLock gives nil and no error when it would have to wait.
	TryLock(name string, shared bool) (unlock func(), err error)
}

// Agent answers what connects to the socket of an SSH agent.
type Agent interface {
	// Serve answers one connection until it ends or ctx does, and closes it.
	Serve(ctx context.Context, conn net.Conn) error
}

// Report is told what is being done, and how far: bytes of total, 0 where that is
// not known.
type Report func(text string, done, total int64)

// Options says how a Client behaves. Dir, Locks and Env are required.
type Options struct {
	// Dir is where what has been fetched is kept; it is absolute.
	Dir   string
	Locks Locker
	// Env looks up a variable of the environment: $PATH finds git, and the usual
	// variables name proxies and certificates.
	Env func(string) (string, bool)
	// UserAgent is sent to web servers; empty means "ocibuild".
	UserAgent string
	// Secrets are those of the build, by id: HTTP_AUTH_HEADER_<host>,
	// HTTP_AUTH_TOKEN_<host>, GIT_AUTH_HEADER and GIT_AUTH_TOKEN, these two also
	// with .<host> behind them.
	Secrets map[string][]byte
	// SSH answers for the user's keys; nil has none.
	SSH Agent
}

// Client fetches. It is safe for concurrent use, and made for one build.
type Client struct {
	o     Options
	http  *http.Client
	retry retrier
	stall time.Duration
	files once[*File]
	heads once[head]
	agent agentSocket

	mu      sync.Mutex
	closers []io.Closer
}

// stallTimeout is how long a download may give no byte before it counts as broken off.
const stallTimeout = time.Minute

// New returns a client.
func New(o Options) *Client {
	if o.UserAgent == "" {
		o.UserAgent = "ocibuild"
	}
	return &Client{o: o, http: &http.Client{Transport: newTransport()}, retry: newRetrier(), stall: stallTimeout}
}

// Close lets go of connections and files.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, f := range c.closers {
		errs = append(errs, f.Close())
	}
	c.closers = nil
	return errors.Join(errs...)
}

// keep closes something when the client is closed.
func (c *Client) keep(closer io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closers = append(c.closers, closer)
}

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		ForceAttemptHTTP2:     true,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   20 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		ReadBufferSize:        64 << 10,
	}
}

// The directories below Options.Dir, which are also the first words of the locks.
const (
	httpDir  = "http"
	reposDir = "repositories"
	treesDir = "trees"
	workDir  = "work"
)

// place is one directory of what is kept, and its lock.
type place struct{ path, lock string }

// place names a directory of some kind by what it holds.
func (c *Client) place(kind, name string) place {
	sum := sha256.Sum256([]byte(name))
	return placeOf(c.o.Dir, kind, hex.EncodeToString(sum[:]))
}

func placeOf(dir, kind, base string) place {
	return place{filepath.Join(dir, kind, base), "remote-" + kind + "-" + base}
}

// use notes that the place is used now.
func (p place) use() {
	now := time.Now()
	_ = os.Chtimes(p.path, now, now) // it is used all the same
}

// once gives the same answer to all who ask the same question.
type once[T any] struct {
	mu   sync.Mutex
	asks map[string]*ask[T]
}

type ask[T any] struct {
	done   chan struct{}
	answer T
	err    error
}

// do gives the answer that find finds, unless somebody has asked before.
func (o *once[T]) do(ctx context.Context, question string, find func() (T, error)) (T, error) {
	o.mu.Lock()
	a, asked := o.asks[question]
	if !asked {
		a = &ask[T]{done: make(chan struct{})}
		if o.asks == nil {
			o.asks = map[string]*ask[T]{}
		}
		o.asks[question] = a
	}
	o.mu.Unlock()
	if !asked {
		defer close(a.done)
		a.answer, a.err = find()
		return a.answer, a.err
	}
	select {
	case <-a.done:
		return a.answer, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
