package peers

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var self = Self{
	Name: "own", Pods: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd01:0:0:1::/64")},
	Uplink: netip.MustParsePrefix("198.51.100.11/24"),
}

// node makes a Node of that age in minutes; the address may be several.
func node(name string, age int, addresses string, cidrs ...string) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(0, 0).Add(-time.Duration(age) * time.Minute))},
		Spec:       corev1.NodeSpec{PodCIDRs: cidrs},
	}
	for a := range strings.FieldsSeq(addresses) {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "192.0.2.200"})
	return n
}

func flannel(n *corev1.Node, backend, ip string) *corev1.Node {
	n.Annotations = map[string]string{flannelManaged: "true", flannelBackend: backend, flannelPublicIP: ip}
	return n
}

func TestRoutes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		nodes   []*corev1.Node
		edit    func(*Self)
		want    string // routes
		problem string // reason and a part of the message
	}{
		{name: "none"},
		{name: "this node itself", nodes: []*corev1.Node{node("own", 1, "198.51.100.11", "10.244.1.0/24")}},
		{name: "two", nodes: []*corev1.Node{node("b", 1, "198.51.100.13", "10.244.3.0/24"), node("a", 1, "198.51.100.12", "10.244.2.0/24")},
			want: "10.244.2.0/24 198.51.100.12, 10.244.3.0/24 198.51.100.13"},
		{name: "both families", nodes: []*corev1.Node{node("a", 1, "198.51.100.12 2001:db8::12", "10.244.2.0/24", "fd01:0:0:2::/64")},
			want: "10.244.2.0/24 198.51.100.12, fd01:0:0:2::/64 2001:db8::12"},
		{name: "the old field", nodes: []*corev1.Node{func() *corev1.Node {
			n := node("a", 1, "198.51.100.12")
			n.Spec.PodCIDR = "10.244.2.0/24"
			return n
		}()}, want: "10.244.2.0/24 198.51.100.12"},
		{name: "without addresses for pods", nodes: []*corev1.Node{node("a", 1, "198.51.100.12"), flannel(node("b", 1, "198.51.100.13"), "vxlan", "")}},
		{name: "flannel host-gw", nodes: []*corev1.Node{flannel(node("a", 1, "192.0.2.12", "10.244.2.0/24"), "host-gw", "198.51.100.12")},
			want: "10.244.2.0/24 198.51.100.12"},
		{name: "flannel vxlan", nodes: []*corev1.Node{flannel(node("a", 1, "198.51.100.12", "10.244.2.0/24"), "vxlan", "198.51.100.12")},
			problem: ReasonBackend + `: no route to the pods of node a: its flannel uses the backend "vxlan"`},
		{name: "annotations without flannel", nodes: []*corev1.Node{func() *corev1.Node {
			n := flannel(node("a", 1, "198.51.100.12", "10.244.2.0/24"), "vxlan", "")
			n.Annotations[flannelManaged] = "false"
			return n
		}()}, want: "10.244.2.0/24 198.51.100.12"},
		{name: "no address", nodes: []*corev1.Node{node("a", 1, "2001:db8::12", "10.244.2.0/24")}, problem: ReasonAddress + ": no route to the pods of node a in 10.244.2.0/24"},
		{name: "a useless address", nodes: []*corev1.Node{node("a", 1, "0.0.0.0 127.0.0.1 224.0.0.1 fe80::1%net0 x 198.51.100.12", "10.244.2.0/24")},
			want: "10.244.2.0/24 198.51.100.12"},
		{name: "our own addresses", nodes: []*corev1.Node{node("a", 9, "198.51.100.12", "10.244.0.0/16")}, problem: ReasonCIDR + ": no route to the pods of node a in 10.244.0.0/16"},
		{name: "our network", nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "198.51.100.128/25")}, problem: "this host's own network"},
		{name: "everything", nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "0.0.0.0/0")}},
		{name: "nearly everything", nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "128.0.0.0/1")}, problem: "this host's own network"},
		{name: "our address", nodes: []*corev1.Node{node("a", 1, "198.51.100.11", "10.244.2.0/24")}, problem: "this host's own network"},
		{name: "through its own pods", nodes: []*corev1.Node{node("a", 1, "10.244.2.1", "10.244.2.0/24")}, problem: "cannot lead through its pods"},
		{name: "outside", nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "10.2.0.0/24")},
			edit: func(s *Self) { s.Cluster = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")} }, problem: "outside of --cluster-cidr [10.244.0.0/16]"},
		{name: "inside", nodes: []*corev1.Node{node("a", 1, "198.51.100.12 2001:db8::12", "10.244.2.0/24", "fd09::/64")},
			edit: func(s *Self) { s.Cluster = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")} },
			want: "10.244.2.0/24 198.51.100.12, fd09::/64 2001:db8::12"},
		{name: "taken by an older node", nodes: []*corev1.Node{node("new", 1, "198.51.100.12", "10.244.2.0/25"), node("old", 9, "198.51.100.13", "10.244.2.0/24")},
			want: "10.244.2.0/24 198.51.100.13", problem: "which an older node has"},
		{name: "nonsense", nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "x", "10.244.2.7/24")}, want: "10.244.2.0/24 198.51.100.12"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := self
			if tt.edit != nil {
				tt.edit(&s)
			}
			routes, problems := Routes(tt.nodes, s)
			var got []string
			for _, r := range routes {
				got = append(got, fmt.Sprint(r.To, " ", r.Gateway))
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("routes %q, want %q", got, tt.want)
			}
			if (len(problems) == 0) != (tt.problem == "") {
				t.Errorf("problems %q", problems)
			}
			for _, p := range problems {
				if !strings.Contains(p.Reason+": "+p.Message, tt.problem) {
					t.Errorf("problem %q, want %q", p, tt.problem)
				}
			}
		})
	}
}

