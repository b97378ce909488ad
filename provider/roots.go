package provider

import (
	"context"
	"errors"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones/podinit"
)

// makeRoot makes the root of a container that its zone is to boot with. What an
// earlier boot may have written there is taken back.
func (w *worker) makeRoot(ctx context.Context, c ledger.Container) (dataset string, err error) {
	dataset, err = w.p.c.Storage.EnsureContainer(ctx, w.uid, c.Name, c.Image.Dataset)
	if errors.Is(err, storage.ErrConflict) { // of the image that it had before
		if err := w.p.c.Storage.RemoveContainer(ctx, w.uid, c.Name); err != nil {
			return "", err
		}
		dataset, err = w.p.c.Storage.EnsureContainer(ctx, w.uid, c.Name, c.Image.Dataset)
	}
	if err == nil && c.Attempt > 0 {
		err = w.p.c.Storage.ResetContainer(ctx, w.uid, c.Name)
	}
	return dataset, err
}

// freshRoot brings the root of an attempt into the running zone, or takes it
// back to what it was at first.
func (w *worker) freshRoot(ctx context.Context, in translate.Input, pc podinit.Container) error {
	image := in.Images[pc.Name].Dataset
	switch {
	case in.Places[pc.Name] > 0:
		if err := w.p.c.Storage.EnsureRenewal(ctx, w.uid, pc.Name, image, in.Slot, pc.Spare); err != nil {
			return w.imageGone(err, imageOf(pc.Name))
		}
		return w.p.c.Storage.ResetRenewal(ctx, w.uid, pc.Name, pc.Spare)
	case pc.Spare > 0:
		return w.imageGone(w.p.c.Storage.EnsureSpare(ctx, w.uid, pc.Name, image, in.Slot, pc.Spare), imageOf(pc.Name))
	case pc.Attempt > 0:
		return w.p.c.Storage.ResetContainer(ctx, w.uid, pc.Name)
	}
	return nil
}
