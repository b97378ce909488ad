package translate

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/podinit"
)

const uid = "0b7f1f8e-6f5c-4b8e-9a53-0d0f6a1c2b3d"

func node() Node {
	return Node{
		Name: "host1", HostIPs: []netip.Addr{netip.MustParseAddr("198.51.100.11")},
		ClusterDNS: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, ClusterDomain: "cluster.local",
		Brands: []string{BrandLX, BrandNative}, Podinit: map[string]string{BrandLX: "/lx", BrandNative: "/native"},
		Resolver: Resolver{Nameservers: []string{"192.0.2.1"}, Searches: []string{"example.org"}},
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
		},
	}
}

func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-0", UID: uid, Generation: 2,
			Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "a\"b"},
		},
		Spec: corev1.PodSpec{
			NodeName: "host1", ServiceAccountName: "default", RestartPolicy: corev1.RestartPolicyAlways,
			Containers: []corev1.Container{{Name: "web", Image: "web:1"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable},
	}
}

func input(p *corev1.Pod) Input {
	in := Input{
		Pod: p, Node: node(), Brand: BrandLX, Slot: 3, Images: map[string]*ledger.Image{},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.1.9/24")}, Gateways: []netip.Addr{netip.MustParseAddr("10.244.1.1")},
		Objects: objects{}, Services: services{},
	}
	for _, c := range AllContainers(p) {
		in.Images[c.Name] = &ledger.Image{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"PATH=/bin", "FROM=image"}}
	}
	return in
}

type objects struct{}

func (objects) ConfigMap(_, name string) (*corev1.ConfigMap, error) {
	if name != "config" {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
	}
	return &corev1.ConfigMap{Data: map[string]string{"color": "red", "bad=name": "x", "a/b": "y"}, BinaryData: map[string][]byte{"bin": {0, 1}}}, nil
}

func (objects) Secret(_, name string) (*corev1.Secret, error) {
	if name != "secret" {
		return nil, errors.New("the API server does not answer")
	}
	return &corev1.Secret{Data: map[string][]byte{"key": []byte("s3cr3t\n")}}, nil
}

type services struct{}

func (services) Services(namespace string) ([]*corev1.Service, error) {
	service := func(name, ip string, port int32) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "https", Port: port}},
		}}
	}
	if namespace == "default" {
		return []*corev1.Service{service("kubernetes", "10.96.0.1", 443), service("other", "10.96.0.2", 80)}, nil
	}
	return []*corev1.Service{service("my-db", "10.96.0.7", 5432), service("headless", "None", 1)}, nil
}

func TestExpand(t *testing.T) {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "B": "$(A)", "": "empty"}[name]
		return v, ok
	}
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$(A)": "1", "x$(A)y$(A)": "x1y1", "$(B)": "$(A)", "$(C)": "$(C)",
		"$$(A)": "$(A)", "$$$(A)": "$1", "$A": "$A", "$": "$", "a$": "a$", "$(A": "$(A", "$(": "$(", "$()": "empty",
		"$(A)$": "1$", "ü$(A)\n;`'\"": "ü1\n;`'\"",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestEnvironmentArrivesVerbatim has every character that a shell, zonecfg or
