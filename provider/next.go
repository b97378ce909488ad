package provider

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

// action is what a step does.
type action string

// The actions, in the order of a pod's life. Each can be repeated.
const (
	actWait        action = "wait"        // nothing to do before step.until, or before something changes
	actDone        action = "done"        // nothing is left, not even the record
	actPull        action = "pull"        // bring one container's image to the host
	actRetire      action = "retire"      // ask a container to stop whose image was changed
	actRenew       action = "renew"       // bring a changed image to the host, for a zone that runs
	actFetch       action = "fetch"       // bring the image of one volume to the host
	actAddress     action = "address"     // decide on address and slot, durably
	actStorage     action = "storage"     // make the datasets
	actMount       action = "mount"       // mount what volumes show of the host and of NFS servers
	actLink        action = "link"        // make the VNIC
	actFiles       action = "files"       // write the zone's root, spec and volumes
	actConfigure   action = "configure"   // zonecfg
	actInstall     action = "install"     // mark installed
	actBoot        action = "boot"        // zoneadm boot
	actExpose      action = "expose"      // lead host ports to the pod
	actStart       action = "start"       // start the decided attempt of one container
	actRestart     action = "restart"     // decide on one container's next attempt
	actRefresh     action = "refresh"     // write the volumes again
	actLost        action = "lost"        // take in that the zone's last boot is over
	actEnd         action = "end"         // the pod's life is over
	actResize      action = "resize"      // give the running zone its new limits
	actPostStart   action = "postStart"   // begin a container's postStart hook
	actPreStop     action = "preStop"     // begin a container's preStop hook
	actRestartAll  action = "restartAll"  // decide on the next attempt of every container
	actSignal      action = "signal"      // ask one container to stop
	actKill        action = "kill"        // do not ask any more
	actHalt        action = "halt"        // zoneadm halt
	actUninstall   action = "uninstall"   // mark configured
	actUnconfigure action = "unconfigure" // delete the configuration
	actConceal     action = "conceal"     // host ports lead nowhere
	actUnlink      action = "unlink"      // remove the VNIC
	actReclaim     action = "reclaim"     // destroy the datasets but for the logs
	actErase       action = "erase"       // destroy the datasets
	actRelease     action = "release"     // give address and slot back
	actReport      action = "report"      // last status, then the object leaves the API server
	actForget      action = "forget"      // remove the record
)

// step is one action, on one container where the action is about one. For
// actFetch that is a volume.
type step struct {
	act       action
	container string
	until     time.Time // of actWait; zero means until woken
}

// wish is what a pod's zone is to become.
type wish int

const (
	wishRun  wish = iota // running, with its containers
	wishStop             // nothing left but its logs and its status
	wishGone             // nothing left
)

// prepared tells which preparations this agent made for the coming boot. It
// is memory, not record: a new agent makes them again, which costs little
// because every one of them can be repeated.
type prepared struct {
	address, storage, mounts, link, files, configured bool
	pending                                           bool // BootPending is on disk for the coming boot
	root                                              bool // of files, what depends on the pod alone

	ports bool // of the boot that is now
}

// removed is the same for the preparations' undoing.
type removed struct {
	ports, link, roots, data, address, object bool
}

// view is all that a decision is made from.
type view struct {
	now  time.Time
	wish wish
	pod  *corev1.Pod
	st   *ledger.State
	zone zones.State

	// outside is set while the pod waits for room.
	outside bool

	// live is podinit's newest state, nil if none was seen in this boot.
	live *podinit.State

	have prepared
	gone removed

	// autostart are the attempts that podinit starts by itself or was asked to
	// start in this boot.
	autostart map[string]int

	// hooks are those that were begun; true for those that have ended.
	hooks map[hook]bool

	// stops tells how far the stopping of an attempt has come.
	stops map[attempt]stopping

	refreshAt time.Time // zero if nothing is to be refreshed

	// notBefore holds steps back that failed.
	notBefore map[step]time.Time
}

// attempt is one attempt of a container.
type attempt struct {
	container string
	number    int
}

// hook is one lifecycle hook of one attempt.
type hook struct {
	attempt
	stop bool // preStop; otherwise postStart
}

// stopping is what was done to end an attempt; the zero time for what was not.
type stopping struct{ signalled, killed time.Time }

// minStop is the least time between a stop signal and SIGKILL, as a kubelet's,
// where there was to be any grace.
const minStop = 2 * time.Second

// killWait is how long killed containers may take to be reaped before the zone
// is halted under them, which loses their exit codes.
const killWait = 2 * time.Second

// next returns the one step that brings the host nearer to the wish. It is
// pure: all input and output is in perform.
func next(v view) step {
	switch v.wish {
	case wishRun:
		if v.outside {
			return wait(time.Time{})
		}
		return v.run()
	case wishStop:
		return v.stop()
	default:
		return v.remove()
	}
}

// try is act unless it failed too recently, and then a wait.
func (v view) try(act action, container string) step {
	s := step{act: act, container: container}
	if t, ok := v.notBefore[s]; ok && t.After(v.now) {
		return step{act: actWait, until: t}
	}
	return s
}

