package images

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func TestLayerHeaders(t *testing.T) {
	layer, err := Layer(
		Dir("d"),
		Entry{Path: "s", Mode: 0o755 | fs.ModeSetuid | fs.ModeSetgid, Data: []byte("x"), UID: 7, GID: 8},
		Entry{Path: "t/", Type: tar.TypeDir, Mode: 0o777 | fs.ModeSticky},
		Entry{Path: "x", Mode: 0o600, Xattrs: map[string]string{"user.a": "1"}},
		Symlink("l", "/t"),
		Hardlink("h", "s"),
	)
	if err != nil {
		t.Fatal(err)
	}
	r, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	tr := tar.NewReader(r)
	for _, want := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "s", Typeflag: tar.TypeReg, Mode: 0o6755, Uid: 7, Gid: 8, Size: 1},
		{Name: "t/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "x", Typeflag: tar.TypeReg, Mode: 0o600},
		{Name: "l", Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: "/t"},
		{Name: "h", Typeflag: tar.TypeLink, Mode: 0o644, Linkname: "s"},
	} {
		got, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		if got.Name != want.Name || got.Typeflag != want.Typeflag || got.Mode != want.Mode || got.Uid != want.Uid ||
			got.Gid != want.Gid || got.Size != want.Size || got.Linkname != want.Linkname || got.ModTime.Unix() != 0 {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got.Name == "x" && got.PAXRecords["SCHILY.xattr.user.a"] != "1" {
			t.Errorf("records %v", got.PAXRecords)
		}
	}
	if _, err := tr.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("more than expected: %v", err)
	}
}

func TestImagesAreValidAndReproducible(t *testing.T) {
	k := kubernetesFrom(t)
	for name, build := range map[string]func() (v1.Image, error){
		"odd":     Odd,
		"busybox": Busybox,
		"idle":    Idle,
		"nonroot": k.NonRootImage,
		"agnhost": k.AgnhostImage,
		"kitten":  k.KittenImage,
		"nnp":     k.NoNewPrivsImage,
		"bash":    k.BusyboxImage,
		"glibc":   k.GlibcImage,
		"nginx":   k.NginxImage,
		"web":     func() (v1.Image, error) { return WebFrom("/bin/busybox", linux) },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(BusyboxPath); err != nil && name != "odd" {
				t.Skip("needs busybox-static")
			}
			var digests [2]v1.Hash
			for i := range digests {
				img, err := build()
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					validatePulled(t, img)
				}
				if digests[i], err = img.Digest(); err != nil {
					t.Fatal(err)
				}
			}
			if digests[0] != digests[1] {
				t.Errorf("two builds differ: %v", digests)
			}
		})
	}
}

// validatePulled checks every digest and size of an image as a client gets it.
func validatePulled(t *testing.T, img v1.Image) {
	t.Helper()
	handler, err := Handler(t.Context(), Options{}, Named{Name: "x/y:1", Image: img})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference("registry.invalid/x/y:1")
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(ref, remote.WithTransport(direct{handler}), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pulled); err != nil {
		t.Error(err)
	}
}

func TestBusybox(t *testing.T) {
	if _, err := os.Stat(BusyboxPath); err != nil {
		t.Skip("needs busybox-static")
	}
	img, err := Busybox()
	if err != nil {
		t.Fatal(err)
	}
	got := members(t, img)
	for path, want := range map[string]string{"bin/sh": "-> busybox", "bin/ls": "-> busybox", "tmp": "dir"} {
		if got[path] != want {
			t.Errorf("%s is %q, want %q", path, got[path], want)
		}
	}
	if !strings.HasPrefix(got["bin/busybox"], "\x7fELF") {
		t.Error("bin/busybox is no program")
	}
	if !strings.HasPrefix(got["etc/passwd"], "root:x:0:0:") {
		t.Errorf("etc/passwd is %q", got["etc/passwd"])
	}
	if _, err := BusyboxFrom("/no/such/file"); err == nil || !strings.Contains(err.Error(), "busybox-static") {
		t.Errorf("without it: %v", err)
	}
}

// The library's own flattening must see what OddFiles says of an unpacked image.
func TestOddFlattened(t *testing.T) {
	img, err := Odd()
	if err != nil {
		t.Fatal(err)
	}
	got := members(t, img)
	for path, want := range OddFiles() {
		// The library ignores opaque markers, and hard links have no content of
		// their own in an archive.
		if strings.HasPrefix(path, "opaque/") || strings.HasPrefix(path, "hardlink") || path == "dir-to-link" || path == "etc/inside" {
			continue
		}
		have, ok := got[path]
		if !ok {
			have = "absent"
		}
		if have != want {
			t.Errorf("%q is %q, want %q", path, have, want)
		}
	}
}