// JSON could trip over.
func TestEnvironmentArrivesVerbatim(t *testing.T) {
	values := []string{
		"plain", "", " two words ", "line\nbreak\r\n", `"quoted" 'too' \ back`, "a;b&&c|d>e<f", "`id` ${x} $x", "*?[a]~#!",
		"grüße 世界 \u2028", "tab\tbell\a", "end\nadd device\nset match=/dev/rdsk/*", "=a=b=",
	}
	p := pod()
	for i, v := range values {
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: string(rune('A' + i)), Value: v})
	}
	spec, err := Spec(input(p), func(string) int { return 0 }, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if want := string(rune('A'+i)) + "=" + v; !slices.Contains(spec.Containers[0].Env, want) {
			t.Errorf("%q is not in the environment", want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	yes := true
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	res := func(r, div string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: r, Divisor: resource.MustParse(div)}}
	}
	p := pod()
	c := &p.Spec.Containers[0]
	c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100M")}
	c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}
	c.EnvFrom = []corev1.EnvFromSource{
		{Prefix: "CM_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}},
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: &yes}},
	}
	c.Env = []corev1.EnvVar{
		{Name: "NAME", ValueFrom: field("metadata.name")},
		{Name: "LABEL", ValueFrom: field("metadata.labels['app']")},
		{Name: "NOTE", ValueFrom: field("metadata.annotations['note']")},
		{Name: "IP", ValueFrom: field("status.podIP")},
		{Name: "IPS", ValueFrom: field("status.podIPs")},
		{Name: "HOST", ValueFrom: field("status.hostIP")},
		{Name: "UID", ValueFrom: field("metadata.uid")},
		{Name: "CPU", ValueFrom: res("requests.cpu", "1m")},
		{Name: "CPUS", ValueFrom: res("requests.cpu", "1")},
		{Name: "CAPACITY", ValueFrom: res("limits.cpu", "1")},
		{Name: "MEM", ValueFrom: res("limits.memory", "1Mi")},
		{Name: "SECRET", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "secret"}, Key: "key"}}},
		{Name: "ABSENT", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "secret"}, Key: "no", Optional: &yes}}},
		{Name: "URL", Value: "http://$(IP):$(MY_DB_SERVICE_PORT)/$(CM_color)/$(LATER)"},
		{Name: "LATER", Value: "x"},
		{Name: "FROM", Value: "pod"},
	}
	got, err := Container(input(p), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"NAME=web-0", "LABEL=web", "NOTE=a\"b", "IP=10.244.1.9", "IPS=10.244.1.9", "HOST=198.51.100.11", "UID=" + uid,
		"CPU=250", "CPUS=1", "CAPACITY=4", "MEM=96", "SECRET=s3cr3t\n", "URL=http://10.244.1.9:5432/red/$(LATER)", "FROM=pod",
		"CM_color=red", "PATH=/bin", "HOSTNAME=web-0", "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_PORT=tcp://10.96.0.1:443",
		"MY_DB_PORT_5432_TCP_ADDR=10.96.0.7", "MY_DB_SERVICE_PORT_HTTPS=5432",
	} {
		if !slices.Contains(got.Env, want) {
			t.Errorf("no %q in %q", want, got.Env)
		}
	}
	for _, kv := range got.Env {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains([]string{"ABSENT", "CM_bad", "OTHER_SERVICE_HOST", "HEADLESS_SERVICE_HOST"}, name) {
			t.Errorf("%q should not be there", kv)
		}
	}
}

func TestEnvironmentErrors(t *testing.T) {
	yes := true
	for name, edit := range map[string]func(*corev1.Container){
		"object": func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Key: "k"}}}}
		},
		"key": func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "config"}, Key: "k"}}}}
		},
		"optional, but not known to be absent": func(c *corev1.Container) {
			c.EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "unreachable"}, Optional: &yes}}}
		},
		"field": func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.phase"}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod()
			edit(&p.Spec.Containers[0])
			_, err := Container(input(p), &p.Spec.Containers[0])
			var ce *ConfigError
			if !errors.As(err, &ce) || ce.Container != "web" {
				t.Errorf("Container = %v, want a ConfigError of web", err)
			}
		})
	}
}

func TestArguments(t *testing.T) {
	image := &ledger.Image{Entrypoint: []string{"/entry", "$(A)"}, Cmd: []string{"serve"}}
	lookup := func(string) (string, bool) { return "1", true }
	for _, tt := range []struct {
		name          string
		command, args []string
		image         *ledger.Image
		want          string
	}{
		{"image only", nil, nil, image, "/entry $(A) serve"},
		{"args", nil, []string{"x$(A)"}, image, "/entry $(A) x1"},
		{"command", []string{"/c", "$(A)"}, nil, image, "/c 1"},
		{"both", []string{"/c"}, []string{"y"}, image, "/c y"},
		{"nothing", nil, nil, &ledger.Image{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := arguments(&corev1.Container{Command: tt.command, Args: tt.args}, tt.image, lookup)
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("arguments = %q, want %q", s, tt.want)
			}
		})
	}
}

