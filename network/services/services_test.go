package services_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/network/services"
)

var addr = netip.MustParseAddr

func newService(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", CreationTimestamp: metav1.Unix(100, 0)},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}}},
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

// newSlice returns a slice of web with ready endpoints on node n1.
func newSlice(name string, at ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}},
	}
	for _, a := range at {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}, NodeName: new("n1")})
	}
	return s
}

func TestTranslate(t *testing.T) {
	full := newService(func(s *corev1.Service) {
		s.Spec.Type, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, 31000
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "fd00:96::1")
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.ExternalIPs = []string{"203.0.113.8"}
		s.Spec.LoadBalancerSourceRanges = []string{" 192.0.2.7/24 ", "nonsense"}
		s.Spec.Ports[0].NodePort = 30080
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}, corev1.ServicePort{Name: "sctp", Protocol: corev1.ProtocolSCTP, Port: 9})
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.7"}, {Hostname: "lb.example"},
			{IP: "203.0.113.9", IPMode: new(corev1.LoadBalancerIPModeProxy)}, {IP: "203.0.113.10", IPMode: new(corev1.LoadBalancerIPModeVIP)}}
	})
	hinted := newSlice("web-1", "10.244.1.5", "10.244.1.6")
	hinted.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "za"}}, ForNodes: []discoveryv1.ForNode{{Name: "n1"}}}
	hinted.Endpoints[1].Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	dns := newSlice("web-2", "10.244.1.7", "not an address")
	dns.Ports = []discoveryv1.EndpointPort{{Name: new("dns"), Protocol: new(corev1.ProtocolUDP), Port: new(int32(1053))}, {Name: new("http"), Protocol: new(corev1.ProtocolUDP), Port: new(int32(1))},
		{Name: new("http"), Protocol: new(corev1.ProtocolTCP)}, {Protocol: new(corev1.ProtocolTCP), Port: new(int32(1))}}
	fqdn := newSlice("web-3", "10.244.1.8")
	fqdn.AddressType = discoveryv1.AddressTypeFQDN

	got, ok := services.Translate(full, []discoveryv1.EndpointSlice{*hinted, *dns, *fqdn})
	want := ipnat.Service{Name: "default/web", Created: time.Unix(100, 0), ClusterIPs: []netip.Addr{addr("10.96.0.1"), addr("fd00:96::1")},
		HealthPort: 31000, Affinity: true, InternalLocal: true, ExternalLocal: true, ExternalIPs: []netip.Addr{addr("203.0.113.8")},
		LoadBalancerIPs: []netip.Addr{addr("203.0.113.7"), addr("203.0.113.10")}, SourceRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Ports: []ipnat.Port{
			{Name: "http", Protocol: ipnat.TCP, Port: 80, NodePort: 30080, Endpoints: []ipnat.Endpoint{
				{Addr: addr("10.244.1.5"), Port: 8080, Node: "n1", Ready: true, Serving: true, ForZones: []string{"za"}, ForNodes: []string{"n1"}},
				{Addr: addr("10.244.1.6"), Port: 8080, Node: "n1", Serving: true, Terminating: true}}},
			{Name: "dns", Protocol: ipnat.UDP, Port: 53, Endpoints: []ipnat.Endpoint{{Addr: addr("10.244.1.7"), Port: 1053, Node: "n1", Ready: true, Serving: true}}},
			{Name: "sctp", Protocol: ipnat.SCTP, Port: 9},
		}}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("Translate = %+v, %v\nwant %+v", got, ok, want)
	}
}

func TestServicesWithoutRules(t *testing.T) {
	for name, edit := range map[string]func(*corev1.Service){
		"headless":          func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} },
		"external name":     func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName },
		"no address yet":    func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil },
		"labelled headless": func(s *corev1.Service) { s.Labels = map[string]string{corev1.IsHeadlessService: ""} },
		"other proxy": func(s *corev1.Service) {
			s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "mine"}
		},
	} {
		if got, ok := services.Translate(newService(edit), []discoveryv1.EndpointSlice{*newSlice("web-1", "10.244.1.5")}); ok || got.Name != "default/web" {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
}

// TestPolicyOfServicesForInside takes an external traffic policy that nobody
// outside can meet.
func TestPolicyOfServicesForInside(t *testing.T) {
	local := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	for _, tt := range []struct {
		name string
		edit func(*corev1.Service)
		want bool
	}{
		{"inside only", func(*corev1.Service) {}, false},
		{"external address", func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"203.0.113.8"} }, true},
		{"node port", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, true},
	} {
		if got, _ := services.Translate(newService(local, tt.edit), nil); got.ExternalLocal != tt.want {
			t.Errorf("%s: local %v", tt.name, got.ExternalLocal)
		}
	}
}
