package zones

import (
	"context"
	"path"
	"time"
)

// lxDistributions are the files by which lx_boot tells a Linux distribution.
var lxDistributions = []string{"/etc/redhat-release", "/etc/lsb-release", "/etc/debian_version",
	"/etc/alpine-release", "/etc/SuSE-release", "/etc/void-release"}

// bootUp is zone_bootup: it starts init in a zone that is ready.
func (op *operation) bootUp(ctx context.Context, bootArgs string) bool {
	k := op.kernel()
	if k == nil {
		op.say("unable to get zoneid: Invalid argument")
		return false
	}
	if !op.checkInit(k) {
		return false
	}
	if k.brand.BootsLikeLinux && !op.knowsDistribution(k) {
		op.say("Unsupported distribution!")
		op.say("exec /usr/lib/brand/lx/lx_boot %s %s failed", op.name, k.config.path())
		return false
	}
	op.update(func(*zone) { k.state, k.bootArgs = stateRunning, bootArgs })
	return op.startInit(ctx, k)
}

// checkInit anticipates that init cannot be run. lxinit belongs to the global
// zone's /usr, which the brand mounts at /native; the zone's own /sbin/init
// is only needed later.
func (op *operation) checkInit(k *kernelZone) bool {
	if k.brand.BootsLikeLinux {
		return true
	}
	init := shown(k.root, k.brand.Init, op.mountsOf(k))
	info, err := op.m.paths.Lstat(init)
	if err != nil {
		op.say("could not stat %s: %s", path.Join(k.root, k.brand.Init), errnoText(err))
		return false
	}
	if !info.Mode.IsDir() && info.Mode.Type() == 0 && info.Mode&0o100 == 0 {
		op.say("%s is not executable", path.Join(k.root, k.brand.Init))
		return false
	}
	return true
}

// mountsOf returns the mounts of a zone as far as they are loopback mounts,
// which can hide what its root holds.
func (op *operation) mountsOf(k *kernelZone) []Mount {
	var mounts []Mount
	for _, r := range k.config.Resources["fs"] {
		if r.Values["type"] == "lofs" {
			mounts = append(mounts, Mount{Special: r.Values["special"], Dir: r.Values["dir"]})
		}
	}
	return mounts
}

// knowsDistribution is lx_boot's choice of a script. The attr docker turns
// that off.
func (op *operation) knowsDistribution(k *kernelZone) bool {
	if k.config.attr("docker") == "true" {
		return true
	}
	for _, file := range lxDistributions {
		if _, err := op.m.paths.Lstat(shown(k.root, file, op.mountsOf(k))); err == nil {
			return true
		}
	}
	return false
}

// startInit sets the network up and starts init. What goes wrong before init
// is the business of the zone's first program: lxinit writes to the console
// and waits forever, with the zone running.
func (op *operation) startInit(ctx context.Context, k *kernelZone) bool {
	m := op.m
	init := []string{k.brand.Init}
	if k.brand.BootsLikeLinux {
		init[0] = lxUserInit
		if k.config.ipType() != "exclusive" {
			m.log(op.name, "lx_init err: lx zones do not support shared IP stacks")
			return true
		}
	}
	for _, l := range k.links {
		if !k.brand.Plumbs {
			break // that is left to init
		}
		if err := m.links.Plumb(ctx, op.name, k.id, k.netns, l); err != nil {
			m.log(op.name, "lx_init err: "+err.Error())
			if k.brand.BootsLikeLinux {
				return true
			}
		}
	}
	op.update(func(*zone) { k.booted = m.clock() })
	err := m.backend.Boot(ctx, k.id, init, func(status int) {
		m.start(func(life context.Context) { m.initExited(life, op.name, k, status) })
	})
	if err != nil {
		if k.brand.BootsLikeLinux {
			m.log(op.name, "lx_init err: exec: "+err.Error())
			return true // lxinit waits for ever
		}
		op.say("unable to boot zone: %v", err)
		return false
	}
	return true
}

// restartPause holds the restart of an init back that ended as soon as it was
// started.
const restartPause = time.Second

// initExited is what the kernel and zoneadmd do when init has ended by itself:
// restart it, reboot the zone, or halt it.
func (m *Model) initExited(ctx context.Context, name string, k *kernelZone, status int) {
	restart := m.restarts(k, status)
	m.mu.Lock()
	booted := k.booted
	m.mu.Unlock()
	if restart && m.clock().Sub(booted) < restartPause {
		pause := time.NewTimer(restartPause)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
	if m.lock(ctx, name) != nil {
		return
	}
	defer m.unlock(name)
	op := &operation{m: m, name: name, files: k.files}
	if op.kernel() != k || k.state != stateRunning {
		return // halted in the meantime
	}
	switch {
	case restart && k.brand.RestartInitReboot && !m.distro.gate():
		if op.halt(ctx, true) {
			op.bringUp(ctx, k.bootArgs)
		}
	case restart && op.restartInit(ctx, k):
	default:
		m.logExit(k, status)
		op.halt(ctx, true)
	}
	for _, msg := range op.messages {
		m.log(name, msg)
	}
}

// restarts decides by the brand whether an init that ended is started again.
func (m *Model) restarts(k *kernelZone, status int) bool {
	switch {
	case !k.brand.RestartInit:
		return false
	case m.distro == OmniOS && k.brand.RestartInit0:
		return status == 0
	case m.distro == SmartOS && k.config.attr("restart-init") == "false":
		return false
	}
	return true
}

// restartInit starts init again in a zone that keeps its id and stays running.
// A Backend's sandbox dies with its init, so that it is made anew.
func (op *operation) restartInit(ctx context.Context, k *kernelZone) bool {
	if err := op.m.backend.Halt(ctx, k.id); err != nil {
		op.say("unable to restart init: %v", err)
		return false
	}
	if err := op.m.links.Return(ctx, op.name, k.id); err != nil {
		op.say("unable to restart init: %v", err)
		return false
	}
	op.m.datasets.Release(op.name)
	return op.bringUpPlatform(ctx, k) && op.startInit(ctx, k)
}
