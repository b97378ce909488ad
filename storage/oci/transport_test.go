package oci

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// refuser is a network that notes who is spoken to and is always down.
type refuser struct{ urls []string }

// RoundTrip implements http.RoundTripper.
func (r *refuser) RoundTrip(q *http.Request) (*http.Response, error) {
	r.urls = append(r.urls, q.URL.Scheme+"://"+q.URL.Host)
	return nil, errors.New("down")
}

func TestTLSOnly(t *testing.T) {
	for _, tt := range []struct {
		url     string
		allowed bool
	}{
		{"https://registry.example/v2/", true},
		{"http://registry.example/v2/", false},
		{"http://10.0.0.1:5000/v2/", false},
		{"http://192.168.1.1/v2/", false},
		{"http://registry.local/v2/", false},
		{"http://127.0.0.1:5000/v2/", true},
		{"http://127.8.8.8/v2/", true},
		{"http://[::1]:5000/v2/", true},
		{"http://localhost:5000/v2/", true},
		{"http://localhost.evil.example/v2/", false},
		{"http://listed.example:5000/v2/", true},
		{"http://listed.example:5001/v2/", false},
		{"http://whole.example:1234/v2/", true},
		{"ftp://listed.example:5001/v2/", false},
	} {
		down := &refuser{}
		q := httptest.NewRequest(http.MethodGet, tt.url, nil)
		_, err := tlsOnly{base: down, except: []string{"listed.example:5000", "whole.example"}}.RoundTrip(q) //nolint:bodyclose // the refuser answers nothing
		if errors.Is(err, ErrInsecure) == tt.allowed || (len(down.urls) > 0) != tt.allowed {
			t.Errorf("%s: %v after speaking to %q, want allowed = %v", tt.url, err, down.urls, tt.allowed)
		}
	}
}

// TestNoSecretsInTheClear asks for an image of a registry at a private address,
// which the registry library would try without TLS.
func TestNoSecretsInTheClear(t *testing.T) {
	im := New(nil, Config{})
	down := &refuser{}
	im.transport = tlsOnly{base: down}
	ref, err := im.parseRef("10.1.2.3:5000/web")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := im.resolve(t.Context(), ref, Request{}); err == nil {
		t.Error("resolved by a network that is down")
	}
	for _, u := range down.urls {
		if !strings.HasPrefix(u, "https://") {
			t.Errorf("spoke to %s", u)
		}
	}
}

func TestRedirectToPlainHTTP(t *testing.T) {
	s := httptest.NewServer(http.RedirectHandler("http://elsewhere.example/v2/", http.StatusTemporaryRedirect))
	defer s.Close()
	im := New(nil, Config{})
	ref, err := name.ParseReference(strings.TrimPrefix(s.URL, "http://") + "/web")
	if err != nil {
		t.Fatal(err)
	}
	_, err = im.resolve(t.Context(), ref, Request{})
	if !errors.Is(err, ErrInsecure) {
		t.Errorf("resolve = %v, want ErrInsecure", err)
	}
}

func TestTransportIsSane(t *testing.T) {
	tr, ok := newTransport(Config{}).(tlsOnly).base.(*http.Transport)
	if !ok || tr.ResponseHeaderTimeout == 0 || tr.TLSClientConfig.InsecureSkipVerify || tr == remote.DefaultTransport {
		t.Errorf("transport %+v", tr)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"version":1,"images":[{"id":"sha256:x","refs":["a"],"dataset":"d"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := parseIndex(b); err == nil && x.Version != 1 {
			t.Errorf("parseIndex(%q) = %+v", b, x)
		}
	})
}

func TestMirrorsAreSpokenToWithTLS(t *testing.T) {
	im := New(nil, Config{
		InsecureRegistries: []string{"plain.example:5000"},
		Mirrors: []Mirror{
			{Registry: "docker.io", Host: "plain.example:5000"},
			{Registry: "docker.io", Host: "mirror.example"},
			{Registry: "other.example", Host: "elsewhere.example"},
		},
	})
	for _, tt := range []struct{ in, want string }{
		{"web", "http://plain.example:5000/library/web:latest https://mirror.example/library/web:latest https://index.docker.io/library/web:latest"},
		{"team/web@sha256:" + strings.Repeat("0", 64), "http://plain.example:5000/team/web@sha256:" + strings.Repeat("0", 64) +
			" https://mirror.example/team/web@sha256:" + strings.Repeat("0", 64) + " https://index.docker.io/team/web@sha256:" + strings.Repeat("0", 64)},
		{"third.example/web:1", "https://third.example/web:1"},
	} {
		ref, err := im.parseRef(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		all, err := im.sources(ref)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range all {
			got = append(got, s.Context().Scheme()+"://"+s.Name())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("sources of %s: %s, want %s", tt.in, strings.Join(got, " "), tt.want)
		}
	}
}
