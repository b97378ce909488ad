package translate

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/zones/podinit"
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
		want  podinit.Signal
	}{
		{nil, "", "SIGTERM"},
		{nil, "SIGINT", "SIGINT"},
		{nil, "usr1", "SIGUSR1"},
		{nil, "10", "10"},
		{nil, "SIG NONSENSE", "SIGTERM"},
		{&corev1.Lifecycle{}, "SIGINT", "SIGINT"},
		{&corev1.Lifecycle{StopSignal: new(corev1.SIGUSR1)}, "SIGINT", "SIGUSR1"},
		{&corev1.Lifecycle{StopSignal: new(corev1.SIGCLD)}, "", "SIGCLD"},
		{&corev1.Lifecycle{StopSignal: new(corev1.SIGRTMAXMINUS14)}, "", "SIGRTMAX-14"},
	} {
		c := &corev1.Container{Lifecycle: tt.pod}
		if got := StopSignal(c, &ledger.Image{StopSignal: tt.image}); got != tt.want {
			t.Errorf("%+v on %q: %q, want %q", tt.pod, tt.image, got, tt.want)
		}
	}
	if got := StopSignal(nil, nil); got != "SIGTERM" {
		t.Errorf("without a container and an image: %q", got)
	}
}

// TestStopSignalStatus: a kubelet tells of stop signals where the cluster has the
// feature, which shows in a pod that names one.
func TestStopSignalStatus(t *testing.T) {
	for _, tt := range []struct {
		name, image string
		own, others *corev1.Signal
		want        corev1.Signal
	}{
		{"no pod's", "SIGUSR1", nil, nil, ""},
		{"its own", "SIGUSR1", new(corev1.SIGINT), nil, corev1.SIGINT},
		{"another container's, and the image's", "SIGUSR1", nil, new(corev1.SIGINT), corev1.SIGUSR1},
		{"another container's, and none", "", nil, new(corev1.SIGINT), corev1.SIGTERM},
		{"a number of the image", "10", nil, new(corev1.SIGINT), ""},
	} {
		p := pod()
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other", Lifecycle: &corev1.Lifecycle{StopSignal: tt.others}})
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: tt.own}
		name := p.Spec.Containers[0].Name
		st := ledger.State{Containers: []ledger.Container{
			{Name: name, Phase: podinit.Running, Image: &ledger.Image{StopSignal: tt.image}, StartedAt: time.Unix(1e9, 0)},
			{Name: "other", Phase: podinit.Waiting},
		}}
		all := Status(Observed{Pod: p, State: st, Now: time.Unix(1e9, 0)}).ContainerStatuses
		var got corev1.Signal
		if s := all[0].StopSignal; s != nil {
			got = *s
		}
		if all[0].Name != name || got != tt.want {
			t.Errorf("%s: container %s has %q, want %q", tt.name, all[0].Name, got, tt.want)
		}
		if s := all[1].StopSignal; s != nil {
			t.Errorf("%s: a container that was never made has %q", tt.name, *s)
		}
	}
}
