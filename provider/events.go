package provider

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

// event tells the users of a pod what happened to it, or to one container c of
// it, in a kubelet's words.
func (w *worker) event(c *corev1.Container, kind, reason, format string, args ...any) {
	w.eventOn(w.object(), c, kind, reason, format, args...)
}

func (w *worker) eventOn(pod *corev1.Pod, c *corev1.Container, kind, reason, format string, args ...any) {
	ref := &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name,
		UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
	if c != nil {
		list := "containers"
		for i := range pod.Spec.InitContainers {
			if pod.Spec.InitContainers[i].Name == c.Name {
				list = "initContainers"
			}
		}
		if translate.Spare(pod, c.Name) > 0 {
			list = "ephemeralContainers"
		}
		ref.FieldPath = fmt.Sprintf("spec.%s{%s}", list, c.Name)
	}
	w.p.c.Events.Eventf(ref, kind, reason, format, args...)
}

// announce tells what changed between two records.
func (w *worker) announce(pod *corev1.Pod, before, after ledger.State) {
	for _, c := range translate.EveryContainer(pod) {
		was, is := before.Container(c.Name), after.Container(c.Name)
		if was == nil || is == nil {
			continue
		}
		ran := is.Phase == podinit.Running || (is.Exit != nil && is.Exit.Reason != translate.ReasonStartError)
		if was.Phase != podinit.Running && was.Phase != podinit.Exited && ran {
			w.eventOn(pod, c, corev1.EventTypeNormal, "Created", "Container created")
			w.eventOn(pod, c, corev1.EventTypeNormal, "Started", "Container started")
		}
		if was.Phase == podinit.Exited || is.Phase != podinit.Exited {
			continue
		}
		if is.Exit.Reason == translate.ReasonStartError {
			w.eventOn(pod, c, corev1.EventTypeWarning, "Failed", "Error: %s", is.Exit.Message)
		}
		if time.Until(is.NotBefore) > 0 {
			w.eventOn(pod, c, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)",
				c.Name, pod.Name, pod.Namespace, pod.UID)
		}
	}
}

// complain says why a step failed: as an event, and as the reason that the
// containers it concerns wait.
func (w *worker) complain(s step, f failure, err error) {
	w.p.c.Log.Warnf("pod %s/%s: %s %s: %v (try %d, again in %s)",
		w.namespace, w.name, s.act, s.container, err, f.count, f.until.Sub(f.at).Round(time.Millisecond))
	pod := w.object()
	var ft *fault
	if !errors.As(err, &ft) {
		w.event(nil, corev1.EventTypeWarning, sandboxReason(s.act), "%s: %v", sandboxMessage(s.act), err)
		return
	}
	if ft.container == "" {
		w.event(nil, corev1.EventTypeWarning, ft.reason, "%v", ft.err)
		return
	}
	w.mu.Lock()
	w.waiting[ft.container] = translate.Waiting{Reason: ft.reason, Message: ft.err.Error()}
	w.mu.Unlock()
	c := container(pod, ft.container)
	if pulls(s.act) {
		w.event(c, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", c.Image, ft.err)
	}
	w.event(c, corev1.EventTypeWarning, "Failed", "Error: %s", faultText(s, ft))
}

// pulls reports whether a step brings a container's image to the host.
func pulls(a action) bool { return a == actPull || a == actRenew }

// faultText avoids saying a pull error twice.
func faultText(s step, f *fault) string {
	if pulls(s.act) {
		return f.reason
	}
	return f.err.Error()
}

func sandboxReason(a action) string {
	switch a {
	case actHalt, actUninstall, actUnconfigure, actConceal, actUnlink, actReclaim, actErase, actRelease, actKill, actSignal, actForget:
		return "FailedKillPod"
	case actRefresh:
		return "FailedMount"
	case actReport:
		return "FailedReport"
	}
	return "FailedCreatePodSandBox"
}

func sandboxMessage(a action) string {
	switch sandboxReason(a) {
	case "FailedKillPod":
		return fmt.Sprintf("error killing pod: %s", a)
	case "FailedCreatePodSandBox":
		return fmt.Sprintf("Failed to create pod sandbox: %s", a)
	}
	return string(a)
}

// backOff turns a pull error that users have had time to see into the waiting
// between two tries. It returns when to look again.
func (w *worker) backOff(until time.Time) time.Time {
	now := time.Now()
	for s, f := range w.failed {
		if !pulls(s.act) || !f.until.After(now) {
			continue
		}
		flip := f.at.Add(f.until.Sub(f.at) / 2)
		if flip.After(now) {
			if until.IsZero() || flip.Before(until) {
				until = flip
			}
			continue
		}
		w.mu.Lock()
		have := w.waiting[s.container]
		if have.Reason == translate.ReasonErrImagePull {
			w.waiting[s.container] = translate.Waiting{
				Reason:  translate.ReasonImagePullBackOff,
				Message: fmt.Sprintf("Back-off pulling image: %s: %s", have.Reason, have.Message),
			}
		}
		w.mu.Unlock()
		if have.Reason == translate.ReasonErrImagePull {
			c := container(w.object(), s.container)
			w.event(c, corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", c.Image)
			w.p.status.enqueue(w.uid)
		}
	}
	return until
}

// clearWaiting forgets why containers waited once the step that failed works.
func (w *worker) clearWaiting(s step) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case s.container != "":
		delete(w.waiting, s.container)
	case s.act == actFiles || s.act == actStorage:
		clear(w.waiting)
	}
}
