package oci_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"reddwarf.io/reddwarf/storage/oci"
)

func TestParseMirror(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want oci.Mirror
	}{
		{"docker.io=mirror.example", oci.Mirror{Registry: "docker.io", Host: "mirror.example"}},
		{"registry.k8s.io=10.0.0.1:5000", oci.Mirror{Registry: "registry.k8s.io", Host: "10.0.0.1:5000"}},
		{"registry.k8s.io=[fd00::1]:5000", oci.Mirror{Registry: "registry.k8s.io", Host: "[fd00::1]:5000"}},
		{"docker.io", oci.Mirror{}},
		{"docker.io=", oci.Mirror{}},
		{"=mirror.example", oci.Mirror{}},
		{"docker.io=https://mirror.example", oci.Mirror{}},
		{"docker.io=mirror.example/library", oci.Mirror{}},
		{"docker.io=user@mirror.example", oci.Mirror{}},
		{"docker.io=index.docker.io", oci.Mirror{}},
	} {
		got, err := oci.ParseMirror(tt.in)
		if got != tt.want || (err == nil) != (tt.want != oci.Mirror{}) {
			t.Errorf("ParseMirror(%q) = %+v, %v, want %+v", tt.in, got, err, tt.want)
		}
	}
}

// unreachable is a registry that nobody answers for.
const unreachable = "127.0.0.1:1"

func mirrored(registry string, mirrors ...string) oci.Config {
	c := config()
	for _, m := range mirrors {
		c.Mirrors = append(c.Mirrors, oci.Mirror{Registry: registry, Host: m})
	}
	return c
}

func TestMirrorServesDockerHub(t *testing.T) {
	_, s := newHost(t)
	r := newServer(t)
	r.push(t, "library/web:latest", newImage(t, files(t, "a", "1")))
	im := oci.New(s, mirrored("docker.io", r.addr))
	got, err := im.Ensure(t.Context(), oci.Request{Ref: "web", OS: "linux"})
	if err != nil {
		t.Fatal(err)
	}
	// The image keeps the name that was asked for, and where it came from does
	// not show: the same image is not pulled again when the mirror goes.
	if got.Ref != "web" || !strings.HasPrefix(got.Digest, "index.docker.io/library/web@sha256:") {
		t.Errorf("image %+v", got)
	}
	r.Close()
	for _, ref := range []string{"docker.io/library/web:latest", got.Digest} {
		if i, err := im.Ensure(t.Context(), oci.Request{Ref: ref, OS: "linux"}); err != nil || i.ID != got.ID {
			t.Errorf("Ensure(%s) = %+v, %v", ref, i, err)
		}
	}
}

func TestMirrorFallsBack(t *testing.T) {
	_, s := newHost(t)
	broken, empty, own := newServer(t), newServer(t), newServer(t)
	broken.misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	ref := own.push(t, "team/web:1", newImage(t, files(t, "a", "1")))
	im := oci.New(s, mirrored(own.addr, broken.addr, empty.addr))
	if _, err := im.Ensure(t.Context(), oci.Request{Ref: ref, OS: "linux"}); err != nil {
		t.Error(err)
	}
	_, err := im.Ensure(t.Context(), oci.Request{Ref: own.addr + "/team/other:1", OS: "linux"})
	if !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "mirror "+broken.addr) || !strings.Contains(err.Error(), "mirror "+empty.addr) {
		t.Errorf("nobody has it: %v", err)
	}
	// Other registries have no mirror.
	if _, err := oci.New(s, mirrored("docker.io", broken.addr)).Ensure(t.Context(), oci.Request{Ref: ref, OS: "linux", Policy: oci.Always}); err != nil {
		t.Error(err)
	}
}

func TestMirrorThatIsMissingAnImageDoesNotMakeItNotFound(t *testing.T) {
	_, s := newHost(t)
	empty := newServer(t)
	_, err := oci.New(s, mirrored(unreachable, empty.addr)).Ensure(t.Context(), oci.Request{Ref: unreachable + "/team/web:1", OS: "linux"})
	if err == nil || errors.Is(err, oci.ErrNotFound) {
		t.Errorf("the registry itself is unreachable: %v", err)
	}
}

func TestMirrorIsHeldToTheDigest(t *testing.T) {
	_, s := newHost(t)
	liar, own := newServer(t), newServer(t)
	right := own.push(t, "team/web:1", newImage(t, files(t, "a", "1")))
	im := oci.New(s, config())
	i, err := im.Ensure(t.Context(), oci.Request{Ref: right, OS: "linux"})
	if err != nil {
		t.Fatal(err)
	}
	_, digest, _ := strings.Cut(i.Digest, "@")
	liar.push(t, "team/web:1", newImage(t, files(t, "a", "evil")))
	liar.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/manifests/"+digest) {
			r.URL.Path = "/v2/team/web/manifests/1"
		}
		return false
	})
	_, fresh := newHost(t)
	_, err = oci.New(fresh, mirrored(unreachable, liar.addr)).Ensure(t.Context(), oci.Request{Ref: unreachable + "/team/web@" + digest, OS: "linux"})
	if err == nil || !strings.Contains(err.Error(), "mirror "+liar.addr) {
		t.Errorf("a mirror gave another image than the digest says: %v", err)
	}
}

func TestMirrorGetsNoForeignCredentials(t *testing.T) {
	_, s := newHost(t)
	mirror := newServer(t)
	mirror.push(t, "team/web:1", newImage(t, files(t, "a", "1")))
	mirror.require("user")
	keys := keychainOf{unreachable: &authn.Basic{Username: "user", Password: "secret"}}
	im := oci.New(s, mirrored(unreachable, mirror.addr))
	q := oci.Request{Ref: unreachable + "/team/web:1", OS: "linux", Keychain: keys}
	if _, err := im.Ensure(t.Context(), q); err == nil {
		t.Error("the mirror was given the registry's password")
	}
	keys[mirror.addr] = keys[unreachable]
	if _, err := im.Ensure(t.Context(), q); err != nil {
		t.Error(err)
	}
}

// keychainOf has credentials by registry.
type keychainOf map[string]authn.Authenticator

// Resolve implements authn.Keychain.
func (k keychainOf) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if a, ok := k[r.RegistryStr()]; ok {
		return a, nil
	}
	return authn.Anonymous, nil
}
