package provider

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// stop takes the zone down and lets go of what an ended pod does not need, as a
// kubelet takes down its sandbox and its volumes. Its logs, its record and its
// status stay until it is deleted.
func (v view) stop() step {
	switch v.zone {
	case zones.Running:
		g := grace(v.pod)
		if v.st.End.Grace > 0 {
			g = v.st.End.Grace
		}
		return v.terminate(ending{v.st.End.At, g})
	case zones.Ready, zones.ShuttingDown, zones.Down, zones.Mounted:
		return v.try(actHalt, "")
	}
	if v.booted() {
		return v.try(actLost, "")
	}
	switch {
	case v.st.Released, v.st.End.Refused: // there is nothing, or never was
		return wait(time.Time{})
	case v.exposed():
		return v.try(actConceal, "") // the scheduler gives them to the next pod
	}
	if s, undone := v.unconfigure(); !undone {
		return s
	}
	switch {
	case !v.gone.link:
		return v.try(actUnlink, "")
	case !v.gone.roots:
		return v.try(actReclaim, "")
	}
	return v.try(actRelease, "")
}

// unconfigure removes the configuration of a zone that does not run. It reports
// whether there is none.
func (v view) unconfigure() (s step, undone bool) {
	switch v.zone {
	case zones.Installed, zones.Incomplete:
		return v.try(actUninstall, ""), false
	case zones.Configured:
		return v.try(actUnconfigure, ""), false
	}
	return step{}, true
}

// exposed reports whether ports of the host may lead to the pod.
func (v view) exposed() bool { return !v.gone.ports && translate.HasHostPorts(v.pod) }

// grace is the time that a pod's containers get when nobody says otherwise.
func grace(pod *corev1.Pod) time.Duration {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// ending is a wish to end containers: since when, and how long they may take.
type ending struct {
	at    time.Time
	grace time.Duration
}

func (e ending) deadline() time.Time { return e.at.Add(e.grace) }

// terminate ends the containers of a running zone and then the zone.
func (v view) terminate(e ending) step {
	if v.live == nil { // not heard of yet: they may well run
		if v.now.Before(e.deadline()) {
			return wait(e.deadline())
		}
		return v.try(actHalt, "")
	}
	out := wait(time.Time{})
	for _, c := range v.live.Containers {
		if c.Phase == podinit.Running {
			out = sooner(out, v.stopOne(attempt{c.Name, c.Attempt}, e, lastOnes(v.pod, v.live, c.Name)))
		}
	}
	if out == wait(time.Time{}) {
		return v.try(actHalt, "") // none runs, or none listens: the kernel will
	}
	return out
}

// stopOne ends one attempt: by its preStop hook, its stop signal when it is
// its turn, and SIGKILL when the time is up. It returns an endless wait when
// there is nothing more to do to it.
func (v view) stopOne(a attempt, e ending, turn bool) step {
	have, deadline := v.stops[a], e.deadline()
	late := !v.now.Before(deadline)
	switch {
	case !have.killed.IsZero():
		if at := have.killed.Add(killWait); v.now.Before(at) {
			return wait(at)
		}
		return wait(time.Time{})
	case e.grace <= 0:
		return v.try(actKill, a.container)
	case !have.signalled.IsZero():
		if at := later(deadline, have.signalled.Add(minStop)); v.now.Before(at) {
			return wait(at)
		}
		return v.try(actKill, a.container)
	}
	if c := container(v.pod, a.container); !late && c != nil && c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		done, begun := v.hooks[hook{a, true}]
		if !begun {
			return sooner(v.try(actPreStop, a.container), wait(deadline))
		}
		if !done {
			return wait(deadline)
		}
	}
	if !turn && !late {
		return wait(deadline)
	}
	if _, failed := v.notBefore[step{act: actSignal, container: a.container}]; failed && late {
		return v.try(actKill, a.container) // it could not be asked
	}
	return sooner(v.try(actSignal, a.container), wait(deadline))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// remove undoes everything, backwards, and stops at the first thing that is
// not undone yet. The address is given back only after the zone's
// configuration, which carries it, is gone.
func (v view) remove() step {
	switch v.zone {
	case zones.Running:
		return v.terminate(ending{v.st.Deletion.At, v.st.Deletion.Grace})
	case zones.Ready, zones.ShuttingDown, zones.Down, zones.Mounted:
		return v.try(actHalt, "")
	}
	if v.booted() {
		return v.try(actLost, "") // the exit codes are in the datasets
	}
	if s, undone := v.unconfigure(); !undone {
		return s
	}
	switch {
	case v.exposed():
		return v.try(actConceal, "")
	case !v.gone.link:
		return v.try(actUnlink, "")
	case !v.gone.data:
		return v.try(actErase, "")
	case !v.gone.address:
		return v.try(actRelease, "")
	case !v.gone.object:
		return v.try(actReport, "")
	}
	return v.try(actForget, "")
}
