package services_test

import (
	"net/netip"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/network/services"
	"reddwarf.io/reddwarf/zones/command"
)

var prefix = netip.MustParsePrefix

func newNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "za"}},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24", "fd00:244:0:1::/64"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.1"},
			{Type: corev1.NodeInternalIP, Address: "198.51.100.11"}, {Type: corev1.NodeInternalIP, Address: "198.51.100.12"}, {Type: corev1.NodeExternalIP, Address: "fd00:1::11"}}},
	}
}

func TestTranslateNode(t *testing.T) {
	s := services.Settings{Gateway: "rdwgw0", Uplink: "net0", Cluster: []netip.Prefix{prefix("10.244.0.0/16")}, Services: []netip.Prefix{prefix("10.96.0.0/16"), prefix("fd00:96::/112")}}
	got, err := services.TranslateNode(newNode(), s)
	want := services.Node{
		Node: ipnat.Node{Name: "n1", Zone: "za", Gateway: "rdwgw0", Uplink: "net0",
			IPv4: &ipnat.Networks{Pods: prefix("10.244.1.0/24"), Cluster: prefix("10.244.0.0/16"), Gateway: addr("10.244.1.1"), Host: addr("198.51.100.11")},
			IPv6: &ipnat.Networks{Pods: prefix("fd00:244:0:1::/64"), Gateway: addr("fd00:244:0:1::1"), Host: addr("fd00:1::11")}},
		Refuse: []ipnat.Refusal{{Network: prefix("10.96.0.0/16"), Interface: "rdwgw0", Gateway: addr("10.244.1.1")}, {Network: prefix("fd00:96::/112"), Interface: "rdwgw0", Gateway: addr("fd00:244:0:1::1")}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("TranslateNode = %+v, %v\nwant %+v", got, err, want)
	}
	s.Pods = []netip.Prefix{prefix("10.9.0.0/24")}
	if got, err = services.TranslateNode(newNode(), s); err != nil || got.IPv4.Pods != s.Pods[0] || got.IPv6 != nil || len(got.Refuse) != 1 {
		t.Errorf("with pods of the operator: %+v, %v", got, err)
	}
	s.Pods = nil
	for name, pods := range map[string][]string{"none yet": nil, "nonsense": {"ten"}, "two of a family": {"10.244.1.0/24", "10.244.2.0/24"}} {
		n := newNode()
		n.Spec.PodCIDRs = pods
		if got, err := services.TranslateNode(n, s); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestNodeComesLateAndMoves starts without a node, gives it a zone later, and
// takes a network of Services away.
func TestNodeComesLateAndMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hinted := newSlice("web-1", "10.244.1.5", "10.244.1.6")
		for i, zone := range []string{"za", "zb"} {
			hinted.Endpoints[i].Hints = endpointHints(zone)
		}
		c := newCluster(t, newService(), hinted)
		c.gateway()
		if _, err := c.host.Run(t.Context(), command.New("ipf", "-E")); err != nil {
			t.Fatal(err)
		}
		c.proxy = services.New(services.Config{Client: c.client, Loader: ipnat.NewLoader(c.host), Delay: time.Second, Period: time.Minute, Done: c.done})
		c.run(func() {
			time.Sleep(10 * time.Second)
			c.want("no node yet", "", 0)
			n := node()
			n.Refuse = []ipnat.Refusal{{Network: prefix("10.96.0.0/16"), Interface: "rdwgw0", Gateway: addr("10.244.1.1")}}
			set := func() {
				if err := c.proxy.SetNode(n); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * time.Second)
			}
			set()
			c.want("no zone", "10.244.1.5 10.244.1.6", 1)
			if !c.refused("10.96.0.9") {
				t.Error("cluster addresses are not refused")
			}
			set()
			c.want("told the same again", "10.244.1.5 10.244.1.6", 1)
			n.Zone = "zb"
			set()
			c.want("a zone", "10.244.1.6", 2)
			if o := c.outcomes()[1]; o.Removed != 1 || o.Added != 0 || o.Repair {
				t.Errorf("a zone changes %+v", o)
			}
			n.Refuse = nil
			set()
			if c.refused("10.96.0.9") {
				t.Error("a network of nobody's is still refused")
			}
			n.Gateway = "from"
			if err := c.proxy.SetNode(n); err == nil {
				t.Error("a node without a gateway is taken")
			}
			c.want("after a node that cannot be", "10.244.1.6", 3)
		})
	})
}
