package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const (
	maxConfig = 8 << 20 // bytes of an image's configuration
	maxLayers = 256     // each is a ZFS clone of the one before
	maxNested = 3       // indexes in indexes
)

// resolved is an image as its registry describes it. Nothing but the manifest
// and the configuration has been read, and both have the digests they should.
type resolved struct {
	image   v1.Image
	layers  []v1.Layer
	chains  []string // dataset ids, one for each layer
	record  record   // without its references
	digests []string // of the index and the manifest
	release func()   // gives its datasets up, once they are claimed
}

// resolve asks the registry what ref is on the wanted platform.
func (im *Images) resolve(ctx context.Context, ref name.Reference, q Request) (*resolved, error) {
	keychain := q.Keychain
	if keychain == nil {
		keychain = authn.NewMultiKeychain() // none; the default one reads files of root's home
	}
	options := []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(keychain),
		remote.WithTransport(im.transport),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), // the caller retries
	}
	if im.c.UserAgent != "" {
		options = append(options, remote.WithUserAgent(im.c.UserAgent))
	}
	d, err := remote.Get(ref, options...)
	if err != nil {
		return nil, classify(err)
	}
	digests := []string{d.Digest.String()}
	var image v1.Image
	switch {
	case d.MediaType.IsIndex():
		var index v1.ImageIndex
		if index, err = d.ImageIndex(); err == nil {
			image, err = pick(index, q, maxNested)
		}
	case d.MediaType.IsImage():
		image, err = d.Image()
	default:
		return nil, fmt.Errorf("%w: media type %q", ErrUnsupported, d.MediaType)
	}
	if err != nil {
		return nil, classify(err)
	}
	own, err := image.Digest()
	if err != nil {
		return nil, classify(err)
	}
	if !slices.Contains(digests, own.String()) {
		digests = append(digests, own.String())
	}
	return describe(image, digests, q)
}

// pick returns the image of the index that fits the platform best.
func pick(index v1.ImageIndex, q Request, depth int) (v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, os := range wantedOS(q.OS) {
		for _, d := range m.Manifests {
			if d.MediaType.IsImage() && d.Platform != nil && fits(*d.Platform, os, q.Arch) {
				return index.Image(d.Digest)
			}
		}
	}
	for _, d := range m.Manifests {
		if !d.MediaType.IsIndex() || depth == 0 {
			continue
		}
		nested, err := index.ImageIndex(d.Digest)
		if err != nil {
			return nil, err
		}
		image, err := pick(nested, q, depth-1)
		if !errors.Is(err, ErrPlatform) {
			return image, err
		}
	}
	return nil, fmt.Errorf("%w %s", ErrPlatform, platform(q.OS, q.Arch))
}

// wantedOS returns what may run where os is wanted, the best first.
func wantedOS(os string) []string {
	switch os {
	case "":
		return []string{"illumos", "solaris", "linux"}
	case "illumos", "solaris":
		return []string{"illumos", "solaris"}
	}
	return []string{os}
}

func fits(p v1.Platform, os, arch string) bool {
	return p.OS == os && p.Architecture == cmpOr(arch, "amd64") &&
		(p.Variant == "" || p.Variant == "v1") // of amd64; v2 and up need a newer processor
}

func cmpOr(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func platform(os, arch string) string { return cmpOr(os, "any") + "/" + cmpOr(arch, "amd64") }

// describe reads the configuration of an image and checks that it can be
// unpacked and run.
func describe(image v1.Image, digests []string, q Request) (*resolved, error) {
	m, err := image.Manifest()
	if err != nil {
		return nil, classify(err)
	}
	if m.Config.Size > maxConfig {
		return nil, fmt.Errorf("%w: configuration of %d bytes", ErrTooLarge, m.Config.Size)
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%w: %d layers", ErrTooLarge, len(m.Layers))
	}
	if !m.Config.MediaType.IsConfig() {
		return nil, fmt.Errorf("%w: configuration of type %q", ErrUnsupported, m.Config.MediaType)
	}
	c, err := image.ConfigFile()
	if err != nil {
		return nil, classify(err)
	}
	p := v1.Platform{OS: cmpOr(c.OS, "linux"), Architecture: cmpOr(c.Architecture, "amd64")}
	if !slices.ContainsFunc(wantedOS(q.OS), func(os string) bool { return fits(p, os, q.Arch) }) {
		return nil, fmt.Errorf("%w %s: it is for %s/%s", ErrPlatform, platform(q.OS, q.Arch), p.OS, p.Architecture)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w: %d layers but %d digests of them", ErrUnsupported, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	r := &resolved{image: image, chains: chainIDs(c.RootFS.DiffIDs), digests: digests}
	if r.layers, err = image.Layers(); err != nil {
		return nil, classify(err)
	}
	size := m.Config.Size
	for _, l := range m.Layers {
		if !l.MediaType.IsLayer() {
			return nil, fmt.Errorf("%w: layer of type %q", ErrUnsupported, l.MediaType)
		}
		size += l.Size
	}
	r.record = record{
		ID:      m.Config.Digest.String(),
		Dataset: r.dataset(),
		OS:      p.OS,
		Arch:    p.Architecture,
		Size:    size,
		Config:  configOf(c.Config),
	}
	return r, nil
}

// dataset returns the id of the dataset that holds the whole image.
func (r *resolved) dataset() string {
	if len(r.chains) == 0 {
		return emptyChain
	}
	return r.chains[len(r.chains)-1]
}

// emptyChain is the dataset of images without layers: the digest of nothing.
var emptyChain = hex.EncodeToString(sha256.New().Sum(nil))

// chainIDs returns what the OCI image specification calls ChainID, for each
// prefix of the layers.
func chainIDs(diffs []v1.Hash) []string {
	var ids []string
	for i, d := range diffs {
		if i == 0 {
			ids = append(ids, d.Hex)
			continue
		}
		sum := sha256.Sum256([]byte("sha256:" + ids[i-1] + " " + d.String()))
		ids = append(ids, hex.EncodeToString(sum[:]))
	}
	return ids
}

func configOf(c v1.Config) ImageConfig {
	return ImageConfig{
		Entrypoint: c.Entrypoint,
		Cmd:        c.Cmd,
		Env:        c.Env,
		User:       c.User,
		WorkingDir: c.WorkingDir,
		Volumes:    c.Volumes,
		StopSignal: c.StopSignal,
		Labels:     c.Labels,
		Ports:      c.ExposedPorts,
	}
}
