package services

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Cache returns what a manager's cache must hold for [Proxy.SetupWithManager]
// on this node, and no more: 10 000 Services are most of the program's memory.
// Nobody changes what it reads from it, so nothing is copied.
func Cache(node string) cache.Options {
	shared := true
	l := &leaner{since: time.Now(), ports: map[string][]discoveryv1.EndpointPort{}, nodes: map[string]*string{}}
	lean := l.lean
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&corev1.Service{}:            {Label: Selector(), Transform: lean, UnsafeDisableDeepCopy: &shared},
		&discoveryv1.EndpointSlice{}: {Label: Selector(), Transform: lean, UnsafeDisableDeepCopy: &shared},
		&corev1.Node{}:               {Field: fields.OneTermEqualSelector(metav1.ObjectNameField, node), Transform: lean, UnsafeDisableDeepCopy: &shared},
		&networkingv1.ServiceCIDR{}:  {Transform: lean, UnsafeDisableDeepCopy: &shared},
	}}
}

// leaner keeps of an EndpointSlice's annotations only when it was changed, and
// that only after this program's start: nothing is measured before.
type leaner struct {
	since time.Time

	// What many EndpointSlices have alike. A cluster has few nodes and few kinds
	// of ports; what has gone is kept.
	mu    sync.Mutex
	ports map[string][]discoveryv1.EndpointPort
	nodes map[string]*string
}

// lean makes a new object of what rules depend on. The one that it is given may
// share memory with thousands of others, all read from one answer.
func (l *leaner) lean(o any) (any, error) {
	switch o := o.(type) {
	case *corev1.Service:
		return leanService(o), nil
	case *discoveryv1.EndpointSlice:
		return l.slice(o), nil
	case *corev1.Node:
		out := &corev1.Node{ObjectMeta: leanMeta(&o.ObjectMeta)}
		if zone, ok := o.Labels[corev1.LabelTopologyZone]; ok {
			out.Labels = map[string]string{corev1.LabelTopologyZone: zone}
		}
		out.Spec.PodCIDRs, out.Status.Addresses = o.Spec.PodCIDRs, o.Status.Addresses
		return out, nil
	case *networkingv1.ServiceCIDR:
		return &networkingv1.ServiceCIDR{ObjectMeta: leanMeta(&o.ObjectMeta), Spec: o.Spec}, nil
	case metav1.Object:
		return nil, fmt.Errorf("services: nothing here reads a %T", o)
	}
	return o, nil // what the cache has lost sight of
}

// same returns one copy of a string that many objects have.
func same(s string) string { return unique.Make(s).Value() }

func samePointer[S ~string](s *S) *S {
	if s == nil {
		return nil
	}
	p := S(same(string(*s)))
	return &p
}

func leanMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: same(m.Namespace), Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, CreationTimestamp: m.CreationTimestamp}
}

func leanService(o *corev1.Service) *corev1.Service {
	out := &corev1.Service{ObjectMeta: leanMeta(&o.ObjectMeta)}
	s := &o.Spec
	out.Spec = corev1.ServiceSpec{Type: corev1.ServiceType(same(string(s.Type))), ClusterIP: s.ClusterIP, ClusterIPs: s.ClusterIPs, ExternalIPs: s.ExternalIPs,
		SessionAffinity: corev1.ServiceAffinity(same(string(s.SessionAffinity))), LoadBalancerSourceRanges: s.LoadBalancerSourceRanges,
		InternalTrafficPolicy: samePointer(s.InternalTrafficPolicy), ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicy(same(string(s.ExternalTrafficPolicy))),
		HealthCheckNodePort: s.HealthCheckNodePort}
	if len(s.ClusterIPs) == 1 && s.ClusterIPs[0] == s.ClusterIP {
		out.Spec.ClusterIPs = nil // Translate takes the one
	}
	for _, p := range s.Ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: same(p.Name), Protocol: corev1.Protocol(same(string(p.Protocol))), Port: p.Port, NodePort: p.NodePort})
	}
	out.Status.LoadBalancer.Ingress = o.Status.LoadBalancer.Ingress
	return out
}

// slice has no labels: a map for one label takes as much memory as all the rest.
// The name of its Service stands where nothing else does, see serviceOf.
func (l *leaner) slice(o *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := &discoveryv1.EndpointSlice{ObjectMeta: leanMeta(&o.ObjectMeta), AddressType: discoveryv1.AddressType(same(string(o.AddressType)))}
	out.UID, out.GenerateName = "", serviceOf(o) // it may have been here before
	at := o.Annotations[corev1.EndpointsLastChangeTriggerTime]
	if when, err := time.Parse(time.RFC3339Nano, at); err == nil && !when.Before(l.since) {
		out.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at}
	}
	out.Ports = l.samePorts(o.Ports)
	out.Endpoints = make([]discoveryv1.Endpoint, 0, len(o.Endpoints))
	texts := make([]string, 0, len(o.Endpoints)) // one piece of memory for all
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		from := len(texts)
		texts = append(texts, e.Addresses[:min(1, len(e.Addresses))]...)
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: texts[from:len(texts):len(texts)], NodeName: l.sameNode(e.NodeName), Hints: e.Hints,
			Conditions: discoveryv1.EndpointConditions{Ready: shared(e.Conditions.Ready), Serving: shared(e.Conditions.Serving), Terminating: shared(e.Conditions.Terminating)}})
	}
	return out
}

// serviceOf returns the name of the Service that an EndpointSlice is of, whether
// it comes from a [Cache] or not.
func serviceOf(o client.Object) string {
	if name := o.GetLabels()[discoveryv1.LabelServiceName]; name != "" {
		return name
	}
	return o.GetGenerateName()
}

func (l *leaner) samePorts(ports []discoveryv1.EndpointPort) []discoveryv1.EndpointPort {
	var key strings.Builder
	out := make([]discoveryv1.EndpointPort, 0, len(ports))
	for _, p := range ports {
		fmt.Fprintf(&key, "%q %q %d,", value(p.Name), value(p.Protocol), value(p.Port))
		if p.Name == nil || p.Protocol == nil || p.Port == nil {
			key.WriteString("?") // no API server's
		}
		out = append(out, discoveryv1.EndpointPort{Name: samePointer(p.Name), Protocol: samePointer(p.Protocol), Port: p.Port})
	}
	if known, ok := l.ports[key.String()]; ok && !strings.Contains(key.String(), "?") {
		return known
	}
	l.ports[key.String()] = out
	return out
}

func (l *leaner) sameNode(name *string) *string {
	if name == nil {
		return nil
	}
	known, ok := l.nodes[*name]
	if !ok {
		known = samePointer(name)
		l.nodes[*known] = known
	}
	return known
}

var yes, no = true, false //nolint:gochecknoglobals // they never change

// shared returns one of two pointers for all conditions.
func shared(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &yes
	}
	return &no
}
