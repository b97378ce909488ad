package oci_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"reddwarf.io/reddwarf/storage/oci"
)

func config() oci.Config { return oci.Config{DropOwner: os.Geteuid() != 0} }

// content reads a file of an image.
func (h *host) content(t *testing.T, i oci.Image, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.root, "images", i.Dataset, file))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestEnsure(t *testing.T) {
	h, s := newHost(t)
	r := newServer(t)
	ref := r.push(t, "team/web:1", newImage(t, files(t, "a", "1", "b", "1"), files(t, "b", "2", ".wh.a", "")))
	im := oci.New(s, config())
	var done, total int64
	got, err := im.Ensure(t.Context(), oci.Request{Ref: ref, OS: "linux", Progress: func(d, n int64) { done, total = d, n }})
	if err != nil {
		t.Fatal(err)
	}
	want := oci.ImageConfig{
		Entrypoint: []string{"/bin/web"}, Cmd: []string{"-v"}, Env: []string{"A=b c"}, User: "7:8",
		WorkingDir: "/srv", StopSignal: "SIGINT", Volumes: map[string]struct{}{"/data": {}},
	}
	if !reflect.DeepEqual(got.Config, want) {
		t.Errorf("configuration %+v, want %+v", got.Config, want)
	}
	if got.OS != "linux" || got.Arch != "amd64" || got.Size <= 0 || !strings.HasPrefix(got.ID, "sha256:") ||
		!strings.HasPrefix(got.Digest, r.addr+"/team/web@sha256:") || got.Pulled.IsZero() {
		t.Errorf("image %+v", got)
	}
	if h.content(t, got, "b") != "2" || !strings.Contains(h.content(t, got, "a"), "no such file") {
		t.Errorf("b is %q, a is %q", h.content(t, got, "b"), h.content(t, got, "a"))
	}
	if done <= 0 || total != got.Size {
		t.Errorf("progress %d of %d", done, total)
	}
	if n := len(h.images(t)); n != 4 {
		t.Errorf("%d datasets and snapshots for two layers, want 4: %q", n, h.images(t))
	}

	// Again: nothing is asked, also by its digest, also by a restarted agent.
	h.commands()
	r.blobs()
	again := oci.New(h.store(), config())
	for _, name := range []string{ref, got.Digest} {
		for _, im := range []*oci.Images{im, again} {
			for _, p := range []oci.Policy{oci.IfNotPresent, oci.Never} {
				i, err := im.Ensure(t.Context(), oci.Request{Ref: name, OS: "linux", Policy: p})
				if err != nil || i.ID != got.ID || i.Dataset != got.Dataset || i.Digest != got.Digest || i.Ref != name {
					t.Errorf("Ensure(%s) = %+v, %v", name, i, err)
				}
			}
		}
	}
	if n := h.commands(); n != 2 { // the restarted agent looks, and holds
		t.Errorf("%d commands for an image that is here, want 2", n)
	}
	if n := r.blobs(); n != 0 {
		t.Errorf("%d blobs fetched for an image that is here", n)
	}
}

