// Package oci turns an image reference into a ZFS dataset: it resolves the
// reference at its registry, pulls and verifies the layers, and applies them.
//
// Everything that comes from a registry is untrusted. What is written is
// checked against the digests of a manifest that was itself checked, and a
// layer can write nowhere but below the directory it is applied to.
//
// The package's one surprising rule: a layer chain is applied once. Images
// that begin with the same layers share the datasets of those, and two pods
// that want one image at the same time wait for one pull.
package oci

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sync/semaphore"

	"reddwarf.io/reddwarf/storage"
)

// What went wrong with an image. Each is wrapped with the reference and the
// cause. Whatever is none of these may heal, like a registry that is down.
var (
	// ErrInvalidName means that the text is not an image reference.
	ErrInvalidName = errors.New("invalid image name")
	// ErrNeverPull means that the image is not here and must not be pulled.
	ErrNeverPull = errors.New("image is not present and must not be pulled")
	// ErrNotFound means that the registry has no such repository or tag.
	ErrNotFound = errors.New("image not found")
	// ErrUnauthorized means that the registry refuses the credentials.
	ErrUnauthorized = errors.New("registry refuses access")
	// ErrPlatform means that the image has nothing for the wanted platform.
	ErrPlatform = errors.New("no image for the platform")
	// ErrUnsupported means that the manifest or a layer is of a kind that
	// cannot be unpacked.
	ErrUnsupported = errors.New("image format is not supported")
	// ErrUnsafe means that a layer tries what no honest layer does, such as
	// writing outside its root.
	ErrUnsafe = errors.New("layer is not safe to unpack")
	// ErrTooLarge means that the image exceeds a limit of the configuration.
	ErrTooLarge = errors.New("image is too large")
	// ErrCorrupt means that content does not have the digest it should.
	ErrCorrupt = errors.New("image content is corrupt")
	// ErrInsecure means that a registry would be spoken to without TLS though
	// the configuration does not allow that.
	ErrInsecure = errors.New("registry without TLS is not allowed")
)

// Policy says when the registry is asked.
type Policy int

// The policies, as Kubernetes has them.
const (
	IfNotPresent Policy = iota // only for what is not here
	Always                     // for the digest, each time; layers only if not here
	Never
)

// Config is what an Images needs to know. Its zero value is usable.
type Config struct {
	// InsecureRegistries are hosts ("host" or "host:port") that may be spoken
	// to without TLS. Loopback addresses and localhost always may.
	InsecureRegistries []string

	// Mirrors are asked in their order before the registries they stand for.
	Mirrors []Mirror

	// RootCAs verifies registries. Nil means the host's own.
	RootCAs *x509.CertPool

	// Pulls bounds how many images are pulled at the same time. 0 means 4.
	Pulls int

	// MaxBytes bounds the files that one pull unpacks; layers that are here
	// already do not count. 0 means 64 GiB.
	MaxBytes int64

	// MaxEntries bounds the files and directories that one pull unpacks. 0
	// means 4 million.
	MaxEntries int64

	// UserAgent names the agent to registries.
	UserAgent string

	// DropOwner leaves all files to the user that the agent runs as, instead
	// of giving them the owners that layers say, which takes privilege.
	DropOwner bool
}

// Request asks for one image.
type Request struct {
	// Ref is the image as a pod names it, such as "nginx" or
	// "registry:5000/a/b@sha256:…".
	Ref string

	// OS and Arch are the platform that must run it, in Go's words. Empty OS
	// means the first there is of illumos, solaris, linux; illumos takes
	// solaris too. Empty Arch means amd64.
	OS, Arch string

	// Keychain finds credentials. Nil means none.
	Keychain authn.Keychain

	Policy Policy

	// Progress is called now and then while layers are pulled, with the
	// compressed bytes that came and those that will. It may be nil.
	Progress func(done, total int64)
}

// Image is an image that is here.
type Image struct {
	Ref      string // as requested
	ID       string // digest of its configuration, sha256:…
	Digest   string // NAME@sha256:…, what the registry calls it
	Dataset  string // id of the dataset, for storage's EnsureContainer
	OS, Arch string
	Size     int64 // bytes of its compressed layers and configuration
	Config   ImageConfig
	Pulled   time.Time
}

// ImageConfig is how the image wants to be run.
type ImageConfig struct {
	Entrypoint []string            `json:"entrypoint,omitempty"`
	Cmd        []string            `json:"cmd,omitempty"`
	Env        []string            `json:"env,omitempty"`
	User       string              `json:"user,omitempty"`
	WorkingDir string              `json:"workingDir,omitempty"`
	Volumes    map[string]struct{} `json:"volumes,omitempty"`
	StopSignal string              `json:"stopSignal,omitempty"`
	Labels     map[string]string   `json:"labels,omitempty"`
	Ports      map[string]struct{} `json:"ports,omitempty"`
}

// Images is the images of one host. Its methods may be called from several
// goroutines.
type Images struct {
	store     *storage.Store
	c         Config
	transport http.RoundTripper
	pulls     *semaphore.Weighted
	chains    keyedLock
	claims    claims

	mu    sync.Mutex
	index *index // nil until first read
}

// New returns the images in store that c describes. It runs nothing.
func New(store *storage.Store, c Config) *Images {
	if c.Pulls <= 0 {
		c.Pulls = 4
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 64 << 30
	}
	if c.MaxEntries <= 0 {
		c.MaxEntries = 4 << 20
	}
	return &Images{
		store:     store,
		c:         c,
		transport: newTransport(c),
		pulls:     semaphore.NewWeighted(int64(c.Pulls)),
	}
}

// keyedLock is one lock for each key, taken with a context.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]*waiters
}

type waiters struct {
	token chan struct{} // holds one value while the lock is free
	n     int           // who holds the lock or waits for it
}

// lock waits for the lock of key and returns the function that frees it.
func (l *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	l.mu.Lock()
	w := l.held[key]
	if w == nil {
		if l.held == nil {
			l.held = map[string]*waiters{}
		}
		w = &waiters{token: make(chan struct{}, 1)}
		w.token <- struct{}{}
		l.held[key] = w
	}
	w.n++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if w.n--; w.n == 0 {
			delete(l.held, key)
		}
	}
	select {
	case <-w.token:
		return func() { w.token <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
