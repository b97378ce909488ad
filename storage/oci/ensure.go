package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// Ensure returns the image that q asks for, and pulls it if its policy says
// so. Calls for the same image wait for each other; a call whose ctx ends
// leaves the work to the next.
func (im *Images) Ensure(ctx context.Context, q Request) (Image, error) {
	ref, err := im.parseRef(q.Ref)
	if err != nil {
		return Image{}, err
	}
	if q.Policy != Always {
		image, ok, err := im.local(ctx, ref, q)
		if err != nil || ok {
			return image, err
		}
		if q.Policy == Never {
			return Image{}, fmt.Errorf("oci: image %s: %w", q.Ref, ErrNeverPull)
		}
	}
	image, err := im.pull(ctx, ref, q)
	if err != nil {
		return Image{}, fmt.Errorf("oci: image %s: %w", q.Ref, err)
	}
	return image, nil
}

// local looks for the image among those that are here.
func (im *Images) local(ctx context.Context, ref name.Reference, q Request) (Image, bool, error) {
	r, ok, err := im.lookup(ref, q)
	if err != nil || !ok {
		return Image{}, false, err
	}
	have, err := im.store.HasImage(ctx, r.Dataset)
	if err != nil || !have {
		return Image{}, false, err
	}
	return r.image(q.Ref, ref), true, nil
}

func (im *Images) pull(ctx context.Context, ref name.Reference, q Request) (Image, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sources, err := im.sources(ref)
	if err != nil {
		return Image{}, err
	}
	r, err := im.pullFrom(ctx, cancel, sources, q)
	if err != nil {
		return Image{}, cause(ctx, err)
	}
	for _, d := range r.digests {
		r.record.Digests = append(r.record.Digests, ref.Context().Name()+"@"+d)
	}
	r.record.Refs = []string{ref.Name()}
	r.record.Pulled = time.Now().UTC()
	if err := im.remember(r.record); err != nil {
		return Image{}, err
	}
	return r.record.image(q.Ref, ref), nil
}

// cause returns why ctx ended, if it has, with what that led to.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(err, c) {
		return fmt.Errorf("%w: %w", c, err)
	}
	return err
}

// List returns all images that the index knows, by reference. It does not look
// at the datasets.
func (im *Images) List(_ context.Context) ([]Image, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if err := im.loadLocked(); err != nil {
		return nil, err
	}
	var list []Image
	for _, r := range im.index.Images {
		refs := r.Refs
		if len(refs) == 0 {
			refs = r.Digests[:min(1, len(r.Digests))]
		}
		for _, ref := range refs {
			list = append(list, r.named(ref))
		}
	}
	return list, nil
}

// Remove forgets an image by its ID and destroys its dataset, and the datasets
// of its lower layers that no other image needs. The error is storage.ErrInUse
// while a container is made from it; the image is kept then.
func (im *Images) Remove(ctx context.Context, id string) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if err := im.loadLocked(); err != nil {
		return err
	}
	i := slices.IndexFunc(im.index.Images, func(r record) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	gone := im.index.Images[i]
	rest := slices.Delete(slices.Clone(im.index.Images), i, i+1)
	if err := im.removeChain(ctx, gone.Dataset, rest); err != nil {
		return fmt.Errorf("oci: image %s: %w", id, err)
	}
	im.index.Images = rest
	return im.saveLocked()
}

// removeChain destroys dataset and then its parents, up to the first that
// something else is made from or that another image is.
func (im *Images) removeChain(ctx context.Context, dataset string, others []record) error {
	all, err := im.store.Images(ctx)
	if err != nil {
		return err
	}
	for id, top := dataset, true; id != ""; top = false {
		if slices.ContainsFunc(others, func(r record) bool { return r.Dataset == id }) {
			return nil
		}
		i := slices.IndexFunc(all, func(d imageDataset) bool { return d.ID == id })
		if i < 0 {
			return nil
		}
		if !top && all[i].Clones > 1 {
			return nil
		}
		if err := im.removeDataset(ctx, id); err != nil {
			if !top && isInUse(err) {
				return nil
			}
			return err
		}
		id = all[i].Parent
	}
	return nil
}

// removeDataset destroys one dataset that no pull is about to clone.
func (im *Images) removeDataset(ctx context.Context, id string) error {
	unlock, err := im.chains.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return im.store.RemoveImage(ctx, id)
}