func TestEnsureAlwaysSeesAMovedTag(t *testing.T) {
	h, s := newHost(t)
	r := newServer(t)
	base := files(t, "base", "1")
	ref := r.push(t, "web:latest", newImage(t, base, files(t, "v", "1")))
	im := oci.New(s, config())
	old, err := im.Ensure(t.Context(), oci.Request{Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	r.blobs()
	if _, err := im.Ensure(t.Context(), oci.Request{Ref: ref, Policy: oci.Always}); err != nil {
		t.Fatal(err)
	}
	if n := r.blobs(); n > 1 { // the configuration
		t.Errorf("%d blobs fetched though nothing has changed", n)
	}
	r.push(t, "web:latest", newImage(t, base, files(t, "v", "2")))
	r.blobs()
	moved, err := im.Ensure(t.Context(), oci.Request{Ref: ref, Policy: oci.Always})
	if err != nil || moved.ID == old.ID || h.content(t, moved, "v") != "2" || h.content(t, moved, "base") != "1" {
		t.Fatalf("Ensure = %+v, %v", moved, err)
	}
	if n := r.blobs(); n != 2 { // the configuration and the one new layer
		t.Errorf("%d blobs fetched, want 2", n)
	}
	if now, err := im.Ensure(t.Context(), oci.Request{Ref: ref}); err != nil || now.ID != moved.ID {
		t.Errorf("the tag still means the old image: %+v, %v", now, err)
	}
	if i, err := im.Ensure(t.Context(), oci.Request{Ref: old.Digest, Policy: oci.Never}); err != nil || i.ID != old.ID {
		t.Errorf("the old image is lost: %+v, %v", i, err)
	}
	if list, err := im.Known(); err != nil || len(list) != 2 {
		t.Errorf("Known = %+v, %v", list, err)
	}
}

func TestEnsureCompressions(t *testing.T) {
	plain := files(t, "f", "content")
	for name, l := range map[string]v1.Layer{
		"gzip":                 newLayer(t, plain, gzipped(t, plain), types.OCILayer),
		"zstd":                 newLayer(t, plain, zstded(t, plain), types.OCILayerZStd),
		"plain":                newLayer(t, plain, plain, types.OCIUncompressedLayer),
		"wrong media type":     newLayer(t, plain, gzipped(t, plain), types.OCIUncompressedLayer),
		"trailing zeros":       newLayer(t, append(plain, make([]byte, 70000)...), gzipped(t, append(plain, make([]byte, 70000)...)), types.OCILayer),
		"several gzip members": newLayer(t, plain, append(gzipped(t, plain[:700]), gzipped(t, plain[700:])...), types.OCILayer),
	} {
		t.Run(name, func(t *testing.T) {
			h, s := newHost(t)
			r := newServer(t)
			ref := r.push(t, "web", platformImage(t, "linux", "amd64", l))
			got, err := oci.New(s, config()).Ensure(t.Context(), oci.Request{Ref: ref})
			if err != nil || h.content(t, got, "f") != "content" {
				t.Errorf("Ensure = %+v, %v", got, err)
			}
		})
	}
}

func TestEnsurePlatforms(t *testing.T) {
	l := func(s string) v1.Layer {
		p := files(t, "platform", s)
		return newLayer(t, p, gzipped(t, p), types.OCILayer)
	}
	image := func(os, arch string) v1.Image { return platformImage(t, os, arch, l(os+"/"+arch)) }
	r := newServer(t)
	all := r.push(t, "all", newIndex(map[string]v1.Image{
		"linux/arm64": image("linux", "arm64"), "linux/amd64": image("linux", "amd64"),
		"solaris/amd64": image("solaris", "amd64"), "illumos/amd64": image("illumos", "amd64"),
	}))
	lx := r.push(t, "lx", newIndex(map[string]v1.Image{"linux/amd64": image("linux", "amd64"), "windows/amd64": image("windows", "amd64")}))
	sol := r.push(t, "sol", image("solaris", "amd64"))
	arm := r.push(t, "arm", image("linux", "arm64"))
	for _, tt := range []struct{ ref, os, arch, want string }{
		{all, "linux", "", "linux/amd64"},
		{all, "linux", "arm64", "linux/arm64"},
		{all, "illumos", "amd64", "illumos/amd64"},
		{all, "", "", "illumos/amd64"},
		{lx, "", "", "linux/amd64"},
		{lx, "illumos", "", ""},
		{sol, "illumos", "", "solaris/amd64"},
		{sol, "linux", "", ""},
		{arm, "linux", "", ""},
	} {
		h, s := newHost(t)
		got, err := oci.New(s, config()).Ensure(t.Context(), oci.Request{Ref: tt.ref, OS: tt.os, Arch: tt.arch})
		if tt.want == "" {
			if !errors.Is(err, oci.ErrPlatform) {
				t.Errorf("%s on %s/%s: %v, want ErrPlatform", tt.ref, tt.os, tt.arch, err)
			}
			continue
		}
		if err != nil || h.content(t, got, "platform") != tt.want || got.OS+"/"+got.Arch != tt.want {
			t.Errorf("%s on %s/%s: %+v, %v, want %s", tt.ref, tt.os, tt.arch, got, err, tt.want)
		}
	}
}

func TestEnsureOnePlatformIsNotTheOther(t *testing.T) {
	_, s := newHost(t)
	r := newServer(t)
	a, b := files(t, "x", "linux"), files(t, "x", "illumos")
	ref := r.push(t, "all", newIndex(map[string]v1.Image{
		"linux/amd64":   platformImage(t, "linux", "amd64", newLayer(t, a, gzipped(t, a), types.OCILayer)),
		"illumos/amd64": platformImage(t, "illumos", "amd64", newLayer(t, b, gzipped(t, b), types.OCILayer)),
	}))
	im := oci.New(s, config())
	for range 2 {
		for _, os := range []string{"linux", "illumos"} {
			if got, err := im.Ensure(t.Context(), oci.Request{Ref: ref, OS: os}); err != nil || got.OS != os {
				t.Errorf("Ensure for %s = %+v, %v", os, got, err)
			}
		}
	}
	if n := r.blobs(); n != 4 { // two of each, once
		t.Errorf("%d blobs fetched, want 4", n)
	}
}

type keychain authn.AuthConfig

// Resolve implements authn.Keychain.
func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig(k)), nil
}

