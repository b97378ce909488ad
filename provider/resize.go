package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// The reasons of a kubelet's events about resizes.
const (
	eventResizeStarted    = "ResizeStarted"
	eventResizeCompleted  = "ResizeCompleted"
	eventResizeDeferred   = "ResizeDeferred"
	eventResizeInfeasible = "ResizeInfeasible"
	eventResizeError      = "ResizeError"
)

// grant gives the pod the resources that it asks for, or records why not.
// The first that it asks for are granted as they are: the scheduler has seen
// to them.
func (w *worker) grant() error {
	w.mu.Lock()
	pod, st := w.pod, w.st.Clone()
	w.mu.Unlock()
	want := translate.Resources(pod)
	switch {
	case st.Allocated == nil:
		return w.change(func(st *ledger.State) {
			st.Allocated = want
			if st.Boot != "" { // a record of an agent that did not keep this
				st.Configured, st.Applied = want, want
			}
		})
	case st.End != nil || st.Deletion != nil:
		return nil
	case st.Allocated.Equal(want):
		if st.Pending == nil {
			return nil
		}
		return w.change(func(st *ledger.State) { st.Pending = nil })
	}
	reason, message := translate.Fits(pod, w.p.allocatedBeside(w), w.p.c.Node)
	if l := translate.Limits(pod); st.Brand == translate.BrandHost && (l.CPUCap != 0 || l.Memory != (zones.Memory{})) {
		reason, message = corev1.PodReasonInfeasible, "Resize is infeasible: a process of the global zone cannot be limited"
	}
	if reason == "" {
		if err := w.change(func(st *ledger.State) {
			st.Allocated, st.Pending = want, nil
			st.Resizing = &ledger.Resize{Generation: pod.Generation}
		}); err != nil {
			return err
		}
		w.eventOn(pod, nil, corev1.EventTypeNormal, eventResizeStarted, "Pod resize started: %s", summary(pod))
		return nil
	}
	next := ledger.Resize{Generation: pod.Generation, Reason: reason, Message: message}
	if st.Pending != nil && *st.Pending == next {
		return nil
	}
	if err := w.change(func(st *ledger.State) { st.Pending = &next }); err != nil {
		return err
	}
	if st.Pending == nil || st.Pending.Reason != reason || st.Pending.Generation != next.Generation {
		event := eventResizeDeferred
		if reason == corev1.PodReasonInfeasible {
			event = eventResizeInfeasible
		}
		w.eventOn(pod, nil, corev1.EventTypeWarning, event, "Pod resize %s: %s: %s", reason, summary(pod), message)
	}
	return nil
}

// summary tells a pod's resources in an event.
func summary(pod *corev1.Pod) string {
	text := fmt.Sprintf("generation %d", pod.Generation)
	for _, c := range translate.AllContainers(pod) {
		r := c.Resources
		text += fmt.Sprintf("; %s: requests cpu=%s,memory=%s limits cpu=%s,memory=%s",
			c.Name, r.Requests.Cpu(), r.Requests.Memory(), r.Limits.Cpu(), r.Limits.Memory())
	}
	return text
}

// allocatedBeside are the other pods that still hold what they were granted.
func (p *Provider) allocatedBeside(not *worker) []*corev1.Pod {
	_, pods := p.beside(not, func(w *worker) bool { return !translate.Over(w.st) })
	return pods
}

// beside are the other pods that which chooses, with what they were granted. It
// is called with the worker's lock.
func (p *Provider) beside(not *worker, which func(*worker) bool) (workers []*worker, pods []*corev1.Pod) {
	for _, w := range p.all() {
		if w == not {
			continue
		}
		w.mu.Lock()
		if which(w) {
			workers, pods = append(workers, w), append(pods, translate.WithResources(w.pod, w.st.Allocated))
		}
		w.mu.Unlock()
	}
	return workers, pods
}

// resizes reports whether the running zone lacks what the pod was granted.
func resizes(st *ledger.State) bool {
	return st.Applied != nil && st.Allocated != nil && !st.Applied.Equal(st.Allocated)
}

// resize gives the running zone what the pod was granted. There is one level of
// limits, the zone's, so there is no order to keep between a pod and its
// containers.
func (w *worker) resize(ctx context.Context) error {
	w.mu.Lock()
	pod, st := w.pod, w.st.Clone()
	w.mu.Unlock()
	granted := translate.WithResources(pod, st.Allocated)
	if err := w.p.c.Zones.SetLimits(ctx, w.zone, translate.Limits(granted)); err != nil {
		message := err.Error()
		if errors.Is(err, zones.ErrBelowUsage) {
			message = "attempting to set pod memory limit below current usage: " + message
		}
		failed := ledger.Resize{Generation: pod.Generation, Reason: corev1.PodReasonError, Message: message}
		if st.Resizing == nil || *st.Resizing != failed {
			if cerr := w.change(func(st *ledger.State) { st.Resizing = &failed }); cerr != nil {
				return errors.Join(err, cerr)
			}
			w.eventOn(pod, nil, corev1.EventTypeWarning, eventResizeError, "Pod resize error: %s", message)
		}
		return err
	}
	again := translate.RestartedBy(pod, st.Applied, st.Allocated)
	now := time.Now()
	if err := w.change(func(st *ledger.State) {
		st.Applied, st.Resizing = st.Allocated, nil
		for _, name := range again {
			if r := st.Container(name); r != nil && r.Phase == podinit.Running && r.Stop == nil {
				r.Stop = &ledger.Stop{
					At: now, Grace: grace(pod), Restart: true,
					Message: fmt.Sprintf("Container %s resize requires restart", name),
				}
			}
		}
	}); err != nil {
		return err
	}
	w.eventOn(pod, nil, corev1.EventTypeNormal, eventResizeCompleted, "Pod resize completed: %s", summary(granted))
	return nil
}

// configured takes in that the zone's configuration has the resources r, and
// with it the coming boot.
func (w *worker) configured(r ledger.Resources) error {
	return w.changeBehind(func(st *ledger.State) {
		st.Configured, st.Applied = r, r
		if st.Allocated.Equal(r) {
			st.Resizing = nil
		}
	})
}
