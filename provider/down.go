package provider

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// stop takes the zone down and leaves everything else.
func (v view) stop() step {
	switch v.zone {
	case zones.Running:
		return v.terminate(v.st.End.At.Add(grace(v.pod)))
	case zones.Ready, zones.ShuttingDown, zones.Down, zones.Mounted:
		return v.try(actHalt, "")
	}
	if v.booted() {
		return v.try(actLost, "")
	}
	return wait(time.Time{})
}

// grace is the time that a pod's containers get when nobody says otherwise.
func grace(pod *corev1.Pod) time.Duration {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return corev1.DefaultTerminationGracePeriodSeconds * time.Second
}

// terminate ends the containers of a running zone and then the zone: first by
// their stop signals, from the deadline on by force.
func (v view) terminate(deadline time.Time) step {
	running := v.live == nil // not heard of yet: they may well run
	if v.live != nil {
		for _, c := range v.live.Containers {
			running = running || c.Phase == podinit.Running
		}
	}
	switch {
	case !running:
		return v.try(actHalt, "")
	case v.now.Before(deadline):
		if v.signalled || v.live == nil {
			return wait(deadline)
		}
		return sooner(v.try(actSignal, ""), wait(deadline))
	case v.live != nil && v.killedAt.IsZero():
		if s := v.try(actKill, ""); s.act != actWait {
			return s
		}
		return v.try(actHalt, "") // podinit does not listen: the kernel will
	case v.live != nil && v.now.Before(v.killedAt.Add(killWait)):
		return wait(v.killedAt.Add(killWait))
	}
	return v.try(actHalt, "")
}

// remove undoes everything, backwards, and stops at the first thing that is
// not undone yet. The address is given back only after the zone's
// configuration, which carries it, is gone.
func (v view) remove() step {
	switch v.zone {
	case zones.Running:
		return v.terminate(v.st.Deletion.Deadline())
	case zones.Ready, zones.ShuttingDown, zones.Down, zones.Mounted:
		return v.try(actHalt, "")
	}
	if v.booted() {
		return v.try(actLost, "") // the exit codes are in the datasets
	}
	switch v.zone {
	case zones.Installed, zones.Incomplete:
		return v.try(actUninstall, "")
	case zones.Configured:
		return v.try(actUnconfigure, "")
	}
	switch {
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