func TestCluster(t *testing.T) {
	for _, tt := range []struct {
		nodes []*corev1.Node
		told  string
		want  string
		fault string
	}{
		{want: "10.244.1.0/24"},
		{nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "10.244.0.0/24")}, want: "10.244.0.0/23"},
		{nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "10.244.2.0/24"), node("b", 1, "198.51.100.13", "10.244.200.0/24")}, want: "10.244.0.0/16"},
		{nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "192.168.7.0/24")}, fault: "198.51.100.0/24"},
		{nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "10.2.0.0/24"), node("b", 1, "10.9.9.9")}, fault: "the address 10.9.9.9 of node b"},
		{nodes: []*corev1.Node{node("a", 1, "198.51.100.12", "192.168.7.0/24")}, told: "10.244.0.0/16", want: "10.244.0.0/16"},
	} {
		s := self
		if tt.told != "" {
			s.Cluster = []netip.Prefix{netip.MustParsePrefix("fd01::/48"), netip.MustParsePrefix(tt.told)}
		}
		routes, _ := Routes(tt.nodes, s)
		got, err := Cluster(tt.nodes, s, routes)
		if tt.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fault) || !strings.Contains(err.Error(), "--cluster-cidr") {
				t.Errorf("Cluster = %v, %v, want a fault with %q", got, err, tt.fault)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("Cluster = %v, %v, want %s", got, err, tt.want)
		}
	}
}

// TestOthersRouteToUs: what one node publishes is what another one reads.
func TestOthersRouteToUs(t *testing.T) {
	n := node("a", 1, "192.0.2.1", "10.244.2.0/24", "fd01:0:0:2::/64")
	n.Annotations = Annotations([]netip.Addr{netip.MustParseAddr("198.51.100.12"), netip.MustParseAddr("2001:db8::12")})
	routes, problems := Routes([]*corev1.Node{n}, self)
	if len(routes) != 2 || len(problems) > 0 || routes[0].Gateway.String() != "198.51.100.12" || routes[1].Gateway.String() != "2001:db8::12" {
		t.Errorf("routes %v, problems %v", routes, problems)
	}
	Lean(n)
	if again, _ := Routes([]*corev1.Node{n}, self); len(again) != 2 || again[1] != routes[1] {
		t.Errorf("a lean node has the routes %v", again)
	}
	if _, ok := Annotations([]netip.Addr{netip.MustParseAddr("198.51.100.12")})[flannelPublicIPv6]; ok {
		t.Error("an IPv4 node has an IPv6 annotation")
	}
}
