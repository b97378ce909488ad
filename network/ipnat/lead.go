package ipnat

import "net/netip"

// lead is where one Service leads the packets of a frontend. A table keeps this
// instead of rules, which are seven times as large, and makes the rules of a
// frontend when it needs them.
type lead struct {
	eps    []netip.AddrPort // sorted; may be shared with other frontends
	from   []Net            // who may come; none is everybody
	port   string           // of the Service, where its name decides who goes where
	sticky bool             // a client stays with its endpoint
}

// nowhere says that no endpoint serves the frontend.
func (l lead) nowhere(at frontend) bool { return len(l.eps) == 0 && !at.mask }

// rules returns the rules of a frontend that the Service of that name has.
func (n *Node) rules(at frontend, service string, l lead) []Rule {
	if at.mask {
		return n.masks(at)
	}
	from := l.from
	if len(from) == 0 {
		from = []Net{{}}
	}
	r := Rule{Kind: Redirect, Proto: at.proto, Interface: at.iface, To: single(at.addr), ToPort: at.port, Tag: Tag(service)}
	if at.proto == UDP {
		r.Age = udpAge
	}
	if l.sticky {
		return sticky(r, service, l, from)
	}
	r.RoundRobin = true // even of one: a second one must not change the first
	rules := make([]Rule, 0, len(l.eps)*len(from))
	for _, e := range l.eps {
		for _, r.From = range from {
			r.Target, r.TargetPort = e.Addr(), e.Port()
			rules = append(rules, r)
		}
	}
	return rules
}

// sticky returns the rules of a frontend with affinity: each part of the clients
// has one rule for each range.
func sticky(r Rule, service string, l lead, from []Net) []Rule {
	count := parts(len(l.eps))
	hashes := endpointHashes(hashString(service+"\x00"+l.port+"\x00"+r.Proto.String()), l.eps)
	rules := make([]Rule, 0, int(count)*len(from))
	for k := range count {
		e := l.eps[winner(hashes, k)]
		r.Target, r.TargetPort = e.Addr(), e.Port()
		for _, f := range from {
			if both, ok := both(f, lowBits(k, count)); ok {
				r.From = both
				rules = append(rules, r)
			}
		}
	}
	return rules
}

// masks returns the source translation towards an endpoint: without a port the
// host's own packets keep their source.
func (n *Node) masks(at frontend) []Rule {
	w := n.IPv4
	if at.addr.Is6() {
		w = n.IPv6
	}
	if at.port == 0 {
		return []Rule{keep(at.iface, single(w.Host), single(at.addr))}
	}
	r := translate(at.iface, netOf(netip.PrefixFrom(at.addr, 0)), single(at.addr), w.Host)
	r.Proto, r.ToPort = at.proto, at.port
	return []Rule{r}
}
