package translate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/provider/ledger"
)

// hostTools is a host pod that a node with hostNode's settings admits.
func hostTools() *corev1.Pod {
	class := HostClass
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "tools", Namespace: "kube-system", UID: "0b7a"},
		Spec: corev1.PodSpec{
			RuntimeClassName: &class, HostNetwork: true,
			Containers: []corev1.Container{{Name: "main", Command: []string{"/tool"}}},
			Volumes:    []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
}

func hostNode() Node {
	return Node{
		Brands: []string{BrandLX}, HostNamespaces: []string{"kube-system"}, HostPath: "/usr/sbin:/usr/bin",
		HostIPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, APIServer: "192.0.2.1:6443",
	}
}

func TestAdmitHostPod(t *testing.T) {
	for _, tt := range []struct {
		name   string
		edit   func(*corev1.Pod)
		reason string // empty: admitted
		says   string
	}{
		{"allowed", func(*corev1.Pod) {}, "", ""},
		{"another namespace", func(p *corev1.Pod) { p.Namespace = "default" }, ReasonHostPod, "--host-pod-namespaces"},
		{"no host network", func(p *corev1.Pod) { p.Spec.HostNetwork = false }, ReasonUnsupported, "hostNetwork: true"},
		{"host network without the class", func(p *corev1.Pod) { p.Spec.RuntimeClassName = nil }, ReasonUnsupported, HostClass},
		{"a limit", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
		}, ReasonUnsupported, "nothing enforces limits"},
		{"memory as a file system", func(p *corev1.Pod) { p.Spec.Volumes[0].EmptyDir.Medium = corev1.StorageMediumMemory }, ReasonUnsupported, "in memory"},
		{"another brand", func(p *corev1.Pod) { p.Annotations = map[string]string{BrandAnnotation: BrandLX} }, ReasonBrand, "contradict"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := hostTools()
			tt.edit(pod)
			r := Admit(pod, hostNode())
			switch {
			case r == nil && tt.reason != "":
				t.Error("it was admitted")
			case r != nil && (r.Reason != tt.reason || !strings.Contains(r.Message, tt.says)):
				t.Errorf("refused by %s: %s", r.Reason, r.Message)
			}
		})
	}
}

func TestHostPodHasNoZone(t *testing.T) {
	pod := hostTools()
	in := Input{Pod: pod, Node: hostNode(), Brand: BrandHost}
	c := Zone(in, Datasets{ZonePath: "/p/0b7a", Containers: map[string]string{"main": "pool/c-main"}})
	if len(c.Links) > 0 || c.Brand != BrandHost {
		t.Errorf("links %v, brand %s", c.Links, c.Brand)
	}
	var targets []string
	for _, m := range c.Mounts {
		targets = append(targets, m.Target)
	}
	if want := []string{"/c/main", "/v/data"}; !slices.Equal(targets, want) {
		t.Errorf("mounts at %v, want %v", targets, want)
	}
	s := Status(Observed{Pod: pod, Node: hostNode(), State: ledger.State{UID: "0b7a"}})
	if s.PodIP != "192.0.2.7" || len(s.PodIPs) != 1 {
		t.Errorf("podIP %q, podIPs %v", s.PodIP, s.PodIPs)
	}
}

// apiService is a cluster with no ConfigMaps, Secrets and Services but the API
// server's own.
type apiService struct{ Objects }

func (apiService) Services(string) ([]*corev1.Service, error) {
	return []*corev1.Service{{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}}},
	}}, nil
}

// The API server's ClusterIP cannot be reached from the global zone.
func TestHostPodFindsTheAPIServer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		env   []corev1.EnvVar
		image []string
		want  []string
	}{
		{"as the host does", nil, nil, []string{"KUBERNETES_SERVICE_HOST=192.0.2.1", "KUBERNETES_SERVICE_PORT=6443", "PATH=/usr/sbin:/usr/bin"}},
		{"as it says itself", []corev1.EnvVar{{Name: "KUBERNETES_SERVICE_HOST", Value: "api.example"}}, []string{"PATH=/tools"},
			[]string{"KUBERNETES_SERVICE_HOST=api.example", "KUBERNETES_SERVICE_PORT=6443", "PATH=/tools"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := hostTools()
			c := &pod.Spec.Containers[0]
			c.Env = tt.env
			in := Input{Pod: pod, Node: hostNode(), Brand: BrandHost, Services: apiService{}, Objects: apiService{},
				Images: map[string]*ledger.Image{"main": {Env: tt.image}}}
			got, err := Container(in, c)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range tt.want {
				if !slices.Contains(got.Env, w) {
					t.Errorf("no %s in %q", w, got.Env)
				}
			}
		})
	}
}
