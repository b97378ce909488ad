package services

import (
	"fmt"
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
	lean := leaner{since: time.Now()}.lean
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&corev1.Service{}:            {Label: Selector(), Transform: lean, UnsafeDisableDeepCopy: &shared},
		&discoveryv1.EndpointSlice{}: {Label: Selector(), Transform: lean, UnsafeDisableDeepCopy: &shared},
		&corev1.Node{}:               {Field: fields.OneTermEqualSelector(metav1.ObjectNameField, node), Transform: lean, UnsafeDisableDeepCopy: &shared},
		&networkingv1.ServiceCIDR{}:  {Transform: lean, UnsafeDisableDeepCopy: &shared},
	}}
}

// leaner keeps of an EndpointSlice's annotations only when it was changed, and
// that only after this program's start: nothing is measured before.
type leaner struct{ since time.Time }

// lean makes a new object of what rules depend on. The one that it is given may
// share memory with thousands of others, all read from one answer.
func (l leaner) lean(o any) (any, error) {
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

func (l leaner) slice(o *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: leanMeta(&o.ObjectMeta), AddressType: discoveryv1.AddressType(same(string(o.AddressType)))}
	if name, ok := o.Labels[discoveryv1.LabelServiceName]; ok {
		out.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	}
	at := o.Annotations[corev1.EndpointsLastChangeTriggerTime]
	if when, err := time.Parse(time.RFC3339Nano, at); err == nil && !when.Before(l.since) {
		out.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at}
	}
	for _, p := range o.Ports {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: samePointer(p.Name), Protocol: samePointer(p.Protocol), Port: p.Port})
	}
	out.Endpoints = make([]discoveryv1.Endpoint, 0, len(o.Endpoints))
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: e.Addresses[:min(1, len(e.Addresses))], NodeName: samePointer(e.NodeName), Hints: e.Hints,
			Conditions: discoveryv1.EndpointConditions{Ready: shared(e.Conditions.Ready), Serving: shared(e.Conditions.Serving), Terminating: shared(e.Conditions.Terminating)}})
	}
	return out
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
