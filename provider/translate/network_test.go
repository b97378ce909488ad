package translate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestBandwidth(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		want    int64
		fault   string
	}{
		{"", "", 0, ""},
		{"10M", "10M", 10_000_000, ""},
		{"10M", "10000k", 10_000_000, ""},
		{"1200k", "1200k", 1_200_000, ""},
		{"1Mi", "1Mi", 0, "limits from 1200000"}, // 1048576
		{"1G", "", 0, EgressBandwidth + " is missing"},
		{"", "1G", 0, IngressBandwidth + " is missing"},
		{"1G", "2G", 0, "differ"},
		{"-1", "-1", 0, "limits from"},
		{"fast", "fast", 0, `"fast"`},
		{"1E", "1E", 0, "limits from"},
	} {
		p := pod()
		for name, v := range map[string]string{IngressBandwidth: tt.in, EgressBandwidth: tt.out} {
			if v != "" {
				p.Annotations[name] = v
			}
		}
		got, err := Bandwidth(p)
		if got != tt.want || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%q, %q: %d, %v", tt.in, tt.out, got, err)
		}
		r := Admit(p, node())
		if (r != nil) != (tt.fault != "") || r != nil && !strings.Contains(r.Message, tt.fault) {
			t.Errorf("%q, %q: Admit = %+v", tt.in, tt.out, r)
		}
	}
}

