package provider

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

// The delays between restarts of a container, as a kubelet's: none before the
// first restart, then doubling, and forgotten after a long enough run.
const (
	restartDelay    = 10 * time.Second
	maxRestartDelay = 5 * time.Minute
	restartReset    = 10 * time.Minute
)

// absorb takes podinit's state into the record and reports whether the record
// changed. What a zone says is about its own containers only, and times from
// it are kept from pointing into the future.
func absorb(st *ledger.State, live podinit.State, pod *corev1.Pod, now time.Time) bool {
	changed := false
	if st.Boot == "" || st.Boot == ledger.BootPending {
		st.Boot, changed = live.Boot, true
	}
	if live.Boot != st.Boot {
		return changed // of a boot that nobody decided on
	}
	for i := range live.Containers {
		if r := st.Container(live.Containers[i].Name); r != nil {
			changed = absorbContainer(st, r, &live.Containers[i], pod, now) || changed
		}
	}
	return changed
}

func absorbContainer(st *ledger.State, r *ledger.Container, c *podinit.ContainerState, pod *corev1.Pod, now time.Time) bool {
	if c.Attempt != r.Attempt || r.Phase == podinit.Exited {
		return false
	}
	if c.Phase != podinit.Waiting && !isInit(pod, r.Name) && translate.Spare(pod, r.Name) == 0 {
		st.Initialized = true // it was not started before the init containers were done
		if st.RestartAll == ledger.RestartStarting {
			st.RestartAll = ""
		}
	}
	switch c.Phase {
	case podinit.Running:
		if r.Phase == podinit.Running {
			return false
		}
		r.Phase, r.StartedAt = podinit.Running, notAfter(c.StartedAt, now)
		r.User = userOf(c)
		if !translate.AwaitsHook(container(pod, r.Name), r) {
			up(pod, r)
		}
		return true
	case podinit.Exited:
		r.StartedAt = notAfter(c.StartedAt, now)
		if c.StartError == "" {
			r.User = userOf(c)
		}
		stop := r.Stop
		e := exitOf(c, now)
		if st.RestartAll == ledger.RestartEnding && c.Signal == signalKilled {
			endedWithAll(r, e, pod, now)
			return true
		}
		ended(r, e, pod, now)
		if translate.RestartsAll(pod, r.Name, e.Code) && st.Deletion == nil && st.End == nil {
			st.RestartAll = ledger.RestartEnding
			return true
		}
		if stop != nil && stop.Restart && st.Deletion == nil && st.End == nil && !translate.Restarts(pod, r.Name, exitCode(r)) {
			// It ended well when it was asked to, but was ill.
			delayNext(r, now)
			again(r)
		}
		return true
	}
	return false
}

func userOf(c *podinit.ContainerState) *ledger.User {
	return &ledger.User{UID: c.UID, GID: c.GID, Groups: slices.Clone(c.Groups)}
}

// up takes in that an attempt runs and its postStart hook, if it has one, has
// succeeded.
func up(pod *corev1.Pod, r *ledger.Container) {
	r.Hooked = true
	r.Started, r.Ready = atStart(pod, r.Name)
}

func exitOf(c *podinit.ContainerState, now time.Time) ledger.Exit {
	e := ledger.Exit{
		Attempt: c.Attempt, Code: c.ExitCode, Signal: c.Signal, Message: c.Message,
		StartedAt: notAfter(c.StartedAt, now), FinishedAt: notAfter(c.FinishedAt, now),
	}
	switch {
	case c.StartError != "":
		e.Reason, e.Message = translate.ReasonStartError, c.StartError
	case c.ExitCode == 0:
		e.Reason = translate.ReasonCompleted
	default:
		e.Reason = translate.ReasonError
	}
	return e
}

func notAfter(t, now time.Time) time.Time {
	if t.IsZero() || t.After(now) {
		return now
	}
	return t
}

// ended records how an attempt ended and when the next may start.
func ended(r *ledger.Container, e ledger.Exit, pod *corev1.Pod, now time.Time) {
	r.Phase, r.Exit = podinit.Exited, &e
	r.Started, r.Ready, r.Hooked, r.Stop = false, false, false, nil
	r.NotBefore = time.Time{}
	if translate.Restarts(pod, r.Name, e.Code) {
		delayNext(r, now)
	}
}

// delayNext decides when the attempt after one that has ended may start.
func delayNext(r *ledger.Container, now time.Time) {
	if r.Exit.FinishedAt.Sub(r.Exit.StartedAt) >= restartReset {
		r.Backoff = 0
	}
	if r.Backoff > 0 {
		// From now, not from the zone's own finishing time, which a hostile
		// zone could put into the past to be restarted without pause.
		r.NotBefore = now.Add(r.Backoff)
	}
	r.Backoff = min(max(2*r.Backoff, restartDelay), maxRestartDelay)
}

// again decides on the next attempt of a container.
func again(r *ledger.Container) {
	r.Last, r.Exit = r.Exit, nil
	r.Attempt++
	r.Phase = podinit.Waiting
	r.StartedAt = time.Time{}
	r.Started, r.Ready, r.Hooked, r.Stop = false, false, false, nil
}

// lost takes in that a boot of the zone is over. final is what podinit left
// behind, nil if it left nothing that can be read. Attempts that nobody saw
// end count as killed. A boot of which podinit left nothing, and nobody heard
// anything, has not happened.
func lost(st *ledger.State, final *podinit.State, pod *corev1.Pod, now time.Time) {
	happened := final != nil || st.Boot != ledger.BootPending
	if final != nil && (final.Boot == st.Boot || st.Boot == ledger.BootPending) {
		absorb(st, *final, pod, now)
	}
	for i := range st.Containers {
		r := &st.Containers[i]
		if r.Phase == podinit.Running {
			ended(r, ledger.Exit{
				Attempt: r.Attempt, Code: 137, Reason: translate.ReasonStatusUnknown,
				Message:   "The container could not be located when the pod was terminated",
				StartedAt: r.StartedAt, FinishedAt: now,
			}, pod, now)
		}
	}
	if st.RestartAll == ledger.RestartEnding && st.Deletion == nil && st.End == nil {
		restartAll(st, pod)
	}
	st.Boot, st.Initialized, st.RestartAll = "", false, ""
	st.Refused = 0
	st.Applied = st.Configured // what a later boot has until it is configured anew
	switch {
	case st.Deletion != nil || st.End != nil:
		if st.End == nil {
			e := result(st, pod, now)
			st.End = &e
		}
	case happened:
		st.Boots++
		rerunInit(st, pod)
	}
}

// rerunInit makes every init container run again: what they prepared outside
// the volumes is gone with the zone.
func rerunInit(st *ledger.State, pod *corev1.Pod) {
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		return
	}
	for _, c := range pod.Spec.InitContainers {
		if r := st.Container(c.Name); r != nil && r.Phase == podinit.Exited && exitCode(r) == 0 {
			again(r)
			r.NotBefore = time.Time{}
		}
	}
}

// result is how a pod that was deleted ended, judged by its containers: failed if
// one of them did or has not run to its end.
func result(st *ledger.State, pod *corev1.Pod, now time.Time) ledger.End {
	end := ledger.End{Phase: corev1.PodSucceeded, At: now}
	for i := range st.Containers {
		r := &st.Containers[i]
		if sidecar(pod, r.Name) || translate.Spare(pod, r.Name) > 0 {
			continue
		}
		if r.Exit == nil || r.Exit.Code != 0 {
			end.Phase = corev1.PodFailed
		}
	}
	return end
}