func TestEnsureErrors(t *testing.T) {
	_, s := newHost(t)
	r := newServer(t)
	ref := r.push(t, "web:1", newImage(t, files(t, "a", "1")))
	helm := platformImage(t, "linux", "amd64", newLayer(t, []byte("x"), []byte("x"), "application/vnd.cncf.helm.chart.content.v1.tar+gzip"))
	chart := r.push(t, "chart", helm)
	r.require("me")
	im := oci.New(s, config())
	me := keychain{Username: "me", Password: "secret"}
	for _, tt := range []struct {
		name string
		q    oci.Request
		want error
	}{
		{"no credentials", oci.Request{Ref: ref}, oci.ErrUnauthorized},
		{"wrong credentials", oci.Request{Ref: ref, Keychain: keychain{Username: "me", Password: "guess"}}, oci.ErrUnauthorized},
		{"no such tag", oci.Request{Ref: r.addr + "/web:2", Keychain: me}, oci.ErrNotFound},
		{"no such repository", oci.Request{Ref: r.addr + "/nope", Keychain: me}, oci.ErrNotFound},
		{"never", oci.Request{Ref: ref, Keychain: me, Policy: oci.Never}, oci.ErrNeverPull},
		{"upper case", oci.Request{Ref: r.addr + "/WEB"}, oci.ErrInvalidName},
		{"empty", oci.Request{Ref: ""}, oci.ErrInvalidName},
		{"space", oci.Request{Ref: " web"}, oci.ErrInvalidName},
		{"shell", oci.Request{Ref: "web;reboot"}, oci.ErrInvalidName},
		{"long", oci.Request{Ref: strings.Repeat("x", 300)}, oci.ErrInvalidName},
		{"chart", oci.Request{Ref: chart, Keychain: me}, oci.ErrUnsupported},
	} {
		if got, err := im.Ensure(t.Context(), tt.q); !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
	if _, err := im.Ensure(t.Context(), oci.Request{Ref: ref, Keychain: me}); err != nil {
		t.Errorf("right credentials: %v", err)
	}
}

// TestEnsureBrokenPulls interrupts or corrupts a layer and expects a clear
// error, nothing left behind, and success when the registry is well again.
func TestEnsureBrokenPulls(t *testing.T) {
	plain := files(t, "big", strings.Repeat("0123456789", 50000))
	other := gzipped(t, files(t, "big", strings.Repeat("9876543210", 50000)))
	good := newLayer(t, plain, gzipped(t, plain), types.DockerLayer)
	digest, err := good.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		do   func(w http.ResponseWriter, whole []byte)
		want error // nil: any
	}{
		{"cut off", func(w http.ResponseWriter, whole []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
			_, _ = w.Write(whole[:len(whole)/2])
		}, nil},
		{"other content", func(w http.ResponseWriter, _ []byte) { _, _ = w.Write(other) }, oci.ErrCorrupt},
		{"no gzip any more", func(w http.ResponseWriter, whole []byte) {
			bad := append([]byte{0x1f, 0x8b, 0xff, 0xff}, whole[4:]...)
			_, _ = w.Write(bad)
		}, oci.ErrCorrupt},
		{"a flipped bit", func(w http.ResponseWriter, whole []byte) {
			bad := append([]byte{}, whole...)
			bad[len(bad)/2] ^= 4
			_, _ = w.Write(bad)
		}, oci.ErrCorrupt},
		{"gone", func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusNotFound) }, oci.ErrNotFound},
		{"down", func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusServiceUnavailable) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, s := newHost(t)
			r := newServer(t)
			ref := r.push(t, "web", platformImage(t, "linux", "amd64", good))
			r.misbehave(func(w http.ResponseWriter, q *http.Request) bool {
				if q.Method != http.MethodGet || !strings.HasSuffix(q.URL.Path, digest.String()) {
					return false
				}
				tt.do(w, gzipped(t, plain))
				return true
			})
			im := oci.New(s, config())
			got, err := im.Ensure(t.Context(), oci.Request{Ref: ref})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("Ensure = %+v, %v, want %v", got, err, tt.want)
			}
			if left := h.images(t); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			r.misbehave(nil)
			if got, err := im.Ensure(t.Context(), oci.Request{Ref: ref}); err != nil || len(h.content(t, got, "big")) != 500000 {
				t.Errorf("afterwards Ensure = %+v, %v", got, err)
			}
		})
	}
}

