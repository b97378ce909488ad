package provider

import (
	"time"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones/podinit"
)

// follow keeps the containers of a running zone going.
func (v view) follow() step {
	if v.live == nil {
		return wait(time.Time{}) // the watcher wakes us
	}
	if v.booted() && v.live.Boot != v.st.Boot {
		// The zone was rebooted by somebody else: podinit has started the old
		// attempts again, which nobody counted.
		return v.try(actHalt, "")
	}
	if v.over() {
		return v.try(actEnd, "")
	}
	out := wait(time.Time{})
	if v.st.RestartAll == ledger.RestartEnding {
		return sooner(v.endAll(), v.driveEphemeral())
	}
	if resizes(v.st) {
		out = v.try(actResize, "")
	}
	if !v.refreshAt.IsZero() {
		at := wait(v.refreshAt)
		if !v.refreshAt.After(v.now) {
			at = v.try(actRefresh, "")
		}
		out = sooner(out, at)
	}
	if !v.have.ports && translate.HasHostPorts(v.pod) {
		out = sooner(v.try(actExpose, ""), out)
	}
	containers := wait(time.Time{})
	for _, r := range turn(v.pod, v.st, v.startFailed) {
		containers = sooner(containers, v.drive(r)) // in the pod's order
	}
	return sooner(sooner(containers, out), v.driveEphemeral())
}

func (v view) startFailed(name string) bool {
	_, start := v.notBefore[step{act: actStart, container: name}]
	_, renew := v.notBefore[step{act: actRenew, container: name}]
	return start || renew
}

// drive returns what one container of a running zone needs.
func (v view) drive(r *ledger.Container) step {
	switch r.Phase {
	case podinit.Running:
		return v.attend(r)
	case podinit.Exited:
		if !translate.Restarts(v.pod, r.Name, exitCode(r)) {
			return wait(time.Time{})
		}
		if r.NotBefore.After(v.now) && !v.renews(r) {
			return wait(r.NotBefore)
		}
		return v.try(actRestart, r.Name)
	}
	if attempt, ok := v.autostart[r.Name]; ok && attempt == r.Attempt {
		return wait(time.Time{})
	}
	if v.renews(r) {
		return v.try(actRenew, r.Name)
	}
	if r.NotBefore.After(v.now) {
		return wait(r.NotBefore)
	}
	return v.try(actStart, r.Name)
}

// attend returns what a container that runs needs: its postStart hook, or an
// end of its own, also for another image. An init container is left to do its
// work with the image that it has.
func (v view) attend(r *ledger.Container) step {
	this := attempt{r.Name, r.Attempt}
	if r.Stop != nil {
		s := v.stopOne(this, ending{at: r.Stop.At, grace: r.Stop.Grace}, true)
		if s == wait(time.Time{}) {
			s = v.try(actKill, r.Name) // again: it should be gone by now
		}
		return s
	}
	if v.renews(r) && (!isInit(v.pod, r.Name) || sidecar(v.pod, r.Name)) {
		return v.try(actRetire, r.Name)
	}
	if _, begun := v.hooks[hook{this, false}]; !begun && translate.AwaitsHook(container(v.pod, r.Name), r) {
		return v.try(actPostStart, r.Name)
	}
	return wait(time.Time{})
}
