package provider

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones/podinit"
)

// A container whose image was changed in the pod begins a new attempt with the
// new one, as a kubelet's: it is stopped if it runs, whatever its restart policy
// says, and what made it wait before is forgotten. A container that will not run
// again is left alone. In a zone that runs, the root of the new image comes as
// one of storage's spares; at the next boot it is an ordinary one.

// spares is how many ephemeral containers a pod can have besides the later roots
// of its other containers.
func spares(st *ledger.State) int { return storage.Spares - st.Places }

// renewable reports whether the running zone of a pod has room for the root of
// another image. Host pods have no spares.
func renewable(pod *corev1.Pod, st *ledger.State) bool {
	return !translate.HostPod(pod) && len(translate.Ephemeral(pod)) < spares(st)
}

// renews reports whether a container of the running zone is to get another
// image, or once more the one that it was to get, which has vanished.
func (v view) renews(r *ledger.Container) bool {
	return r.Image == nil && r.Place > 0 || translate.Outdated(container(v.pod, r.Name), r) && renewable(v.pod, v.st)
}

// noteImagesLocked looks for containers that had another image in the object
// before. A new image is a new try, whatever came of the old one.
func (w *worker) noteImagesLocked(before *corev1.Pod) {
	for _, c := range translate.AllContainers(w.pod) {
		if had := container(before, c.Name); had == nil || had.Image == c.Image {
			continue
		}
		w.renamed = append(w.renamed, c.Name)
		delete(w.waiting, c.Name)
		if r := w.st.Container(c.Name); r != nil && translate.Outdated(c, r) && w.st.Boot != "" && !renewable(w.pod, &w.st) {
			w.eventOn(w.pod, c, corev1.EventTypeWarning, "ImageChangeIgnored",
				"this node cannot give the container another image (%s) while the pod runs: it goes on with the one that it has; delete the pod to change it", c.Image)
		}
	}
}

// retire decides that a container stops because it has another image.
func (w *worker) retire(name string) error {
	pod, now := w.object(), time.Now()
	message := fmt.Sprintf("Container %s definition changed, will be restarted", name)
	if isInit(pod, name) {
		message = fmt.Sprintf("Init container %s definition changed", name)
	}
	return w.change(func(st *ledger.State) {
		if r := st.Container(name); r != nil {
			stopIn(st, attempt{name, r.Attempt}, ledger.Stop{At: now, Grace: grace(pod), Message: message, Restart: true})
		}
	})
}

// renew brings a changed image here and decides where its root will be in the
// zone, which runs.
func (w *worker) renew(ctx context.Context, name string) error {
	image, _, err := w.bring(ctx, name)
	if err != nil {
		return err
	}
	pod := w.object()
	return w.change(func(st *ledger.State) {
		r := st.Container(name)
		if r == nil || r.Phase != podinit.Waiting {
			return
		}
		if r.Image == nil && r.Place > 0 { // nothing came of it, so the place is as it was
			r.Image = image
			return
		}
		if renewable(pod, st) { // an ephemeral container may have taken the last place meanwhile
			renewImage(r, image)
			r.Place = spares(st)
			st.Places++
		}
	})
}

// renewImage gives a container an image. Another one than it had before starts
// at once, and is at the beginning of its own restart delays.
func renewImage(r *ledger.Container, image *ledger.Image) {
	if r.Image != nil {
		r.NotBefore, r.Backoff = time.Time{}, 0
		if r.Attempt > 0 {
			r.Backoff = restartDelay // this start is the first that had none
		}
	}
	r.Image = image
}

// clearRenewals takes away what the boot before had in places, which are free
// again with the next one.
func (w *worker) clearRenewals(ctx context.Context, places int) error {
	if places == 0 {
		return nil
	}
	if err := w.p.c.Storage.RemoveRenewals(ctx, w.uid); err != nil {
		return err
	}
	return w.change(func(st *ledger.State) {
		st.Places = 0
		for i := range st.Containers {
			st.Containers[i].Place = 0
		}
	})
}
