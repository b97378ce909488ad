package translate

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
)

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name               string
		edit               func(*corev1.PodSpec)
		host, fqdn, kernel string
	}{
		{"plain", func(*corev1.PodSpec) {}, "web-0", "", "web-0"},
		{"hostname", func(s *corev1.PodSpec) { s.Hostname = "box" }, "box", "", "box"},
		{"subdomain", func(s *corev1.PodSpec) { s.Subdomain = "db" }, "web-0", "web-0.db.shop.svc.cluster.local", "web-0"},
		{"both", func(s *corev1.PodSpec) { s.Hostname, s.Subdomain = "box", "db" }, "box", "box.db.shop.svc.cluster.local", "box"},
		{"as FQDN", func(s *corev1.PodSpec) { s.Hostname, s.Subdomain, s.SetHostnameAsFQDN = "box", "db", new(true) },
			"box", "box.db.shop.svc.cluster.local", "box.db.shop.svc.cluster.local"},
		{"as FQDN without one", func(s *corev1.PodSpec) { s.SetHostnameAsFQDN = new(true) }, "web-0", "", "web-0"},
		{"override", func(s *corev1.PodSpec) {
			s.Hostname, s.Subdomain, s.HostnameOverride = "box", "db", new("other.example")
		},
			"other.example", "", "other.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			tt.edit(&p.Spec)
			if got := Hostname(p); got != tt.host {
				t.Errorf("Hostname = %q, want %q", got, tt.host)
			}
			if got := FQDN(p, node()); got != tt.fqdn {
				t.Errorf("FQDN = %q, want %q", got, tt.fqdn)
			}
			if got := kernelHostname(p, node()); got != tt.kernel {
				t.Errorf("the kernel's name is %q, want %q", got, tt.kernel)
			}
			files, _, err := SpecFiles(input(p))
			if got := string(files[hostnameFile]); err != nil || got != tt.kernel+"\n" {
				t.Errorf("/etc/hostname is %q, %v", got, err)
			}
		})
	}
	p := pod()
	p.Spec.Subdomain, p.Spec.SetHostnameAsFQDN = strings.Repeat("d", 60), new(true)
	if r := Admit(p, node()); r == nil || !strings.Contains(r.Message, "setHostnameAsFQDN") {
		t.Errorf("a name that is too long: %v", r)
	}
}

func TestStopSignal(t *testing.T) {
	for _, tt := range []struct {
		pod   *corev1.Lifecycle
		image string
		want  string
	}{
		{nil, "", ""}, // podinit's default
		{nil, "SIGINT", "SIGINT"},
		{&corev1.Lifecycle{}, "SIGINT", "SIGINT"},
		{&corev1.Lifecycle{StopSignal: new(corev1.SIGUSR1)}, "SIGINT", "SIGUSR1"},
	} {
		c := &corev1.Container{Lifecycle: tt.pod}
		if got := stopSignal(c, &ledger.Image{StopSignal: tt.image}); got != tt.want {
			t.Errorf("%+v on %q: %q, want %q", tt.pod, tt.image, got, tt.want)
		}
	}
}
