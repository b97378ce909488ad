package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"reddwarf.io/reddwarf/storage"
)

// Known is an image of the index.
type Known struct {
	ID      string   // digest of its configuration, sha256:…
	Digests []string // NAME@sha256:…
	Tags    []string // NAME:TAG
	Dataset string
	Size    int64     // bytes of its compressed layers and configuration
	Pulled  time.Time // when it came here last
	Used    time.Time // when it was last in use; zero if that was never seen
}

// LastUsed is when the image was last of use to anybody.
func (k Known) LastUsed() time.Time {
	if k.Used.After(k.Pulled) {
		return k.Used
	}
	return k.Pulled
}

// Known returns all images that the index has. It asks the host nothing.
func (im *Images) Known() ([]Known, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if err := im.loadLocked(); err != nil {
		return nil, err
	}
	var all []Known
	for _, r := range im.index.Images {
		k := Known{ID: r.ID, Dataset: r.Dataset, Size: r.Size, Pulled: r.Pulled, Used: r.Used}
		for _, d := range r.Digests {
			k.Digests = append(k.Digests, familiar(d))
		}
		for _, ref := range r.Refs {
			if !strings.Contains(ref, "@") {
				k.Tags = append(k.Tags, familiar(ref))
			}
		}
		all = append(all, k)
	}
	return all, nil
}

// familiar gives Docker's registry the name that everybody else gives it.
func familiar(ref string) string {
	if rest, ok := strings.CutPrefix(ref, "index.docker.io/"); ok {
		return "docker.io/" + rest
	}
	return ref
}

// asked notes that an image is given out, and reports whether it is still to be
// had: its removal may have begun since it was looked up.
func (im *Images) asked(id string) bool {
	im.mu.Lock()
	defer im.mu.Unlock()
	for i := range im.index.Images { // it was loaded to find the image
		if im.index.Images[i].ID == id {
			im.index.Images[i].asked = time.Now()
			return true
		}
	}
	return false
}

// InUse notes, durably, that the images with these IDs are in use now.
func (im *Images) InUse(ids map[string]bool, now time.Time) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if err := im.loadLocked(); err != nil {
		return err
	}
	changed := false
	for i := range im.index.Images {
		if r := &im.index.Images[i]; ids[r.ID] && now.After(r.Used) {
			r.Used, changed = now.UTC(), true
		}
	}
	if !changed {
		return nil
	}
	return im.saveLocked()
}

// Datasets lists the datasets of images, by one host command.
func (im *Images) Datasets(ctx context.Context) ([]storage.ImageDataset, error) {
	return im.store.Images(ctx)
}

// Remove forgets an image by its ID and destroys its dataset, and the datasets
// of its lower layers that no other image needs. It returns the bytes that this
// freed. An absent image is fine.
//
// The error is storage.ErrInUse, and the image is kept, while something is made
// from it but other images or a pull is about it, and if it was given out after
// since: whoever asked for it may not have said yet that it uses it.
func (im *Images) Remove(ctx context.Context, id string, since time.Time) (freed int64, err error) {
	gone, shared, err := im.takeOut(id, since)
	if err != nil || gone == nil || shared {
		return 0, err
	}
	freed, removed, err := im.removeChain(ctx, gone.Dataset)
	if err == nil {
		return freed, nil
	}
	if !removed {
		err = errors.Join(err, im.putBack(*gone))
	}
	return freed, fmt.Errorf("oci: image %s: %w", id, err)
}

// takeOut takes an image out of the index before its datasets go. After a crash
// they belong to no image, which [Images.Sweep] sees, while an index that names
// what is no longer there would have to be held against the host for ever. The
// dataset of a shared one is another image's too.
func (im *Images) takeOut(id string, since time.Time) (gone *record, shared bool, err error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if err := im.loadLocked(); err != nil {
		return nil, false, err
	}
	before := im.index.Images
	i := slices.IndexFunc(before, func(r record) bool { return r.ID == id })
	if i < 0 {
		return nil, false, nil
	}
	r := before[i]
	if r.asked.After(since) {
		return nil, false, fmt.Errorf("oci: image %s was asked for at %s: %w", id, r.asked.Format(time.RFC3339), storage.ErrInUse)
	}
	im.index.Images = slices.Delete(slices.Clone(before), i, i+1)
	if err := im.saveLocked(); err != nil {
		im.index.Images = before
		return nil, false, err
	}
	return &r, slices.ContainsFunc(im.index.Images, func(other record) bool { return other.Dataset == r.Dataset }), nil
}

