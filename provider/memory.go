package provider

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// memoryRefusals returns how often the zone's cap on memory has made an allocation
// fail, if a container has failed that this could explain. The count goes with
// the zone, so it is read while that runs; without it, nothing is explained.
//
// illumos has no OOM killer: a program that wants more than there is gets
// ENOMEM, and mostly ends by that. This is what its end is recognized by.
func (w *worker) memoryRefusals(ctx context.Context, z zones.Zone) (uint64, bool) {
	w.mu.Lock()
	pod, live, asks := w.pod, w.live, false
	if live != nil && z.State == zones.Running && live.Boot == w.st.Boot {
		for _, c := range live.Containers {
			r := w.st.Container(c.Name)
			asks = asks || r != nil && failedNow(r, c)
		}
	}
	granted := translate.WithResources(pod, w.st.Allocated)
	w.mu.Unlock()
	if !asks || translate.Limits(granted).Memory.Swap == 0 {
		return 0, false
	}
	n, err := w.p.c.Host.Refused(ctx, z.ID)
	if err != nil {
		w.p.c.Log.Warnf("pod %s/%s: whether it had too little memory is not known: %v", w.namespace, w.name, err)
		return 0, false
	}
	return n, true
}

// failedNow reports whether podinit tells of a failure that is not on record.
func failedNow(r *ledger.Container, c podinit.ContainerState) bool {
	return c.Phase == podinit.Exited && c.Attempt == r.Attempt && r.Phase != podinit.Exited && c.ExitCode != 0 && c.StartError == ""
}

// blame gives containers that have just failed the lack of memory as the
// reason, if allocations failed since the last time that somebody looked. It
// need not have been in the same container: the cap is the pod's.
func blame(pod *corev1.Pod, before ledger.State, after *ledger.State, refused uint64) {
	fresh := refused - min(refused, before.Refused)
	after.Refused = refused
	if fresh == 0 {
		return
	}
	limit := translate.Limits(translate.WithResources(pod, before.Allocated)).Memory.Swap
	for i := range after.Containers {
		is := &after.Containers[i]
		was := before.Container(is.Name)
		if was == nil || was.Phase == podinit.Exited || is.Exit == nil || is.Exit.Reason != translate.ReasonError {
			continue
		}
		is.Exit.Reason = translate.ReasonMemoryLimit
		if is.Exit.Message == "" { // else it is the program's own
			is.Exit.Message = fmt.Sprintf("The pod reached its memory limit of %d MiB: %d allocations failed with ENOMEM", limit>>20, fresh)
		}
	}
}
