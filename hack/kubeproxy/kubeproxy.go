// Package kubeproxy holds the reference that our Services are compared with:
// kube-proxy's own nftables proxier, from its Go module, given the same objects.
// A module of its own keeps Kubernetes out of the main one.
//
// Its one surprising rule: it needs root and a network namespace of its own,
// because the proxier looks at the host that it is on before it starts. The
// rules that it makes go to knftables' fake.
package kubeproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"time"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/proxy/apis/config"
	"k8s.io/kubernetes/pkg/proxy/nftables"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	"sigs.k8s.io/knftables"
)

// Node is what kube-proxy is told of its host for one family.
type Node struct {
	Name string
	Zone string
	Host netip.Addr   // NodePorts are there
	Pods netip.Prefix // this node's pods
}

// Proxier is kube-proxy for one family.
type Proxier struct {
	node   Node
	family corev1.IPFamily
	p      *nftables.Proxier
	fake   *knftables.Fake // nil if the kernel gets the rules
	synced bool
}

// NewProxier returns a kube-proxy that gives its rules to the kernel.
func NewProxier(ctx context.Context, n Node) (*Proxier, error) {
	bit, family := int32(14), corev1.IPv4Protocol
	if n.Host.Is6() {
		family = corev1.IPv6Protocol
	}
	c := &config.KubeProxyConfiguration{
		SyncPeriod:    metav1.Duration{Duration: 30 * time.Second},
		MinSyncPeriod: metav1.Duration{Duration: time.Second},
		NFTables:      config.KubeProxyNFTablesConfiguration{MasqueradeBit: &bit},
		// What the default of kube-proxy in this mode, "primary", is made of.
		NodePortAddresses: []string{netip.PrefixFrom(n.Host, n.Host.BitLen()).String()},
	}
	// A node's own pods are local, so that a pod of another node is a client like
	// any other: the same that our rules go by.
	local := proxyutil.NewDetectLocalByCIDR(n.Pods.String())
	p, err := nftables.NewProxier(ctx, c, family, local, n.Name, net.IP(n.Host.AsSlice()), nil, nil, false)
	if err != nil {
		return nil, fmt.Errorf("kube-proxy: %w", err)
	}
	x := &Proxier{node: n, family: family, p: p}
	x.topology()
	return x, nil
}

func (x *Proxier) topology() {
	x.p.OnTopologyChange(map[string]string{corev1.LabelTopologyZone: x.node.Zone})
}

// Fake has the proxier begin anew with a kernel that has nothing and is not
// one. Its interface is a field that only its own tests can set; this is the
// one place that does it for them.
func (x *Proxier) Fake() {
	family := knftables.IPv4Family
	if x.family == corev1.IPv6Protocol {
		family = knftables.IPv6Family
	}
	x.fake = knftables.NewFake(family, "kube-proxy")
	field := reflect.ValueOf(x.p).Elem().FieldByName("nftables")
	reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().Set(reflect.ValueOf(x.fake))
	x.topology() // which asks for a full sync
}

// Objects are what the cluster tells.
type Objects struct {
	Services []*corev1.Service
	Slices   []*discoveryv1.EndpointSlice
}

// Add gives the objects to the proxier as its watches would.
func (x *Proxier) Add(o Objects) {
	for _, s := range o.Services {
		if watched(s) {
			x.p.OnServiceAdd(s)
		}
	}
	for _, s := range o.Slices {
		if watched(s) {
			x.p.OnEndpointSliceAdd(s)
		}
	}
}

// Delete takes them away again.
func (x *Proxier) Delete(o Objects) {
	for _, s := range o.Services {
		x.p.OnServiceDelete(s)
	}
	for _, s := range o.Slices {
		x.p.OnEndpointSliceDelete(s)
	}
}

// Change replaces an EndpointSlice.
func (x *Proxier) Change(before, after *discoveryv1.EndpointSlice) {
	x.p.OnEndpointSliceUpdate(before, after)
}

// watched says whether kube-proxy's watches see an object: they have selectors,
// made in its main program.
func watched(o metav1.Object) bool {
	_, other := o.GetLabels()["service.kubernetes.io/service-proxy-name"]
	_, headless := o.GetLabels()[corev1.IsHeadlessService]
	return !other && !headless
}

// Sync makes the rules, and waits for it.
func (x *Proxier) Sync() {
	if !x.synced {
		x.synced = true
		x.p.OnEndpointSlicesSynced() // which does nothing before both are
	}
	x.p.OnServiceSynced()
}
