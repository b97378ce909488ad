package oci

import (
	"context"
	"errors"
	"fmt"
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
	release, err := im.claims.claim(ctx, r.Dataset)
	if err != nil {
		return Image{}, false, err
	}
	defer release()
	have, err := im.store.HasImage(ctx, r.Dataset)
	if err != nil || !have || !im.asked(r.ID) {
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
	defer r.release() // what the index has is kept for its own sake
	for _, d := range r.digests {
		r.record.Digests = append(r.record.Digests, ref.Context().Name()+"@"+d)
	}
	r.record.Refs = []string{ref.Name()}
	r.record.Pulled = time.Now().UTC()
	r.record.asked = r.record.Pulled
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