// putBack returns an image to the index, unless it was pulled again meanwhile.
func (im *Images) putBack(r record) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if slices.ContainsFunc(im.index.Images, func(now record) bool { return now.ID == r.ID }) {
		return nil
	}
	// A tag that another image was given meanwhile is that one's.
	r.Refs = slices.DeleteFunc(slices.Clone(r.Refs), func(ref string) bool {
		return slices.ContainsFunc(im.index.Images, func(now record) bool {
			return now.OS == r.OS && now.Arch == r.Arch && slices.Contains(now.Refs, ref)
		})
	})
	im.index.Images = append(slices.Clone(im.index.Images), r)
	return im.saveLocked()
}

// removeChain destroys dataset and then its parents, up to the first that
// something else is made from or that another image is. What it leaves of the
// parents, whatever the reason, belongs to no image and is swept up later.
func (im *Images) removeChain(ctx context.Context, dataset string) (freed int64, removed bool, err error) {
	all, err := im.store.Images(ctx)
	if err != nil {
		return 0, false, err
	}
	for id := dataset; id != ""; {
		i := slices.IndexFunc(all, func(d storage.ImageDataset) bool { return d.ID == id })
		if i < 0 {
			return freed, true, nil
		}
		switch {
		case removed && all[i].Clones > 1:
			return freed, true, nil
		case !removed && all[i].Clones > 0 && all[i].Clones == all[i].Images:
			return 0, true, nil // it stays as a layer of other images, and goes with the last of them
		}
		if err := im.removeDataset(ctx, id); err != nil {
			if removed {
				return freed, true, nil
			}
			return 0, false, err
		}
		freed, removed = freed+all[i].Used, true
		id = all[i].Parent
	}
	return freed, true, nil
}

// removeDataset destroys one dataset that nobody has claimed and that is no
// image's. A pull names its image before it gives up its claim, so what is seen
// under exclusion stays so.
func (im *Images) removeDataset(ctx context.Context, id string) error {
	end, ok := im.claims.exclude(id)
	if !ok {
		return fmt.Errorf("oci: dataset %s: %w: a pull is about it", id, storage.ErrInUse)
	}
	defer end()
	im.mu.Lock()
	owned := slices.ContainsFunc(im.index.Images, func(r record) bool { return r.Dataset == id })
	im.mu.Unlock()
	if owned {
		return fmt.Errorf("oci: dataset %s: %w: it is an image's", id, storage.ErrInUse)
	}
	return im.store.RemoveImage(ctx, id)
}

// Sweep destroys the datasets that belong to no image and were made before a
// time: of pulls that failed, and of removals that did not come to their end.
// What somebody has made a clone of stays and is no error, as with Remove.
func (im *Images) Sweep(ctx context.Context, before time.Time) (freed int64, err error) {
	all, err := im.store.Images(ctx)
	if err != nil {
		return 0, err
	}
	known, err := im.Known()
	if err != nil {
		return 0, err
	}
	owned := map[string]bool{}
	for _, k := range known {
		owned[k.Dataset] = true
	}
	clones := map[string]int{}
	for _, d := range all {
		clones[d.ID] = d.Clones
	}
	var errs []error
	for again := true; again; { // a parent is free once its last clone has gone
		again = false
		for _, d := range all {
			n, there := clones[d.ID]
			if !there || n > 0 || owned[d.ID] || !d.Created.Before(before) {
				continue
			}
			delete(clones, d.ID) // tried once
			switch err := im.removeDataset(ctx, d.ID); {
			case errors.Is(err, storage.ErrInUse):
				continue
			case err != nil:
				errs = append(errs, err)
				continue
			}
			freed += d.Used
			if _, ok := clones[d.Parent]; ok {
				clones[d.Parent]--
				again = true
			}
		}
	}
	return freed, errors.Join(errs...)
}