func TestEnsureLimits(t *testing.T) {
	_, s := newHost(t)
	r := newServer(t)
	ref := r.push(t, "bomb", newImage(t, files(t, "zeros", strings.Repeat("\x00", 8<<20))))
	c := config()
	c.MaxBytes = 1 << 20
	if _, err := oci.New(s, c).Ensure(t.Context(), oci.Request{Ref: ref}); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("Ensure = %v, want ErrTooLarge", err)
	}
	many := make([]string, 0, 200)
	for i := range 100 {
		many = append(many, fmt.Sprint(i), "")
	}
	ref = r.push(t, "many", newImage(t, files(t, many...)))
	c = config()
	c.MaxEntries = 50
	if _, err := oci.New(s, c).Ensure(t.Context(), oci.Request{Ref: ref}); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("Ensure = %v, want ErrTooLarge", err)
	}
}

// TestEnsureTogether lets many ask for images that share layers.
func TestEnsureTogether(t *testing.T) {
	_, s := newHost(t)
	r := newServer(t)
	base := files(t, "base", "1")
	refs := []string{
		r.push(t, "a", newImage(t, base, files(t, "a", "1"))),
		r.push(t, "b", newImage(t, base, files(t, "b", "1"))),
	}
	c := config()
	c.Pulls = 1
	im := oci.New(s, c)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := im.Ensure(t.Context(), oci.Request{Ref: refs[i%2]}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for path, n := range r.gets {
		if diff, _, _ := v1.SHA256(strings.NewReader(string(gzipped(t, base)))); strings.HasSuffix(path, diff.String()) &&
			strings.HasPrefix(path, "GET") && n > 1 {
			t.Errorf("%s: the shared layer was pulled %d times", path, n)
		}
	}
}

// TestEnsureCanceled ends the call that pulls while another waits for it.
func TestEnsureCanceled(t *testing.T) {
	_, s := newHost(t)
	r := newServer(t)
	ref := r.push(t, "web", newImage(t, files(t, "a", "1")))
	first, cancel := context.WithCancel(t.Context())
	blocked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.misbehave(func(_ http.ResponseWriter, q *http.Request) bool {
		if strings.Contains(q.URL.Path, "/blobs/") && q.Method == http.MethodGet {
			wait := false
			once.Do(func() { wait = true })
			if wait {
				close(blocked)
				<-release
			}
		}
		return false
	})
	im := oci.New(s, config())
	result := make(chan error, 1)
	go func() {
		_, err := im.Ensure(first, oci.Request{Ref: ref})
		result <- err
	}()
	<-blocked
	cancel()
	close(release)
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("the canceled call = %v", err)
	}
	if _, err := im.Ensure(t.Context(), oci.Request{Ref: ref}); err != nil {
		t.Errorf("the other call = %v", err)
	}
}
