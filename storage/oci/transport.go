package oci

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// headerTimeout is how long a registry may take to begin its answer.
const headerTimeout = time.Minute

// newTransport returns the connections to registries.
func newTransport(c Config) http.RoundTripper {
	t, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		t = http.DefaultTransport.(*http.Transport)
	}
	t = t.Clone()
	t.ResponseHeaderTimeout = headerTimeout
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs}
	return tlsOnly{base: t, except: c.InsecureRegistries}
}

// tlsOnly refuses requests without TLS to all but loopback and the hosts that
// were listed. The registry library would send credentials in the clear to any
// private address, and follows redirects anywhere.
type tlsOnly struct {
	base   http.RoundTripper
	except []string
}

// RoundTrip implements http.RoundTripper.
func (t tlsOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !t.allowed(r.URL) {
		return nil, fmt.Errorf("oci: %s: %w", r.URL.Host, ErrInsecure)
	}
	return t.base.RoundTrip(r)
}

func (t tlsOnly) allowed(u *url.URL) bool {
	return isLoopback(u.Hostname()) || slices.Contains(t.except, u.Host) || slices.Contains(t.except, u.Hostname())
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// parseRef reads a reference as a pod names it.
func (im *Images) parseRef(s string) (name.Reference, error) {
	if s != strings.TrimSpace(s) {
		return nil, fmt.Errorf("oci: image %q: %w", s, ErrInvalidName)
	}
	ref, err := name.ParseReference(s)
	if err != nil {
		return nil, fmt.Errorf("oci: image %q: %w: %w", s, ErrInvalidName, err)
	}
	registry := ref.Context().RegistryStr()
	if host := hostOf(registry); slices.Contains(im.c.InsecureRegistries, registry) || slices.Contains(im.c.InsecureRegistries, host) {
		return name.ParseReference(s, name.Insecure)
	}
	return ref, nil
}

func hostOf(registry string) string {
	u := url.URL{Host: registry}
	return u.Hostname()
}

// classify gives what the registry library says a meaning.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var te *transport.Error
	if errors.As(err, &te) {
		switch te.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("%w: %w", ErrUnauthorized, err)
		case http.StatusNotFound:
			return fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		return err
	}
	// The library's type for a wrong digest or size is internal to it.
	if strings.Contains(err.Error(), "error verifying ") {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	// It drops the type of an error that comes while it looks for a registry.
	if !errors.Is(err, ErrInsecure) && strings.Contains(err.Error(), ErrInsecure.Error()) {
		return fmt.Errorf("%w: %w", ErrInsecure, err)
	}
	return err
}
