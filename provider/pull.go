package provider

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage/oci"
)

// pull brings one container's image here. What it resolves to is the pod's
// for its whole life. The first one decides on the zone's brand, where the pod
// leaves that open.
func (w *worker) pull(ctx context.Context, name string) error {
	in, err := w.input(ctx)
	if err != nil {
		return err
	}
	c := container(in.Pod, name)
	keys, err := w.p.keychain(ctx, in.Pod)
	if err != nil {
		return err
	}
	w.mu.Lock()
	st := w.st.Clone()
	w.mu.Unlock()
	choice, err := brands(in.Pod, st, w.p.c.Node)
	if err != nil {
		return err
	}
	began := time.Now()
	pulling := false
	var image oci.Image
	var brand string
	for _, brand = range choice {
		image, err = w.p.c.Images.Ensure(ctx, oci.Request{
			Ref: c.Image, OS: translate.ImageOS(brand), Policy: pullPolicy(c.ImagePullPolicy), Keychain: keys,
			Progress: func(int64, int64) {
				if !pulling {
					pulling = true
					w.event(c, corev1.EventTypeNormal, "Pulling", "Pulling image %q", c.Image)
				}
			},
		})
		if !errors.Is(err, oci.ErrPlatform) {
			break
		}
	}
	if err != nil {
		return &fault{name, pullReason(err), err}
	}
	if pulling {
		w.event(c, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %s. Image size: %d bytes.",
			c.Image, time.Since(began).Round(time.Millisecond), image.Size)
	} else {
		w.event(c, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine", c.Image)
	}
	return w.change(func(st *ledger.State) {
		st.Brand = brand
		st.Container(name).Image = &ledger.Image{
			Ref: image.Ref, ID: image.ID, Digest: image.Digest, Dataset: image.Dataset, OS: image.OS,
			Entrypoint: image.Config.Entrypoint, Cmd: image.Config.Cmd, Env: image.Config.Env,
			User: image.Config.User, WorkingDir: image.Config.WorkingDir, StopSignal: image.Config.StopSignal,
		}
	})
}

func pullPolicy(p corev1.PullPolicy) oci.Policy {
	switch p {
	case corev1.PullAlways:
		return oci.Always
	case corev1.PullNever:
		return oci.Never
	}
	return oci.IfNotPresent
}

func pullReason(err error) string {
	switch {
	case errors.Is(err, oci.ErrInvalidName):
		return translate.ReasonInvalidImageName
	case errors.Is(err, oci.ErrNeverPull):
		return translate.ReasonErrImageNeverPull
	}
	return translate.ReasonErrImagePull
}
