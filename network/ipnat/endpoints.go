package ipnat

import (
	"cmp"
	"net/netip"
	"slices"
)

// chosen are the endpoints that a port's traffic may go to from this node, by
// traffic policy.
type chosen struct{ cluster, local []netip.AddrPort }

// choose picks endpoints of one family as kube-proxy does: ready ones near
// enough by their hints, else those that end but still serve, for each policy
// on its own.
func (n *Node) choose(all []Endpoint) chosen {
	var c chosen
	ready := filter(all, func(e *Endpoint) bool { return e.Ready })
	ending := filter(all, func(e *Endpoint) bool { return !e.Ready && e.Serving && e.Terminating })
	c.cluster = addresses(n.near(ready))
	if len(ready) == 0 {
		c.cluster = addresses(ending)
	}
	here := func(e *Endpoint) bool { return e.Node == n.Name && n.Name != "" }
	if c.local = addresses(filter(ready, here)); len(c.local) == 0 {
		c.local = addresses(filter(ending, here))
	}
	return c
}

// near keeps the endpoints that are meant for this node, or for its zone.
// Hints count only if every endpoint has some and some are for us.
func (n *Node) near(ready []Endpoint) []Endpoint {
	if got, ok := hinted(ready, n.Name, func(e *Endpoint) []string { return e.ForNodes }); ok {
		return got
	}
	if got, ok := hinted(ready, n.Zone, func(e *Endpoint) []string { return e.ForZones }); ok {
		return got
	}
	return ready
}

func hinted(all []Endpoint, name string, hints func(*Endpoint) []string) ([]Endpoint, bool) {
	for i := range all {
		if len(hints(&all[i])) == 0 {
			return nil, false
		}
	}
	if name == "" {
		return nil, false
	}
	got := filter(all, func(e *Endpoint) bool { return slices.Contains(hints(e), name) })
	return got, len(got) > 0
}

func filter(all []Endpoint, keep func(*Endpoint) bool) []Endpoint {
	kept := 0
	for i := range all {
		if keep(&all[i]) {
			kept++
		}
	}
	if kept == len(all) {
		return all // mostly so, and nobody changes them
	}
	got := make([]Endpoint, 0, kept)
	for i := range all {
		if keep(&all[i]) {
			got = append(got, all[i])
		}
	}
	return got
}

// addresses returns where the endpoints are, sorted.
func addresses(all []Endpoint) []netip.AddrPort {
	if len(all) == 0 {
		return nil
	}
	got := make([]netip.AddrPort, len(all))
	for i, e := range all {
		got[i] = netip.AddrPortFrom(e.Addr, e.Port)
	}
	return got
}

// usable returns the port's endpoints of one family, sorted and each once. An
// endpoint may be in two slices for a moment, and a pod may get the address of
// one that still ends. So of two that are the same place the one that does not
// terminate counts, then the one on this node, then the later.
func (n *Node) usable(all []Endpoint, is4 bool) []Endpoint {
	got := make([]Endpoint, 0, len(all))
	for _, e := range all {
		if e.Addr.Is4() == is4 && e.Port != 0 && plain(e.Addr) {
			got = append(got, e)
		}
	}
	slices.SortStableFunc(got, func(a, b Endpoint) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
	})
	kept := got[:0]
	for _, e := range got {
		last := len(kept) - 1
		switch {
		case last < 0 || kept[last].Addr != e.Addr || kept[last].Port != e.Port:
			kept = append(kept, e)
		case e.Terminating != kept[last].Terminating:
			if kept[last].Terminating {
				kept[last] = e
			}
		case e.Node == n.Name || kept[last].Node != n.Name:
			kept[last] = e
		}
	}
	return kept
}
