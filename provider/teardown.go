package provider

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// askTime bounds a request to podinit to stop a container.
const askTime = 5 * time.Second

// stopContainer signals or kills one container.
func (w *worker) stopContainer(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a, pod, err := w.present(s.container)
	if err != nil {
		return err
	}
	w.announceStop(pod, a)
	w.cancelHook(hook{a, false})
	have := w.stops[a]
	if s.act == actKill {
		if err := w.channel().Kill(ctx, s.container); err != nil {
			w.p.c.Log.Warnf("pod %s/%s: kill %s: %v", w.namespace, w.name, s.container, err)
		}
		w.cancelHook(hook{a, true})
		have.killed = time.Now()
		w.stops[a] = have
		return nil // the zone is halted, or it is killed again
	}
	if err := w.channel().Signal(ctx, s.container, w.stopSignal(pod, s.container)); err != nil {
		return err
	}
	have.signalled = time.Now()
	w.stops[a] = have
	return nil
}

// present returns the attempt of a container that the zone has now.
func (w *worker) present(name string) (attempt, *corev1.Pod, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.live == nil {
		return attempt{}, nil, errors.New("podinit was not heard of")
	}
	for _, c := range w.live.Containers {
		if c.Name == name {
			return attempt{name, c.Attempt}, w.pod, nil
		}
	}
	return attempt{}, nil, errors.New("podinit does not know the container")
}

// announceStop says once that an attempt is being ended, and why.
func (w *worker) announceStop(pod *corev1.Pod, a attempt) {
	if _, said := w.stops[a]; said {
		return
	}
	w.stops[a] = stopping{}
	w.mu.Lock()
	message := "Stopping container " + a.container
	if r := w.st.Container(a.container); r != nil && r.Stop != nil && r.Stop.Message != "" {
		message = r.Stop.Message
	}
	w.mu.Unlock()
	w.event(container(pod, a.container), corev1.EventTypeNormal, "Killing", "%s", message)
}

// stopIn makes an attempt of a container end while its pod goes on: with its
// preStop hook, its stop signal and the grace period. What follows is up to
// the restart policy. An attempt that is over, or ending already, is left
// alone.
func stopIn(st *ledger.State, a attempt, s ledger.Stop) {
	if r := st.Container(a.container); r != nil && r.Attempt == a.number && r.Phase == podinit.Running && r.Stop == nil {
		r.Stop, r.Ready = &s, false
	}
}

func container(pod *corev1.Pod, name string) *corev1.Container {
	for _, c := range translate.EveryContainer(pod) {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// stopSignal is what the pod or the image wants a container to be stopped by.
func (w *worker) stopSignal(pod *corev1.Pod, name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var image *ledger.Image
	if r := w.st.Container(name); r != nil {
		image = r.Image
	}
	return string(translate.StopSignal(container(pod, name), image))
}

// bringDown performs the steps of zoneadm and zonecfg towards no zone.
func (w *worker) bringDown(ctx context.Context, a action) error {
	switch a {
	case actHalt:
		if err := w.p.c.Zones.Halt(ctx, w.zone); err != nil {
			return err
		}
		w.endHooks()
		clear(w.stops)
		w.p.survey.learn(w.zone, zones.Installed)
		// A halt that found nothing to halt does not say what there is.
		return w.p.survey.refresh(ctx)
	case actUninstall:
		if err := w.p.c.Zones.MarkConfigured(ctx, w.zone); err != nil && !errors.Is(err, zones.ErrNotFound) {
			return err
		}
		w.have.configured = false
		w.p.survey.learn(w.zone, zones.Configured)
	case actUnconfigure:
		if err := w.p.c.Zones.Delete(ctx, w.zone); err != nil {
			return err
		}
		w.p.survey.learn(w.zone, zones.Absent)
	}
	return nil
}

// takeInLoss records how a boot ended: by what podinit left behind, and by
// what was seen of it before.
func (w *worker) takeInLoss() error {
	var final *podinit.State
	dir := filepath.Join(w.p.c.Storage.PodDir(w.uid), translate.RunDir)
	s, err := podinit.ReadState(dir)
	switch {
	case err == nil && s.PodUID == w.uid:
		final = &s
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		w.p.c.Log.Warnf("pod %s/%s: %v", w.namespace, w.name, err)
	}
	pod, now := w.object(), time.Now()
	unplanned := false
	err = w.change(func(st *ledger.State) {
		unplanned = st.Deletion == nil && st.End == nil && (final != nil || st.Boot != ledger.BootPending)
		before := st.Clone()
		lost(st, final, pod, now)
		w.explain(pod, before, st)
		w.announce(pod, before, *st)
	})
	if err == nil {
		w.have, w.autostart = prepared{}, nil
	}
	if err == nil && unplanned {
		w.event(nil, corev1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	return err
}

// clear performs the steps after the zone's configuration is gone.
func (w *worker) clear(ctx context.Context, a action) error {
	switch a {
	case actConceal:
		if err := w.p.c.Ports.SetPorts(ctx, w.uid, nil); err != nil {
			return err
		}
		w.gone.ports = true
	case actUnlink:
		if slot := w.slot(); slot > 0 {
			if err := w.p.c.Links.RemoveVNIC(ctx, translate.LinkName(slot)); err != nil {
				return err
			}
		}
		w.gone.link = true
	case actReclaim:
		if err := w.p.c.Mounts.Hide(ctx, w.uid); err != nil {
			return err
		}
		if err := w.p.c.Storage.ReclaimPod(ctx, w.uid, translate.LogDir); err != nil {
			return err
		}
		w.gone.roots = true
	case actErase:
		w.unlinkLogs()
		if err := w.p.c.Mounts.Hide(ctx, w.uid); err != nil {
			return err
		}
		if err := w.p.c.Storage.RemovePod(ctx, w.uid); err != nil {
			return err
		}
		w.gone.data = true
	case actRelease:
		if err := w.releaseAddresses(); err != nil {
			return err
		}
		w.gone.address = true
	case actReport:
		if err := w.p.status.farewell(ctx, w); err != nil {
			return err
		}
		w.gone.object = true
	case actForget:
		if err := w.erase(); err != nil {
			return err
		}
		w.p.forget(w)
		w.ended = true
	}
	return nil
}

// releaseAddresses gives back what the pod held. The record lets go first: an
// address of two pods could not be claimed by the next agent.
func (w *worker) releaseAddresses() error {
	err := w.change(func(st *ledger.State) { st.Slot, st.Released = 0, true })
	if err != nil {
		return err
	}
	for _, pool := range w.p.c.Addresses {
		pool.Release(w.uid)
	}
	w.p.c.Slots.Release(w.uid)
	return nil
}
