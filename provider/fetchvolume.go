package provider

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage/oci"
)

// fetchVolume brings the image of a volume here. What it resolves to is the
// pod's for its whole life. The pod's brand is decided by then: containers'
// images come first.
func (w *worker) fetchVolume(ctx context.Context, name string) error {
	in, err := w.input(ctx)
	if err != nil {
		return err
	}
	var source *corev1.ImageVolumeSource
	for _, v := range in.Pod.Spec.Volumes {
		if v.Name == name {
			source = v.Image
		}
	}
	keys, err := w.p.keychain(ctx, in.Pod)
	if err != nil {
		return err
	}
	began, pulling := time.Now(), false
	image, err := w.p.c.Images.Ensure(ctx, oci.Request{
		Ref: source.Reference, OS: translate.ImageOS(in.Brand), Policy: pullPolicy(source.PullPolicy), Keychain: keys,
		Progress: func(int64, int64) {
			if !pulling {
				pulling = true
				w.event(nil, corev1.EventTypeNormal, "Pulling", "Pulling image %q", source.Reference)
			}
		},
	})
	if err != nil {
		return &fault{"", "Failed", fmt.Errorf("Failed to pull image %q: %s: %w", source.Reference, pullReason(err), err)} //nolint:staticcheck // a kubelet's sentence
	}
	if pulling {
		w.event(nil, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %s. Image size: %d bytes.",
			source.Reference, time.Since(began).Round(time.Millisecond), image.Size)
	}
	return w.change(func(st *ledger.State) {
		images := maps.Clone(st.VolumeImages)
		if images == nil {
			images = map[string]ledger.Image{}
		}
		images[name] = ledger.Image{Ref: image.Ref, ID: image.ID, Digest: image.Digest, Dataset: image.Dataset, OS: image.OS}
		st.VolumeImages = images
	})
}
