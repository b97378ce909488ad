package zones

import (
	"context"
	"path"
	"slices"
	"strings"
)

// ready is zone_ready: it creates the kernel's zone from a snapshot of the
// configuration, mounts its file systems and gives it its links.
func (op *operation) ready(ctx context.Context) bool {
	m := op.m
	cfg, ok := m.savedConfig(op.name)
	if !ok {
		return false
	}
	brand, err := m.brand(cfg.Root["brand"], op.files)
	if err != nil {
		op.say("unable to determine zone brand")
		return false
	}
	if hook := brand.unsimulated(); hook != "" {
		op.say("simulated host: the %s of brand %s is not simulated", hook, brand.Name)
		return false
	}
	k := &kernelZone{config: cfg, brand: brand, files: op.files, root: path.Join(cfg.path(), "root"), state: stateReady}
	if !op.create(k) {
		return false
	}
	if op.bringUpPlatform(ctx, k) {
		return true
	}
	op.tearDown(ctx, k)
	return false
}

// create is vplat_create: the checks before zone_create(2), and a new id.
func (op *operation) create(k *kernelZone) bool {
	if name, why := k.brand.checkPrivileges(k.config.Root["limitpriv"], k.config.ipType()); why != zOK {
		op.say("%s", privilegeFault(name, why))
		return false
	}
	caps, fault := op.m.distro.caps(k.config)
	if fault != "" {
		op.say("%s", fault)
		op.say("Unable to get list of rctls")
		return false
	}
	k.caps = caps
	if other, used := op.m.rootInUse(op.name, k.root); used {
		op.say("zone root %s already in use by zone %s", k.root, other)
		return false
	}
	if mounts := op.m.datasets.MountsBelow(k.root); len(mounts) > 0 {
		op.say("These file-systems are mounted on subdirectories of %s:", k.root)
		for _, dir := range mounts {
			op.say("  %s", dir)
		}
		return false
	}
	if k.caps.CPUShares != 0 && k.config.Root["scheduling-class"] == "" {
		op.say("WARNING: The zone.cpu-shares rctl is set but\n" +
			"FSS is not the default scheduling class for\nthis zone.  FSS will be used for processes\n" +
			"in the zone but to get the full benefit of FSS,\nit should be the default scheduling class.\n" +
			"See dispadmin(8) for more details.")
	}
	op.update(func(z *zone) {
		k.id = op.m.nextID
		op.m.nextID++
		z.kernel = k
	})
	return true
}

// rootInUse finds an active zone whose root is, holds or lies in root.
func (m *Model) rootInUse(name, root string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.order {
		k := m.zones[other].kernel
		if k == nil || other == name {
			continue
		}
		if within(root, k.root) || within(k.root, root) {
			return other, true
		}
	}
	return "", false
}

// within reports whether p is dir or lies in it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// bringUpPlatform is vplat_bringup: mounts and links.
func (op *operation) bringUpPlatform(ctx context.Context, k *kernelZone) bool {
	mounts, ok := op.mounts(k)
	if !ok {
		return false
	}
	netns, err := op.m.backend.Ready(ctx, Sandbox{
		ID: k.id, Name: op.name, Brand: k.brand.Name, Root: k.root, Hostname: op.name, Mounts: mounts, Caps: k.caps,
	})
	if err != nil {
		op.say("%v", err)
		return false
	}
	op.update(func(*zone) { k.netns = netns })
	if k.config.ipType() != "exclusive" {
		if len(k.config.Resources["net"]) > 0 {
			op.say("simulated host: zones with a shared IP stack have no network")
		}
		return true
	}
	return op.assignLinks(ctx, k)
}

// tearDown undoes whatever of a failed ready was done.
func (op *operation) tearDown(ctx context.Context, k *kernelZone) {
	op.release(ctx, k)
	op.update(func(z *zone) { z.kernel = nil })
}

// release gives back the zone's links, processes, mounts and datasets.
func (op *operation) release(ctx context.Context, k *kernelZone) bool {
	ok := true
	if err := op.m.backend.Halt(ctx, k.id); err != nil {
		op.say("unable to unmount file systems in zone: %v", err)
		ok = false
	}
	op.update(func(*zone) { k.state = stateDown })
	if err := op.m.links.Return(ctx, op.name, k.id); err != nil {
		op.say("unable to unconfigure network interfaces in zone: %v", err)
		ok = false
	}
	if ok {
		op.m.datasets.Release(op.name)
	}
	return ok
}

// lwpsPerProcess is what zoneadmd derives zone.max-lwps with.
const lwpsPerProcess = 10

// caps reads a configuration's resource controls. fault is what zoneadmd says
// of one that is not valid.
func (d Distro) caps(cfg *zoneConfig) (c Caps, fault string) {
	limits := map[string]uint64{}
	for _, r := range cfg.Resources["rctl"] {
		name := r.Values["name"]
		if !slices.Contains(d.rctls(), name) {
			continue // zoneadm has warned
		}
		for _, l := range r.Limits {
			if !l.valid() {
				return c, "invalid rctl value: " + l.String()
			}
			v := parseLimit(l.Limit)
			if old, ok := limits[name]; !ok || v < old {
				limits[name] = v
			}
		}
	}
	processes, haveProcesses := limits["zone.max-processes"]
	lwps, haveLWPs := limits["zone.max-lwps"]
	switch {
	case haveProcesses && !haveLWPs:
		lwps = processes * lwpsPerProcess
	case haveLWPs && !haveProcesses && !d.gate():
		processes = lwps
	}
	c = Caps{
		CPU: int(min(limits["zone.cpu-cap"], 1<<31-1)), CPUShares: limits["zone.cpu-shares"],
		MaxProcesses: processes, MaxLWPs: lwps,
		Physical: limits["zone.max-physical-memory"], Swap: limits["zone.max-swap"], Locked: limits["zone.max-locked-memory"],
	}
	if d.gate() {
		c.Physical = cfg.Memory
	}
	return c, ""
}
