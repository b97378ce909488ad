package supervisor

import (
	"fmt"
	"net/netip"

	"reddwarf.io/reddwarf/zones/podinit"
)

// Programs of the global zone, which the brand mounts into the zone.
const (
	hostnameProgram = "/usr/bin/hostname"
	ifconfigProgram = "/native/sbin/ifconfig"
	routeProgram    = "/usr/sbin/route"
	addressDaemon   = "/lib/inet/ipmgmtd"
)

// setUpZone sets what belongs to the zone as a whole. zone says whether this is
// a zone of our own, in which nothing else does these things.
func (s *Supervisor) setUpZone(spec podinit.Spec, zone bool) error {
	if !zone {
		return nil
	}
	// The reaper must run for a program's end to be seen.
	stop := s.reapMeanwhile()
	defer stop()
	if spec.Hostname != "" {
		if err := s.reaper.command(hostnameProgram, []string{spec.Hostname}); err != nil {
			return fmt.Errorf("podinit: hostname: %w", err)
		}
	}
	if spec.Network != nil {
		if err := s.setUpNetwork(*spec.Network); err != nil {
			return fmt.Errorf("podinit: network: %w", err)
		}
	}
	return nil
}

// setUpNetwork plumbs the loopback and the pod's interface. ifconfig(8) needs
// ipmgmtd(8), which SMF would have started in an ordinary zone; it is told its
// service's name as SMF does, or it refuses to run.
func (s *Supervisor) setUpNetwork(n podinit.Network) error {
	if err := s.reaper.command(addressDaemon, nil, "SMF_FMRI=svc:/network/ip-interface-management:default"); err != nil {
		return err
	}
	steps := [][]string{
		{ifconfigProgram, "lo0", "plumb"},
		{ifconfigProgram, "lo0", "inet", "127.0.0.1", "netmask", "255.0.0.0", "up"},
		{ifconfigProgram, n.Interface, "plumb"},
	}
	for i, a := range n.Addresses {
		if !a.Addr().Is4() {
			return fmt.Errorf("address %s: only IPv4 is supported in native zones", a)
		}
		verb := []string{ifconfigProgram, n.Interface}
		if i > 0 {
			verb = append(verb, "addif")
		}
		steps = append(steps, append(verb, a.String(), "up"))
	}
	for _, g := range n.Gateways {
		steps = append(steps, []string{routeProgram, "add", family(g), "default", g.String()})
	}
	for _, step := range steps {
		if err := s.reaper.command(step[0], step[1:]); err != nil {
			return err
		}
	}
	return nil
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "-inet6"
	}
	return "-inet"
}

// EndZone ends the zone of which this is process 1. Our brand halts with its
// init, so there is nothing to do.
func EndZone() {}