func TestLongestNames(t *testing.T) {
	p := pod()
	p.Name = strings.Repeat("a", 61) + ".-" + strings.Repeat("b", 190)
	in := input(p)
	spec, err := Spec(in, func(string) int { return 0 }, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(); err != nil {
		t.Error(err)
	}
	if want := strings.Repeat("a", 61); spec.Hostname != want {
		t.Errorf("host name is %q", spec.Hostname)
	}
	f, _ := zones.DistroFeatures("omnios")
	if _, err := Zone(in, Datasets{ZonePath: "/rpool/reddwarf/pods/" + uid, Spares: "/rpool/reddwarf/spares/0/17", Containers: map[string]string{"web": "rpool/reddwarf/pods/" + uid + "/c-web"}}).Script(f); err != nil {
		t.Error(err)
	}
}

func TestVolumesThatPodinitMakesReady(t *testing.T) {
	p := pod()
	p.Spec.Volumes = []corev1.Volume{
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "limited", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(1<<20, resource.BinarySI)}}},
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
		{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
	}
	show := func() string {
		spec, err := Spec(input(p), func(string) int { return 0 }, func(string) bool { return true })
		if err == nil {
			err = spec.Validate()
		}
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, v := range spec.Volumes {
			group := int64(-1)
			if v.Group != nil {
				group = *v.Group
			}
			text = append(text, fmt.Sprint(v.Name, " ", group, " ", v.RootOnly))
		}
		return strings.Join(text, ", ")
	}
	if m := EmptyDirMode(p.Spec.Volumes[0]); m != 0o777 {
		t.Errorf("mode is %s", m)
	}
	p.Spec.Volumes[0].EmptyDir.Mode = new(int32(0o1750))
	if m := EmptyDirMode(p.Spec.Volumes[0]); m != 0o750|fs.ModeSticky {
		t.Errorf("mode is %s", m)
	}
	if got := show(); got != "limited -1 false, memory -1 false" {
		t.Errorf("without a group: %s", got)
	}
	p.Spec.SecurityContext = &corev1.PodSecurityContext{
		FSGroup: new(int64(7)), FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
	}
	if got := show(); got != "scratch 7 true, limited 7 true, memory 7 true" {
		t.Errorf("with a group: %s", got)
	}
}

func TestZoneConfig(t *testing.T) {
	p := pod()
	p.Spec.Volumes = []corev1.Volume{
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "limited", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(1<<20, resource.BinarySI)}}},
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
		{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: "little-memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: resource.NewQuantity(1025, resource.BinarySI)}}},
	}
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("20Mi")},
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")},
	}
	d := Datasets{
		ZonePath: "/rpool/reddwarf/pods/" + uid, Spares: "/rpool/reddwarf/spares/0/17",
		Containers: map[string]string{"web": "rpool/c-web"}, Volumes: map[string]string{"limited": "rpool/v-limited"},
	}
	f, _ := zones.DistroFeatures("omnios")
	script, err := Zone(input(p), d).Script(f)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "zone.zonecfg", script)
}

// TestLimits: a cap needs a limit on every container; requests never cap.
func TestLimits(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	for _, tt := range []struct {
		name             string
		limits, requests []corev1.ResourceList // of the containers
		cap              int
		shares           uint64
		physical, swap   uint64
	}{
		{"none", []corev1.ResourceList{nil}, []corev1.ResourceList{nil}, 0, 0, 0, 0},
		{"requests only", []corev1.ResourceList{nil}, []corev1.ResourceList{list("250m", "1G")}, 0, 25, 0, 0},
		{"all limited", []corev1.ResourceList{list("5m", "1G"), list("1", "1Gi")}, []corev1.ResourceList{nil, nil}, 101, 1, 1e9 + 1<<30, 1e9 + 1<<30},
		{"one unlimited", []corev1.ResourceList{list("1", "1G"), nil}, []corev1.ResourceList{nil, nil}, 0, 1, 0, 0},
		{"little memory", []corev1.ResourceList{list("", "10Mi")}, []corev1.ResourceList{nil}, 0, 1, 10 << 20, 50 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			p.Spec.Containers = nil
			for i := range tt.limits {
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Resources: corev1.ResourceRequirements{Limits: tt.limits[i], Requests: tt.requests[i]}})
			}
			c := Limits(p)
			if c.CPUCap != tt.cap || c.CPUShares != tt.shares || c.Memory.Physical != tt.physical || c.Memory.Swap != tt.swap {
				t.Errorf("cap %d, shares %d, memory %+v", c.CPUCap, c.CPUShares, c.Memory)
			}
		})
	}
}

