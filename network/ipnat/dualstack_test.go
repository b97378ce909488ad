//go:build linux

package ipnat_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/network/ipnat"
)

// TestDualStack has a Service of both families reached by real rules: from a
// pod by its cluster addresses, also by the pod that serves it, and from outside
// by the node's ports. What pods send out of the cluster has the node's address.
func TestDualStack(t *testing.T) {
	n := newNetwork(t)
	for _, line := range []string{
		"ipadm create-addr -t -T static -a fd00:10:244:1::1/64 rdwgw0/v6", "ipadm create-addr -t -T static -a fd00:198::11/64 net0/v6",
		"ipadm set-prop -t -p forwarding=on ipv6", "ipadm set-prop -t -p _send_redirects=0 ipv6",
	} {
		f := strings.Fields(line)
		n.must("", f[0], f[1:]...)
	}
	pod := n.zone(19, "pods0", "10.244.1.19/24 fd00:10:244:1::19/64", "10.244.1.1 fd00:10:244:1::1")
	server := n.zone(15, "pods0", "10.244.1.15/24 fd00:10:244:1::15/64", "10.244.1.1 fd00:10:244:1::1")
	outside := n.zone(81, "lan0", "198.51.100.81/24 fd00:198::81/64", "")
	ends := []string{"10.244.1.15:8000", "[fd00:10:244:1::15]:8000"}
	away := []string{"198.51.100.81:80", "[fd00:198::81]:80"}
	for i := range ends {
		n.serve(server, ends[i])
		n.serve(outside, away[i])
	}
	node := v4Node()
	node.IPv6 = &ipnat.Networks{
		Pods: netip.MustParsePrefix("fd00:10:244:1::/64"), Cluster: netip.MustParsePrefix("fd00:10:244::/56"),
		Gateway: netip.MustParseAddr("fd00:10:244:1::1"), Host: netip.MustParseAddr("fd00:198::11"),
	}
	node.IPv4.Egress, node.IPv6.Egress = true, true
	table, err := ipnat.NewTable(node)
	if err != nil {
		t.Fatal(err)
	}
	s := ipnat.Service{
		Name: "default/both", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:10:96::1")},
		Ports: []ipnat.Port{{Protocol: ipnat.TCP, Port: 80, NodePort: 30080}},
	}
	for _, end := range ends {
		at := netip.MustParseAddrPort(end)
		s.Ports[0].Endpoints = append(s.Ports[0].Endpoints, ipnat.Endpoint{Addr: at.Addr(), Port: at.Port(), Node: "n1", Ready: true, Serving: true})
	}
	table.Set(s)
	l := ipnat.NewLoader(n)
	if _, err := l.Sync(t.Context(), table.Rules()); err != nil {
		t.Fatal(err)
	}
	n.equals(t, "loaded", table.Rules(), nil)
	for i, hosts := range [][2]string{{"10.96.0.1", "198.51.100.11"}, {"fd00:10:96::1", "fd00:198::11"}} {
		for _, tt := range []struct{ what, netns, to, want string }{
			{"a pod", pod, net.JoinHostPort(hosts[0], "80"), ends[i]},
			{"the pod that serves it", server, net.JoinHostPort(hosts[0], "80"), ends[i]},
			{"outside, by the node's port", outside, net.JoinHostPort(hosts[1], "30080"), ends[i]},
			{"a pod, by the node's port", pod, net.JoinHostPort(hosts[1], "30080"), ends[i]},
			{"a pod, to the outside", pod, away[i], away[i]},
		} {
			c, err := n.dial(tt.netns, tt.to, s.Name)
			if err != nil || c.server != tt.want {
				t.Errorf("%s to %s: %+v, %v; want %s", tt.what, tt.to, c, err, tt.want)
			}
		}
	}
	// Who serves is told apart by its family.
	s.Ports[0].Endpoints = s.Ports[0].Endpoints[:1]
	if _, err := l.Apply(t.Context(), table.Set(s)); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(n.rules(), func(r string) bool { return strings.Contains(r, "fd00:10:96::1") }); i >= 0 {
		t.Errorf("an address without endpoints is redirected: %s", n.rules()[i])
	}
	if c, err := n.dial(pod, "10.96.0.1:80", s.Name); err != nil || c.server != ends[0] {
		t.Errorf("IPv4 after IPv6's last endpoint has gone: %+v, %v", c, err)
	}
}
