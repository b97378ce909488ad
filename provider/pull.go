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

// pull brings one container's image here, for a zone that does not run. What it
// resolves to stays until the pod names another image. The first one decides on
// the zone's brand, where the pod leaves that open.
func (w *worker) pull(ctx context.Context, name string) error {
	image, brand, err := w.bring(ctx, name)
	if err != nil {
		return err
	}
	renewed := false
	err = w.change(func(st *ledger.State) {
		st.Brand = brand
		r := st.Container(name)
		renewed = r.Image != nil
		renewImage(r, image)
	})
	if renewed { // what was made of the old one is not what is to boot
		w.have.storage, w.have.files = false, false
	}
	return err
}

// bring brings the image that the pod names for a container here, and says of
// which brand the zone has to be.
func (w *worker) bring(ctx context.Context, name string) (got *ledger.Image, brand string, err error) {
	in, err := w.input(ctx)
	if err != nil {
		return nil, "", err
	}
	c := container(in.Pod, name)
	keys, err := w.p.keychain(ctx, in.Pod)
	if err != nil {
		return nil, "", err
	}
	w.mu.Lock()
	st := w.st.Clone()
	w.mu.Unlock()
	choice, err := brands(in.Pod, st, w.p.c.Node)
	if err != nil {
		return nil, "", err
	}
	began := time.Now()
	pulling := false
	var image oci.Image
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
		return nil, "", &fault{name, pullReason(err), err}
	}
	if pulling {
		w.event(c, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %s. Image size: %d bytes.",
			c.Image, time.Since(began).Round(time.Millisecond), image.Size)
	} else {
		w.event(c, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine", c.Image)
	}
	return &ledger.Image{
		Ref: image.Ref, ID: image.ID, Digest: image.Digest, Dataset: image.Dataset, OS: image.OS,
		Entrypoint: image.Config.Entrypoint, Cmd: image.Config.Cmd, Env: image.Config.Env,
		User: image.Config.User, WorkingDir: image.Config.WorkingDir, StopSignal: image.Config.StopSignal,
	}, brand, nil
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