func TestSecurity(t *testing.T) {
	zero, user, group, yes, no := int64(0), int64(1000), int64(2000), true, false
	p := pod()
	p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &zero, RunAsGroup: &group, RunAsNonRoot: &yes, FSGroup: &group, SupplementalGroups: []int64{7}}
	c := &p.Spec.Containers[0]
	if _, err := Container(input(p), c); err == nil || !strings.Contains(err.Error(), "non-root") {
		t.Errorf("root under runAsNonRoot: %v", err)
	}
	c.SecurityContext = &corev1.SecurityContext{
		RunAsUser: &user, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"CAP_NET_BIND_SERVICE"}},
	}
	got, err := Container(input(p), c)
	if err != nil {
		t.Fatal(err)
	}
	if *got.RunAsUser != user || *got.RunAsGroup != group || !got.RunAsNonRoot || !got.NoNewPrivileges || !got.ReadOnlyRoot ||
		!slices.Equal(got.SupplementalGroups, []int64{7, group}) || !slices.Equal(got.DropCapabilities, []string{"ALL"}) ||
		!slices.Equal(got.AddCapabilities, []string{"NET_BIND_SERVICE"}) {
		t.Errorf("container is %+v", got)
	}
	p.Spec.SecurityContext.RunAsUser, c.SecurityContext.RunAsUser = nil, nil
	if _, err := Container(input(p), c); err == nil {
		t.Error("an image without user passes for non-root")
	}
}

func TestMounts(t *testing.T) {
	p := pod()
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "SUB", Value: "x/y"}, {Name: "UP", Value: "../.."}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "v", MountPath: "/data", SubPathExpr: "$(SUB)/z", ReadOnly: true}, {Name: "v", MountPath: "/etc/hosts", SubPath: "hosts"},
	}
	got, err := Container(input(p), &p.Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	want := []podinit.Mount{
		{Volume: "v", SubPath: "x/y/z", Target: "/data", ReadOnly: true},
		{File: "hostname", Target: "/etc/hostname", ReadOnly: true},
		{Volume: "v", SubPath: "hosts", Target: "/etc/hosts"},
		{File: "resolv.conf", Target: "/etc/resolv.conf", ReadOnly: true},
	}
	if !slices.Equal(got.Mounts, want) {
		t.Errorf("mounts are %+v", got.Mounts)
	}
	for _, expr := range []string{"$(UP)", "$(NONE)"} {
		p.Spec.Containers[0].VolumeMounts[0].SubPathExpr = expr
		if _, err := Container(input(p), &p.Spec.Containers[0]); err == nil {
			t.Errorf("subPathExpr %q is accepted", expr)
		}
	}
}

func TestSpecFiles(t *testing.T) {
	p := pod()
	p.Spec.Subdomain = "web"
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "192.0.2.7", Hostnames: []string{"a", "b"}}}
	two := "2"
	p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.53"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}}}
	files, _, err := SpecFiles(input(p))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "hosts", string(files["hosts"]))
	golden(t, "resolv.conf", string(files["resolv.conf"]))
	if string(files["hostname"]) != "web-0\n" {
		t.Errorf("hostname is %q", files["hostname"])
	}
}

