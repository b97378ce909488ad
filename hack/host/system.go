package host

import (
	"context"

	"reddwarf.io/reddwarf/hack/host/datalink"
	"reddwarf.io/reddwarf/hack/host/ipf"
	"reddwarf.io/reddwarf/hack/host/mounts"
	"reddwarf.io/reddwarf/hack/host/system"
	"reddwarf.io/reddwarf/hack/host/zfs"
	"reddwarf.io/reddwarf/hack/host/zones"
)

// ipfilterFMRI is the service that switches IP Filter on.
const ipfilterFMRI = "svc:/network/ipfilter:default"

// newSystem makes the commands that show the other components.
func newSystem(o options, z *zones.Model, l *datalink.Model, nat *ipf.Model) *system.Model {
	return system.New(system.Config{
		Distro: o.distro, Hostname: o.hostname, CPUs: o.cpus, Memory: o.memory, Clock: o.clock,
		Zones: shownZones{zones: z, backend: o.backends.Zones}, Links: shownLinks{l},
		Hooks: map[string]system.Hook{ipfilterFMRI: func(ctx context.Context, action string) error {
			return ipfilterMethod(ctx, nat, action)
		}},
	})
}

// ipfilterMethod does what the service's method does, as far as it concerns
// the filter itself: rules come from commands alone, there are no files.
func ipfilterMethod(ctx context.Context, nat *ipf.Model, action string) error {
	switch action {
	case "enable":
		return nat.Enable(ctx)
	case "disable":
		return nat.Disable(ctx)
	case "restart", "refresh": // reloads the files, and with that drops all rules
		if err := nat.Disable(ctx); err != nil {
			return err
		}
		return nat.Enable(ctx)
	}
	return nil
}

// shownZones are the zones as kstat and prctl show them.
type shownZones struct {
	zones   *zones.Model
	backend zones.Backend
}

var _ system.Zones = shownZones{}

func (s shownZones) Active(context.Context) []system.Zone {
	var all []system.Zone
	for _, z := range s.zones.Active() {
		shown := system.Zone{ID: z.ID, Name: z.Name, Booted: z.Booted, Caps: system.Caps(z.Caps)}
		if b, ok := s.backend.(interface{ Init(id int) (int, error) }); ok {
			if pid, err := b.Init(z.ID); err == nil {
				shown.InitPID = pid
			}
		}
		all = append(all, shown)
	}
	return all
}

func (s shownZones) Usage(ctx context.Context, id int) (system.Usage, error) {
	u, err := s.zones.Usage(ctx, id)
	return system.Usage(u), err
}

func (s shownZones) SetCaps(ctx context.Context, id int, c system.Caps) error {
	return s.zones.SetCaps(ctx, id, zones.Caps(c))
}

// shownLinks are the links as kstat shows them.
type shownLinks struct {
	links *datalink.Model
}

var _ system.Links = shownLinks{}

func (s shownLinks) Stats(ctx context.Context) ([]system.Link, error) {
	stats, err := s.links.Stats(ctx)
	if err != nil {
		return nil, err
	}
	var all []system.Link
	for _, l := range stats {
		all = append(all, system.Link{
			Name: l.Name, Up: true, InBytes: l.InBytes, OutBytes: l.OutBytes,
			InPackets: l.InPackets, OutPackets: l.OutPackets, InErrors: l.InErrors, OutErrors: l.OutErrors,
		})
	}
	return all, nil
}

// newMounts makes the mount table over what the other components know of it.
func newMounts(o options, z *zones.Model, d *zfs.Model) *mounts.Model {
	c := mounts.Config{
		Backend: o.backends.Mounts, Servers: o.servers, Clock: o.clock, InZone: z.Mounted,
		Others: func() []mounts.Entry {
			var all []mounts.Entry
			for _, dir := range d.MountsBelow("/") {
				if dataset, ok := d.MountpointOf(dir); ok {
					all = append(all, mounts.Entry{Special: dataset, Point: dir, Type: "zfs", Options: []string{"rw"}, Time: o.clock()})
				}
			}
			return all
		},
	}
	if o.paths != nil {
		c.Resolve = o.paths.Resolve
	}
	return mounts.New(c)
}
