package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The index is one file beside the image datasets, so that it lives and dies
// with them and a restarted agent needs no registry for what is here.
const (
	indexFile = "index.json"
	maxIndex  = 64 << 20 // bytes; an image with all its labels takes about 10 KiB
)

type index struct {
	Version int      `json:"version"`
	Images  []record `json:"images"`
}

// record is one image in the index.
type record struct {
	ID      string      `json:"id"`
	Refs    []string    `json:"refs"`    // full names with tag or digest
	Digests []string    `json:"digests"` // NAME@sha256:…, the index' and the manifest's
	Dataset string      `json:"dataset"`
	OS      string      `json:"os"`
	Arch    string      `json:"arch"`
	Size    int64       `json:"size"`
	Config  ImageConfig `json:"config"`
	Pulled  time.Time   `json:"pulled"`
	Used    time.Time   `json:"used,omitzero"` // when it was last known to be in use

	// asked is when it was last given out. It is not in the file: whoever asked
	// has said by then that it uses the image, or died with the agent.
	asked time.Time
}

// image returns what Ensure answers to a request for ref.
func (r record) image(asked string, ref name.Reference) Image {
	image := r.named(asked)
	for _, d := range r.Digests {
		if strings.HasPrefix(d, ref.Context().Name()+"@") {
			image.Digest = d
			break
		}
	}
	return image
}

func (r record) named(ref string) Image {
	image := Image{
		Ref: ref, ID: r.ID, Dataset: r.Dataset, OS: r.OS, Arch: r.Arch,
		Size: r.Size, Config: r.Config, Pulled: r.Pulled,
	}
	if len(r.Digests) > 0 {
		image.Digest = r.Digests[0]
	}
	return image
}

// lookup finds an image that is called ref and runs on the wanted platform.
func (im *Images) lookup(ref name.Reference, q Request) (record, bool, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if err := im.loadLocked(); err != nil {
		return record{}, false, err
	}
	full := ref.Name()
	for _, os := range wantedOS(q.OS) {
		for _, r := range im.index.Images {
			if (slices.Contains(r.Refs, full) || slices.Contains(r.Digests, full)) &&
				fits(v1.Platform{OS: r.OS, Architecture: r.Arch}, os, q.Arch) {
				return r, true, nil
			}
		}
	}
	return record{}, false, nil
}

// remember adds r to the index, or its names to what the index has of it. A
// name is taken from the image that had it on the same platform.
func (im *Images) remember(r record) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if err := im.loadLocked(); err != nil {
		return err
	}
	images := slices.Clone(im.index.Images)
	for i, old := range images {
		if old.ID == r.ID {
			r.Refs = union(old.Refs, r.Refs)
			r.Digests = union(r.Digests, old.Digests)
			r.Used = old.Used
		} else if old.OS == r.OS && old.Arch == r.Arch {
			images[i].Refs = slices.DeleteFunc(slices.Clone(old.Refs), func(s string) bool { return slices.Contains(r.Refs, s) })
		}
	}
	images = slices.DeleteFunc(images, func(old record) bool { return old.ID == r.ID })
	before := im.index.Images
	im.index.Images = append(images, r)
	if err := im.saveLocked(); err != nil {
		im.index.Images = before
		return err
	}
	return nil
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// loadLocked reads the index file once. One that cannot be read as an index
// is put aside: the layers are still here, so that only manifests have to be
// asked for again.
func (im *Images) loadLocked() error {
	if im.index != nil {
		return nil
	}
	path := filepath.Join(im.store.ImagesDir(), indexFile)
	x, err := readIndex(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		x = &index{Version: 1}
	case errors.Is(err, errBadIndex):
		if err := os.Rename(path, path+".bad"); err != nil {
			return fmt.Errorf("oci: %w", err)
		}
		x = &index{Version: 1}
	case err != nil:
		return err
	}
	im.index = x
	return nil
}

var errBadIndex = errors.New("not an image index")

func readIndex(path string) (*index, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("oci: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("oci: %w", err)
	}
	return parseIndex(b)
}

func parseIndex(b []byte) (*index, error) {
	var x index
	if len(b) > maxIndex {
		return nil, fmt.Errorf("oci: %w: larger than %d bytes", errBadIndex, maxIndex)
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, fmt.Errorf("oci: %w: %w", errBadIndex, err)
	}
	if x.Version != 1 {
		return nil, fmt.Errorf("oci: %w: version %d", errBadIndex, x.Version)
	}
	return &x, nil
}

// saveLocked replaces the index file, so that a crash leaves the old or the
// new one.
func (im *Images) saveLocked() (err error) {
	b, err := json.Marshal(im.index)
	if err != nil {
		return fmt.Errorf("oci: index: %w", err)
	}
	dir := im.store.ImagesDir()
	f, err := os.CreateTemp(dir, "."+indexFile+"-*")
	if err != nil {
		return fmt.Errorf("oci: index: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("oci: index: %w", err)
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, indexFile)); err != nil {
		return fmt.Errorf("oci: index: %w", err)
	}
	return nil
}