func TestResolvConf(t *testing.T) {
	for _, tt := range []struct {
		policy corev1.DNSPolicy
		edit   func(*Node)
		want   string
	}{
		{corev1.DNSClusterFirst, func(*Node) {}, "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local example.org\noptions ndots:5\n"},
		{corev1.DNSDefault, func(*Node) {}, "nameserver 192.0.2.1\nsearch example.org\n"},
		{corev1.DNSNone, func(*Node) {}, ""},
		{corev1.DNSClusterFirst, func(n *Node) { n.ClusterDNS = nil }, "nameserver 192.0.2.1\nsearch example.org\n"},
	} {
		p, n := pod(), node()
		p.Spec.DNSPolicy = tt.policy
		tt.edit(&n)
		r, _ := ResolvConf(p, n)
		if got := r.String(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.policy, got, tt.want)
		}
	}
	text := "# c\nnameserver 1.1.1.1\ndomain x\nsearch a b\noptions ndots:2 rotate\njunk\n"
	if got := ParseResolver(text).String(); got != "nameserver 1.1.1.1\nsearch a b\noptions ndots:2 rotate\n" {
		t.Errorf("ParseResolver gives %q", got)
	}
}

type tokenSource struct{ at time.Time }

func (s tokenSource) Token(_ *corev1.Pod, audience string, lifetime time.Duration) (string, time.Time, error) {
	return audience + "/" + lifetime.String(), s.at, nil
}

func TestVolumeFiles(t *testing.T) {
	seconds, mode := int64(600), int32(0o400)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	v := corev1.Volume{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "vault", ExpirationSeconds: &seconds}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}, Items: []corev1.KeyToPath{{Key: "color", Path: "d/c", Mode: &mode}}}},
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "secret"}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
			{Path: "mem", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "web", Resource: "limits.memory"}}}}},
	}}}}
	got, err := VolumeFiles(input(pod()), v, tokenSource{at})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"token": "vault/10m0s", "d/c": "red", "key": "s3cr3t\n", "labels": `app="web"`, "mem": "8589934592"} {
		if f, ok := got.Files[name]; !ok || string(f.Data) != want {
			t.Errorf("%s is %q, want %q", name, f.Data, want)
		}
	}
	if len(got.Files) != 5 || got.Files["d/c"].Mode != 0o400 || got.Files["key"].Mode != 0o644 || !got.Refresh.Equal(at) {
		t.Errorf("volume is %+v", got)
	}
	for _, path := range []string{"../x", "/x", "a/../../b", "..data", ""} {
		v.Projected.Sources = []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: path}}}
		if _, err := VolumeFiles(input(pod()), v, tokenSource{}); err == nil {
			t.Errorf("path %q is accepted", path)
		}
	}
	if _, err := VolumeFiles(input(pod()), corev1.Volume{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}}}, nil); err != nil {
		t.Error(err)
	}
}

func TestBrand(t *testing.T) {
	class := func(s string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.RuntimeClassName = &s } }
	os := func(n corev1.OSName) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: n} }
	}
	note := func(s string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Annotations[BrandAnnotation] = s } }
	for _, tt := range []struct {
		name  string
		edits []func(*corev1.Pod)
		want  string
	}{
		{"images decide", nil, BrandLX + " " + BrandNative},
		{"OS", []func(*corev1.Pod){os(corev1.Linux)}, BrandLX},
		{"class against OS", []func(*corev1.Pod){class("reddwarf-native"), os(corev1.Linux)}, ""},
		{"class", []func(*corev1.Pod){class("reddwarf-native")}, BrandNative},
		{"annotation", []func(*corev1.Pod){note("reddwarf")}, BrandNative},
		{"contradiction", []func(*corev1.Pod){note("reddwarf"), class("reddwarf-lx")}, ""},
		{"unknown class", []func(*corev1.Pod){class("runc")}, ""},
		{"unknown brand", []func(*corev1.Pod){note("bhyve")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pod()
			for _, e := range tt.edits {
				e(p)
			}
			all, err := Brands(p, node())
			got := strings.Join(all, " ")
			if got != tt.want || (err != nil) != (tt.want == "") || (err != nil && !errors.Is(err, ErrBrand)) {
				t.Errorf("Brand = %q, %v", got, err)
			}
		})
	}
}