// members returns what is at each path of a flattened image.
func members(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close() //nolint:errcheck // only read
	all := make(map[string]string)
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		h.Name = strings.TrimSuffix(h.Name, "/")
		switch h.Typeflag {
		case tar.TypeDir:
			all[h.Name] = "dir"
		case tar.TypeSymlink:
			all[h.Name] = "-> " + h.Linkname
		case tar.TypeFifo:
			all[h.Name] = "fifo"
		default:
			data, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			all[h.Name] = string(data)
		}
	}
}

func TestHostileSet(t *testing.T) {
	all, err := Hostile()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"dotdot", "symlink-layers", "hardlink-out", "whiteout-dotdot", "device"} {
		if all[want] == nil {
			t.Errorf("no %s", want)
		}
	}
	for name, img := range all {
		if _, err := img.Digest(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHandler(t *testing.T) {
	odd, err := Odd()
	if err != nil {
		t.Fatal(err)
	}
	index, err := WrongPlatform()
	if err != nil {
		t.Fatal(err)
	}
	named := []Named{
		{Name: "reddwarf/odd:1", Image: odd}, {Name: "other/name:v2", Image: odd}, {Name: "reddwarf/platform:1", Index: index},
	}
	for _, tt := range []struct {
		name    string
		options Options
		auth    authn.Authenticator
		status  int // of a refusal; 0 means the pull works
	}{
		{"open", Options{}, authn.Anonymous, 0},
		{"login", Options{User: "u", Password: "p"}, &authn.Basic{Username: "u", Password: "p"}, 0},
		{"wrong password", Options{User: "u", Password: "p"}, &authn.Basic{Username: "u", Password: "q"}, http.StatusUnauthorized},
		{"no login", Options{User: "u", Password: "p"}, authn.Anonymous, http.StatusUnauthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			handler, err := Handler(t.Context(), tt.options, named...)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(handler)
			defer server.Close()
			host := strings.TrimPrefix(server.URL, "http://")
			for _, n := range named {
				ref, err := name.ParseReference(host + "/" + n.Name)
				if err != nil {
					t.Fatal(err)
				}
				got, err := remote.Get(ref, remote.WithAuth(tt.auth), remote.WithContext(t.Context()))
				if tt.status != 0 {
					te, ok := errors.AsType[*transport.Error](err)
					if !ok || te.StatusCode != tt.status {
						t.Errorf("%s: %v, want status %d", n.Name, err, tt.status)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if n.Index != nil {
					want, err := n.Index.Digest()
					if err != nil || got.Digest != want {
						t.Errorf("%s: digest %v, want %v (%v)", n.Name, got.Digest, want, err)
					}
					continue
				}
				img, err := got.Image()
				if err != nil {
					t.Fatal(err)
				}
				if err := validate.Image(img); err != nil { // downloads all layers
					t.Errorf("%s: %v", n.Name, err)
				}
			}
		})
	}
}

func TestHandlerRefusesNonsense(t *testing.T) {
	for _, n := range []Named{{Name: "x:1"}, {Name: "BAD NAME:1"}, {Name: "untagged"}} {
		if n.Name != "x:1" {
			n.Image, _ = Odd() //nolint:errcheck // nil would be refused as well, and tested elsewhere
		}
		if _, err := Handler(t.Context(), Options{}, n); err == nil {
			t.Errorf("%+v was accepted", n.Name)
		}
	}
}

func TestWrongPlatform(t *testing.T) {
	index, err := WrongPlatform()
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range m.Manifests {
		got = append(got, d.Platform.String())
	}
	if want := []string{"windows/amd64", "linux/s390x"}; !slices.Equal(got, want) {
		t.Errorf("platforms %v, want %v", got, want)
	}
}

// Web is compiled by the go command: the same sources give the same digest.
func TestWeb(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program twice")
	}
	var digests [2]v1.Hash
	for i := range digests {
		img, err := Web(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := members(t, img)["web"]; !strings.HasPrefix(got, "\x7fELF") {
			t.Error("no program in the image")
		}
		if digests[i], err = img.Digest(); err != nil {
			t.Fatal(err)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds differ: %v", digests)
	}
}

func TestNative(t *testing.T) {
	linux, err := Busybox()
	if err != nil {
		t.Skip(err)
	}
	native, err := Native(linux)
	if err != nil {
		t.Fatal(err)
	}
	was, err1 := linux.ConfigFile()
	is, err2 := native.ConfigFile()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if is.OS != "illumos" || is.Architecture != was.Architecture || !reflect.DeepEqual(is.Config, was.Config) || !reflect.DeepEqual(is.RootFS, was.RootFS) {
		t.Errorf("of %+v it made %+v", was, is)
	}
}
