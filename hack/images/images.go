// Package images builds small OCI images without any container tool, and serves
// them from a registry in this process, so that tests and the demo pull through
// the real path without internet.
//
// The same sources and the same compiler give the same digests: layers have no
// times but the epoch, and a fixed order.
package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Entry is one member of a layer. Its path goes into the archive as it is.
type Entry struct {
	Path     string
	Type     byte // tar.TypeReg and so on; the zero value is a regular file
	Mode     fs.FileMode
	Data     []byte
	Link     string // target of a symbolic or hard link
	UID, GID int
	Xattrs   map[string]string
}

// Dir returns a directory with mode 0755.
func Dir(path string) Entry { return Entry{Path: path + "/", Type: tar.TypeDir, Mode: 0o755} }

// File returns a regular file with mode 0644.
func File(path, data string) Entry { return Entry{Path: path, Mode: 0o644, Data: []byte(data)} }

// Symlink returns a symbolic link at path with the given target.
func Symlink(path, target string) Entry {
	return Entry{Path: path, Type: tar.TypeSymlink, Mode: 0o777, Link: target}
}

// Hardlink returns a hard link at path to an earlier member.
func Hardlink(path, target string) Entry {
	return Entry{Path: path, Type: tar.TypeLink, Mode: 0o644, Link: target}
}

// Layer returns a compressed layer of entries in their order.
func Layer(entries ...Entry) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(e.header()); err != nil {
			return nil, fmt.Errorf("layer: %s: %w", e.Path, err)
		}
		if _, err := w.Write(e.Data); err != nil {
			return nil, fmt.Errorf("layer: %s: %w", e.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	return layer, nil
}

func (e Entry) header() *tar.Header {
	h := &tar.Header{
		Name: e.Path, Typeflag: e.Type, Linkname: e.Link,
		Mode: int64(e.Mode.Perm()), Size: int64(len(e.Data)),
		Uid: e.UID, Gid: e.GID, ModTime: time.Unix(0, 0),
	}
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	for bit, value := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if e.Mode&bit != 0 {
			h.Mode |= value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords["SCHILY.xattr."+name] = e.Xattrs[name]
	}
	return h
}

// Image returns an OCI image of layers for a platform.
func Image(platform v1.Platform, config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	withConfig, err := mutate.ConfigFile(base, &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		Config: config,
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	img, err := mutate.AppendLayers(withConfig, layers...)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return img, nil
}

// Index returns an index of images, each under the platform of its config.
func Index(imgs ...v1.Image) (v1.ImageIndex, error) {
	var adds []mutate.IndexAddendum
	for _, img := range imgs {
		config, err := img.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
		desc, err := partial.Descriptor(img)
		if err != nil {
			return nil, fmt.Errorf("index: %w", err)
		}
		desc.Platform = config.Platform()
		adds = append(adds, mutate.IndexAddendum{Add: img, Descriptor: *desc})
	}
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), adds...), nil
}

// accounts are what programs expect in an image's /etc.
func accounts() []Entry {
	return []Entry{
		Dir("etc"),
		File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\nuser:x:1000:1000:user:/home/user:/bin/sh\n"),
		File("etc/group", "root:x:0:\nnogroup:x:65534:\nuser:x:1000:\n"),
		{Path: "root/", Type: tar.TypeDir, Mode: 0o700},
		Dir("home"),
		{Path: "home/user/", Type: tar.TypeDir, Mode: 0o755, UID: 1000, GID: 1000},
		{Path: "tmp/", Type: tar.TypeDir, Mode: 0o777 | fs.ModeSticky},
	}
}