func TestHostPorts(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	p := pod()
	p.Spec.InitContainers = []corev1.Container{
		{Name: "init", Ports: []corev1.ContainerPort{{ContainerPort: 1, HostPort: 1}}},
		{Name: "side", RestartPolicy: &always, Ports: []corev1.ContainerPort{{ContainerPort: 53, HostPort: 5353, Protocol: corev1.ProtocolUDP}}},
	}
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{
		{ContainerPort: 80, HostPort: 8080}, {ContainerPort: 81}, {ContainerPort: 82, HostPort: 8082, HostIP: "198.51.100.12"},
	}
	n := node()
	n.HostIPs = append(n.HostIPs, netip.MustParseAddr("fd00::11"), netip.MustParseAddr("198.51.100.12"))
	var got []string
	for _, h := range HostPorts(p, []netip.Addr{netip.MustParseAddr("fd01::9"), netip.MustParseAddr("10.244.1.9")}, n) {
		got = append(got, fmt.Sprintf("%s %s %s", h.Protocol, h.Host, h.Pod))
	}
	want := []string{
		"udp 198.51.100.11:5353 10.244.1.9:53", "udp 198.51.100.12:5353 10.244.1.9:53",
		"tcp 198.51.100.11:8080 10.244.1.9:80", "tcp 198.51.100.12:8080 10.244.1.9:80", "tcp 198.51.100.12:8082 10.244.1.9:82",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("HostPorts:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r := Admit(p, n); r != nil {
		t.Errorf("Admit = %+v", r)
	}
	if HostPorts(p, []netip.Addr{netip.MustParseAddr("fd01::9")}, n) != nil || HasHostPorts(pod()) {
		t.Error("host ports where there are none")
	}
}

func TestAdmitHostPorts(t *testing.T) {
	for want, port := range map[string]corev1.ContainerPort{
		"SCTP":                       {HostPort: 80, Protocol: corev1.ProtocolSCTP},
		`hostIP "127.0.0.1"`:         {HostPort: 80, HostIP: "127.0.0.1"},
		`hostIP "198.51.100.99"`:     {HostPort: 80, HostIP: "198.51.100.99"},
		`hostIP "::"`:                {HostPort: 80, HostIP: "::"},
		"the node itself is reached": {HostPort: 10250},
	} {
		p, n := pod(), node()
		n.KubeletPort = 10250
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{port}
		if r := Admit(p, n); r == nil || r.Reason != ReasonUnsupported || !strings.Contains(r.Message, want) {
			t.Errorf("%s: %+v", want, r)
		}
	}
}

func TestPortsOverlap(t *testing.T) {
	with := func(port corev1.ContainerPort) *corev1.Pod {
		p := pod()
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{port}
		return p
	}
	for _, tt := range []struct {
		a, b corev1.ContainerPort
		want bool
	}{
		{corev1.ContainerPort{HostPort: 80}, corev1.ContainerPort{HostPort: 80, Protocol: corev1.ProtocolTCP}, true},
		{corev1.ContainerPort{HostPort: 80}, corev1.ContainerPort{HostPort: 80, Protocol: corev1.ProtocolUDP}, false},
		{corev1.ContainerPort{HostPort: 80}, corev1.ContainerPort{HostPort: 81}, false},
		{corev1.ContainerPort{HostPort: 80, HostIP: "192.0.2.1"}, corev1.ContainerPort{HostPort: 80, HostIP: "192.0.2.2"}, false},
		{corev1.ContainerPort{HostPort: 80, HostIP: "192.0.2.1"}, corev1.ContainerPort{HostPort: 80}, true},
		{corev1.ContainerPort{ContainerPort: 80}, corev1.ContainerPort{ContainerPort: 80}, false},
	} {
		if got := PortsOverlap(with(tt.a), with(tt.b)); got != tt.want {
			t.Errorf("%v and %v: %v", tt.a, tt.b, got)
		}
	}
}

// TestDNSLimits gives what the kubelet's own tests of pkg/kubelet/network/dns
// are about: what is too much is cut, and an event says so.
func TestDNSLimits(t *testing.T) {
	long := strings.Repeat("a", 254)
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprintf("s%d.example", i)
	}
	wide := make([]string, 12)
	for i := range wide {
		wide[i] = fmt.Sprintf("%d%s", i, strings.Repeat("b", 240))
	}
	for _, tt := range []struct {
		name            string
		config          corev1.PodDNSConfig
		servers, search int
		note            string
	}{
		{"fits", corev1.PodDNSConfig{Nameservers: []string{"192.0.2.2", "192.0.2.3"}, Searches: many[:28]}, 3, 32, ""},
		{"servers", corev1.PodDNSConfig{Nameservers: []string{"192.0.2.2", "10.96.0.10", "192.0.2.3", "192.0.2.4"}}, 3, 4,
			"Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 10.96.0.10 192.0.2.2 192.0.2.3"},
		{"searches", corev1.PodDNSConfig{Searches: many}, 1, 32, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: shop.svc.cluster.local"},
		{"a long one", corev1.PodDNSConfig{Searches: []string{long, "x.example"}}, 1, 5, "Search Line limits"},
		{"a long line", corev1.PodDNSConfig{Searches: wide}, 1, 12, "Search Line limits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Spec.DNSConfig = &tt.config
			r, notes := ResolvConf(p, node())
			if len(r.Nameservers) != tt.servers || len(r.Searches) != tt.search || len(strings.Join(r.Searches, " ")) > maxSearchLine {
				t.Errorf("%d name servers, %d search domains", len(r.Nameservers), len(r.Searches))
			}
			if tt.note == "" && len(notes) > 0 {
				t.Errorf("notes %q", notes)
			}
			if tt.note != "" && (len(notes) != 1 || notes[0].Reason != "DNSConfigForming" || !strings.Contains(notes[0].Message, tt.note)) {
				t.Errorf("notes %q, want %q", notes, tt.note)
			}
		})
	}
}

func TestDNSOfHostNetwork(t *testing.T) {
	for policy, want := range map[corev1.DNSPolicy]string{
		corev1.DNSClusterFirst: "nameserver 192.0.2.1", corev1.DNSDefault: "nameserver 192.0.2.1", corev1.DNSClusterFirstWithHostNet: "nameserver 10.96.0.10",
	} {
		p := pod()
		p.Spec.HostNetwork, p.Spec.DNSPolicy = true, policy
		if r, notes := ResolvConf(p, node()); !strings.HasPrefix(r.String(), want+"\n") || len(notes) > 0 {
			t.Errorf("%s: %q, %v", policy, r, notes)
		}
	}
}

