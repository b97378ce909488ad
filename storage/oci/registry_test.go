package oci_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// server is a registry in this process that counts what it is asked for and
// can be made to misbehave.
type server struct {
	*httptest.Server
	addr string

	mu    sync.Mutex
	gets  map[string]int // path → how often
	user  string         // with password "secret"; empty means open to all
	wrong func(w http.ResponseWriter, r *http.Request) bool
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{gets: map[string]int{}}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.gets[r.Method+" "+r.URL.Path]++
		user, wrong := s.user, s.wrong
		s.mu.Unlock()
		if u, p, _ := r.BasicAuth(); user != "" && (u != user || p != "secret") {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if wrong != nil && wrong(w, r) {
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	s.addr = strings.TrimPrefix(s.URL, "http://")
	return s
}

func (s *server) misbehave(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = f
}

func (s *server) require(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user = user
}

// blobs returns how many blobs were fetched since the last call.
func (s *server) blobs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for path, count := range s.gets {
		if strings.HasPrefix(path, "GET ") && strings.Contains(path, "/blobs/sha256:") {
			n += count
		}
	}
	s.gets = map[string]int{}
	return n
}

func (s *server) push(t *testing.T, repo string, what remote.Taggable) string {
	t.Helper()
	ref, err := name.ParseReference(s.addr + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	switch v := what.(type) {
	case v1.Image:
		err = remote.Write(ref, v, remote.WithAuth(authn.Anonymous))
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, v, remote.WithAuth(authn.Anonymous))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.blobs()
	return ref.Name()
}

// files makes an uncompressed layer of name, content pairs.
func files(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: pairs[i], Size: int64(len(pairs[i+1])), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// layer is a layer as a registry serves it, with the digest of what is in it.
type layer struct {
	v1.Layer
	diff v1.Hash
}

// DiffID implements v1.Layer.
func (l layer) DiffID() (v1.Hash, error) { return l.diff, nil }

func newLayer(t *testing.T, plain, served []byte, kind types.MediaType) v1.Layer {
	t.Helper()
	diff, _, err := v1.SHA256(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	return layer{static.NewLayer(served, kind), diff}
}

// newImage makes an image for linux/amd64 with gzipped layers.
func newImage(t *testing.T, plain ...[]byte) v1.Image {
	t.Helper()
	var ls []v1.Layer
	for _, p := range plain {
		ls = append(ls, newLayer(t, p, gzipped(t, p), types.DockerLayer))
	}
	return platformImage(t, "linux", "amd64", ls...)
}

func platformImage(t *testing.T, os, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = os, arch
	c.Config = v1.Config{
		Entrypoint: []string{"/bin/web"}, Cmd: []string{"-v"}, Env: []string{"A=b c"}, User: "7:8",
		WorkingDir: "/srv", StopSignal: "SIGINT", Volumes: map[string]struct{}{"/data": {}},
	}
	if image, err = mutate.ConfigFile(image, c); err != nil {
		t.Fatal(err)
	}
	return image
}

func newIndex(images map[string]v1.Image) v1.ImageIndex {
	var index v1.ImageIndex = empty.Index
	for platform, image := range images {
		os, arch, _ := strings.Cut(platform, "/")
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch}},
		})
	}
	return index
}
