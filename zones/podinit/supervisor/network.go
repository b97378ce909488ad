package supervisor

import (
	"fmt"
	"net/netip"

	"reddwarf.io/reddwarf/zones/podinit"
)

// Programs of the global zone, which the brand mounts into a native zone.
const (
	addressDaemon  = "/lib/inet/ipmgmtd"
	addressProgram = "/usr/sbin/ipadm"
	routeProgram   = "/usr/sbin/route"
)

// setUpNetwork plumbs the loopback and the pod's interface. ipadm(8) needs
// ipmgmtd(8), which SMF would have started in an ordinary zone; it is told its
// service's name as SMF does, or it refuses to run.
func (s *Supervisor) setUpNetwork(n podinit.Network) error {
	steps, err := networkSteps(n)
	if err != nil {
		return err
	}
	if err := s.reaper.command(addressDaemon, nil, "SMF_FMRI=svc:/network/ip-interface-management:default"); err != nil {
		return err
	}
	for _, step := range steps {
		if err := s.reaper.command(step[0], step[1:]); err != nil {
			return err
		}
	}
	return nil
}

// networkSteps are the commands that give a native zone its network. They are
// temporary, because the zone is: a zone with an allowed-address may not have
// persistent ones anyway ("Operation not permitted on from-gz interface"). A
// VNIC that is temporary itself is not in ipmgmtd's list of what comes from the
// global zone, so that the name is free. create-addr plumbs the interface.
func networkSteps(n podinit.Network) ([][]string, error) {
	create := func(address, object string) []string {
		return []string{addressProgram, "create-addr", "-t", "-T", "static", "-a", address, object}
	}
	steps := [][]string{create("127.0.0.1/8", "lo0/v4")}
	for i, a := range n.Addresses {
		if !a.Addr().Is4() {
			return nil, fmt.Errorf("address %s: only IPv4 is supported in native zones", a)
		}
		steps = append(steps, create(a.String(), fmt.Sprintf("%s/pod%d", n.Interface, i)))
	}
	for _, g := range n.Gateways {
		steps = append(steps, []string{routeProgram, "-n", "add", family(g), "default", g.String()})
	}
	return steps, nil
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "-inet6"
	}
	return "-inet"
}