func wait(until time.Time) step { return step{act: actWait, until: until} }

// sooner returns the step that does something, or else the shorter wait.
func sooner(a, b step) step {
	if a.act != actWait {
		return a
	}
	if b.act != actWait || a.until.IsZero() || (!b.until.IsZero() && b.until.Before(a.until)) {
		return b
	}
	return a
}

// booted reports whether there may have been a boot that has not been taken in
// as over: one that podinit reported, or one that an earlier agent was about to
// make, of which podinit's state file tells.
func (v view) booted() bool {
	return v.st.Boot != "" && (v.st.Boot != ledger.BootPending || !v.have.pending)
}

func (v view) run() step {
	if end := v.deadline(); end.act != actWait {
		return end
	}
	switch v.zone {
	case zones.Running:
		return sooner(v.follow(), v.deadline())
	case zones.Ready:
		return v.try(actBoot, "")
	case zones.ShuttingDown, zones.Down, zones.Mounted:
		return v.try(actHalt, "")
	case zones.Incomplete:
		return v.try(actUninstall, "")
	}
	if v.booted() {
		return v.try(actLost, "")
	}
	if s := v.beforeBoot(); s.act != actBoot {
		return sooner(s, v.deadline())
	}
	return v.prepare()
}

// deadline ends a pod that is active for longer than it allows itself.
func (v view) deadline() step {
	limit := v.pod.Spec.ActiveDeadlineSeconds
	if limit == nil {
		return wait(time.Time{})
	}
	at := v.st.Accepted.Add(time.Duration(*limit) * time.Second)
	if v.now.Before(at) {
		return wait(at)
	}
	return v.try(actEnd, "")
}

// beforeBoot decides on attempts while no zone runs. It returns actBoot when
// at least one container is due.
func (v view) beforeBoot() step {
	if v.over() {
		return v.try(actEnd, "")
	}
	due, out := false, wait(time.Time{})
	for _, c := range translate.AllContainers(v.pod) {
		r := v.st.Container(c.Name)
		if r == nil || r.Phase != podinit.Exited {
			due = true
			continue
		}
		if !translate.Restarts(v.pod, c.Name, exitCode(r)) {
			continue
		}
		if r.NotBefore.After(v.now) && !translate.Outdated(c, r) {
			out = sooner(out, wait(r.NotBefore))
			continue
		}
		return v.try(actRestart, c.Name)
	}
	if due {
		return step{act: actBoot}
	}
	return out
}

// prepare brings a zone that is not active to its boot.
func (v view) prepare() step {
	for _, c := range translate.AllContainers(v.pod) {
		if r := v.st.Container(c.Name); r == nil || r.Image == nil || r.Phase == podinit.Waiting && translate.Outdated(c, r) {
			return v.try(actPull, c.Name)
		}
	}
	for _, vol := range v.pod.Spec.Volumes {
		if _, ok := v.st.VolumeImages[vol.Name]; vol.Image != nil && !ok {
			return v.try(actFetch, vol.Name)
		}
	}
	switch {
	case !v.have.address:
		return v.try(actAddress, "")
	case !v.have.storage:
		return v.try(actStorage, "")
	case !v.have.mounts && translate.NeedsSources(v.pod):
		return v.try(actMount, "")
	case !v.have.link:
		return v.try(actLink, "")
	case !v.have.files:
		return v.try(actFiles, "")
	}
	switch v.zone {
	case zones.Installed:
		if !v.st.Configured.Equal(v.st.Allocated) {
			return v.try(actUninstall, "") // it would boot with the limits of before a resize, or with who knows which
		}
		return v.try(actBoot, "")
	case zones.Configured:
		if !v.have.configured {
			// Of an agent that was stopped in the middle: what it holds is not
			// known, and making it again is cheaper than finding out.
			return v.try(actUnconfigure, "")
		}
		return v.try(actInstall, "")
	default:
		return v.try(actConfigure, "")
	}
}

// over reports whether no container will ever run again.
func (v view) over() bool {
	if v.st.RestartAll == ledger.RestartEnding {
		return false // all will
	}
	for i := range v.pod.Spec.InitContainers {
		c := &v.pod.Spec.InitContainers[i]
		if translate.Sidecar(c) {
			continue // it lives as long as the others
		}
		r := v.st.Container(c.Name)
		if r == nil || r.Phase != podinit.Exited {
			return false
		}
		if exitCode(r) != 0 {
			return !translate.Restarts(v.pod, c.Name, exitCode(r))
		}
	}
	for _, c := range v.pod.Spec.Containers {
		r := v.st.Container(c.Name)
		if r == nil || r.Phase != podinit.Exited || translate.Restarts(v.pod, c.Name, exitCode(r)) {
			return false
		}
	}
	return true
}

func exitCode(r *ledger.Container) int {
	if r.Exit == nil {
		return 0
	}
	return r.Exit.Code
}