func TestDNSOptions(t *testing.T) {
	value := func(s string) *string { return &s }
	p := pod()
	p.Spec.DNSPolicy = corev1.DNSDefault
	p.Spec.DNSConfig = &corev1.PodDNSConfig{Options: []corev1.PodDNSConfigOption{
		{Name: "ndots", Value: value("3")}, {Name: "rotate"}, {Name: "edns0", Value: value("")},
	}}
	n := node()
	n.Resolver = ParseResolver("# search no\nsearch old.example\nsearch a.example. . b.example\noptions timeout:1 ndots:9\noptions timeout:2\nnameserver\nnameserver 192.0.2.1\n")
	r, _ := ResolvConf(p, n)
	if got, want := r.String(), "nameserver 192.0.2.1\nsearch a.example b.example\noptions timeout:2 ndots:3 rotate edns0\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

type dnsServices struct{ ips []string }

func (s dnsServices) Services(namespace string) ([]*corev1.Service, error) {
	if namespace != "kube-system" || s.ips == nil {
		return nil, nil
	}
	return []*corev1.Service{
		{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.9"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "kube-dns"}, Spec: corev1.ServiceSpec{ClusterIPs: s.ips}},
	}, nil
}

func TestClusterDNSIsDiscovered(t *testing.T) {
	for _, tt := range []struct {
		ips  []string
		want string
		note string
	}{
		{[]string{"10.96.0.10"}, "nameserver 10.96.0.10\n", ""},
		{[]string{"10.96.0.10", "fd00::a"}, "nameserver 10.96.0.10\nnameserver fd00::a\n", ""},
		{[]string{"None"}, "nameserver 192.0.2.1\nsearch example.org\n", "MissingClusterDNS"},
		{nil, "nameserver 192.0.2.1\nsearch example.org\n", "MissingClusterDNS"},
	} {
		in := input(pod())
		in.Node.ClusterDNS, in.Services = nil, dnsServices{tt.ips}
		files, notes, err := SpecFiles(in)
		if err != nil || !strings.HasPrefix(string(files["resolv.conf"]), tt.want) {
			t.Errorf("%v: %q, %v", tt.ips, files["resolv.conf"], err)
		}
		if (tt.note == "") != (len(notes) == 0) || len(notes) > 0 && notes[0].Reason != tt.note {
			t.Errorf("%v: notes %q", tt.ips, notes)
		}
	}
	in := input(pod())
	in.Services = dnsServices{[]string{"10.96.0.10"}}
	in.Node.ClusterDNS = []netip.Addr{netip.MustParseAddr("169.254.20.10")} // told by a flag
	if files, _, err := SpecFiles(in); err != nil || !strings.HasPrefix(string(files["resolv.conf"]), "nameserver 169.254.20.10\n") {
		t.Errorf("%q, %v", files["resolv.conf"], err)
	}
}

// TestDualStack: both families are in the zone, each with its router.
func TestDualStack(t *testing.T) {
	in := input(pod())
	in.Addresses = append(in.Addresses, netip.MustParsePrefix("fd01::9/64"))
	in.Gateways = append(in.Gateways, netip.MustParseAddr("fd01::1"))
	c := Zone(in, Datasets{ZonePath: "/p"})
	l := c.Links[0]
	if len(l.Addresses) != 2 || l.Router.String() != "10.244.1.1" || l.Router6.String() != "fd01::1" {
		t.Errorf("link %+v", l)
	}
	if !strings.Contains(hosts(in), "10.244.1.9\tweb-0\nfd01::9\tweb-0\n") {
		t.Errorf("hosts file %q", hosts(in))
	}
}
