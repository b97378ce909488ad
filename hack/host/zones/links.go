package zones

import (
	"context"
	"net/netip"
	"slices"
	"strings"
)

// assignLinks is configure_exclusive_network_interfaces.
func (op *operation) assignLinks(ctx context.Context, k *kernelZone) bool {
	var usable []*resource
	for _, r := range k.config.Resources["net"] {
		if err := op.m.links.CheckAssign(r.Values["physical"]); err != nil {
			if !op.linkRefused(err) {
				return false
			}
			continue
		}
		usable = append(usable, r)
	}
	links, fault := joinLinks(usable)
	if fault != "" {
		if fault != addressFault {
			op.say("%s", fault)
		}
		op.say(addressFault)
		return false
	}
	op.update(func(*zone) { k.links = nil })
	for _, l := range links {
		l.Addresses, l.Routers = op.m.distro.plumbing(k.brand, l, usable)
		if err := op.m.links.Assign(ctx, op.name, k.id, k.netns, l); err != nil {
			if !isWarning(err) {
				op.say("%v", err)
				op.say(addressFault)
				return false
			}
			if !op.linkRefused(err) {
				return false
			}
			continue
		}
		op.update(func(*zone) { k.links = append(k.links, l) })
	}
	return true
}

// addressFault is what zoneadmd says last of an address that it cannot use.
const addressFault = "failed to add address: Invalid argument"

// isWarning tells the warnings that zoneadmd prints of a link from errors that
// it keeps to itself.
func isWarning(err error) bool { return strings.HasPrefix(err.Error(), "WARNING: ") }

// linkRefused handles a link that the zone cannot have: SmartOS boots without
// it and says nothing, the others give up. It reports whether to go on.
func (op *operation) linkRefused(err error) bool {
	if op.m.distro.skipsLinks() {
		op.m.log(op.name, err.Error())
		return true
	}
	if isWarning(err) {
		op.say("%v", err)
	}
	op.say("failed to add network device: No such file or directory")
	return false
}

// joinLinks makes one LinkConfig per physical link of all net resources. The
// addresses of one link share a buffer of the size of one address; one that
// does not fit fails the boot without a word about why.
func joinLinks(nets []*resource) (links []LinkConfig, fault string) {
	left := map[string]int{}
	for _, r := range nets {
		name := r.Values["physical"]
		i := slices.IndexFunc(links, func(l LinkConfig) bool { return l.Physical == name })
		if i < 0 {
			links = append(links, LinkConfig{Physical: name})
			i = len(links) - 1
			left[name] = fieldSizes["net"]["allowed-address"]
		}
		if a := r.Values["allowed-address"]; a != "" {
			p, ok := netAddress(a)
			if !ok {
				host, _, _ := strings.Cut(a, "/")
				return nil, "invalid address [" + host + "]\n"
			}
			if len(p.Addr().String()) >= left[name] {
				return nil, addressFault
			}
			left[name] -= len(p.String()) + 1
			links[i].Allowed = append(links[i].Allowed, p)
		}
		if d := r.Values["defrouter"]; d != "" {
			host, _, _ := strings.Cut(d, "/")
			gw, err := netip.ParseAddr(host)
			if err != nil {
				return nil, "invalid router [" + host + "]\n"
			}
			links[i].Routers = append(links[i].Routers, gw)
		}
	}
	return links, ""
}

// plumbing returns the addresses and routers that come up inside the zone.
// OmniOS' lxinit takes allowed-address and defrouter, or else the properties
// ips, and gateway where primary is true; SmartOS' takes only the properties.
// In other zones ipmgmtd sets what zoneadmd hands down, allowed-address, once
// SMF has the interfaces enabled; in those of a brand without SMF nobody does.
func (d Distro) plumbing(b *Brand, l LinkConfig, nets []*resource) ([]netip.Prefix, []netip.Addr) {
	if !b.BootsLikeLinux {
		return l.Allowed, l.Routers
	}
	var ips []netip.Prefix
	var routers []netip.Addr
	for _, r := range nets {
		if r.Values["physical"] != l.Physical {
			continue
		}
		for ip := range strings.SplitSeq(pairOf(r, "ips"), ",") {
			if p, err := netip.ParsePrefix(ip); err == nil {
				ips = append(ips, p)
			}
		}
		if gw, err := netip.ParseAddr(pairOf(r, "gateway")); err == nil && pairOf(r, "primary") == "true" {
			routers = append(routers, gw)
		}
	}
	if d == SmartOS {
		return ips, routers
	}
	addresses := l.Allowed
	if len(addresses) == 0 {
		addresses = ips
	}
	if len(l.Routers) > 0 {
		routers = l.Routers
	}
	return addresses, routers
}

func pairOf(r *resource, name string) string {
	for _, p := range r.Pairs {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}
