package provider

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

// The end of a container may make its whole pod begin anew, by a rule with the
// action RestartAllContainers: every other container is killed, without a hook
// and without grace, and then all begin their next attempt, the init containers
// first. Volumes, address and zone stay. Ephemeral containers have no part in it.

// signalKilled ends a container that is not asked.
const signalKilled = 9

// endAll ends what runs, and decides on the next attempts when nothing does. A
// kubelet starts all containers whose turn it is before it sees that one of them
// has ended; so none of them misses the round because another was quick.
func (v view) endAll() step {
	for _, r := range turn(v.pod, v.st, v.startFailed) {
		if r.Phase != podinit.Waiting || isInit(v.pod, r.Name) {
			continue
		}
		if s := v.drive(r); s.act == actStart {
			return s
		}
	}
	out, runs := wait(time.Time{}), false
	for _, c := range translate.AllContainers(v.pod) {
		r := v.st.Container(c.Name)
		if r == nil {
			continue
		}
		if n, ok := v.autostart[r.Name]; r.Phase == podinit.Waiting && ok && n == r.Attempt {
			runs = true // or will, as podinit is about to report
		}
		if r.Phase != podinit.Running {
			continue
		}
		runs = true
		s := v.stopOne(attempt{r.Name, r.Attempt}, ending{at: v.now}, true)
		if s == wait(time.Time{}) {
			s = v.try(actKill, r.Name) // again: it should be gone by now
		}
		out = sooner(out, s)
	}
	if !runs {
		return v.try(actRestartAll, "")
	}
	return out
}

// endedWithAll records the end of an attempt that was killed because another
// container ended. It is no failure of its own.
func endedWithAll(r *ledger.Container, e ledger.Exit, pod *corev1.Pod, now time.Time) {
	delay := r.Backoff
	e.Reason, e.Message = translate.ReasonRestartingAll, "The container is removed because RestartAllContainers in place"
	ended(r, e, pod, now)
	r.Backoff, r.NotBefore = delay, time.Time{}
}

func (w *worker) restartAll() error {
	pod := w.object()
	return w.change(func(st *ledger.State) {
		if st.RestartAll == ledger.RestartEnding {
			restartAll(st, pod)
		}
	})
}

// restartAll decides on the next attempt of every container that had one. The
// pod stays initialized to the outside, if it was.
func restartAll(st *ledger.State, pod *corev1.Pod) {
	for _, c := range translate.AllContainers(pod) {
		r := st.Container(c.Name)
		if r == nil || r.Phase != podinit.Exited {
			continue
		}
		if !translate.RestartsAll(pod, c.Name, exitCode(r)) {
			r.NotBefore = time.Time{}
		}
		again(r)
	}
	st.RestartAll = ""
	if st.Initialized {
		st.RestartAll = ledger.RestartStarting
	}
	st.Initialized = false
}
