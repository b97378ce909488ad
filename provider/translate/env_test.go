package translate

import (
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// envObjects are the ConfigMaps and Secrets of TestEnvironmentRules.
type envObjects struct{}

func (envObjects) ConfigMap(_, name string) (*corev1.ConfigMap, error) {
	data := map[string]map[string]string{
		"one": {"a": "1", "b": "2", "with.dot": "dotted", "ref": "$(a)"},
		"two": {"b": "two", "c": "3"}, "empty": {},
	}[name]
	if data == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
	}
	return &corev1.ConfigMap{Data: data}, nil
}

func (envObjects) Secret(_, name string) (*corev1.Secret, error) {
	switch name {
	case "one":
		return &corev1.Secret{Data: map[string][]byte{"s": []byte("secret\n"), "a": []byte("of the secret")}}, nil
	case "unreachable":
		return nil, apierrors.NewServiceUnavailable("etcd is away")
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

type envFiles struct{}

func (envFiles) File(volume, path string) ([]byte, error) {
	text, ok := map[string]string{"conf/env": "a='1'\nb='two lines\nof it' # not this\nempty=''\n", "conf/bad": "a=1\n"}[volume+"/"+path]
	if !ok {
		return nil, errors.New("no such file")
	}
	return []byte(text), nil
}

type envServices struct{}

func (envServices) Services(namespace string) ([]*corev1.Service, error) {
	service := func(name, ip string, ports ...corev1.ServicePort) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports}}
	}
	all := []*corev1.Service{
		service("kubernetes", "10.96.0.1", corev1.ServicePort{Name: "https", Port: 443}),
		service("web-ui", "fd00::7", corev1.ServicePort{Name: "http", Port: 80}, corev1.ServicePort{Name: "dns-udp", Port: 53, Protocol: corev1.ProtocolUDP}),
		service("headless", corev1.ClusterIPNone, corev1.ServicePort{Port: 1}),
		service("external", "", corev1.ServicePort{Port: 1}),
	}
	if namespace == corev1.NamespaceDefault {
		return all[:1], nil
	}
	return all[1:], nil
}

// envPod is a pod in a namespace of its own, with two containers.
func envPod() *corev1.Pod {
	p := pod()
	p.Namespace = "shop"
	p.Spec.NodeName, p.Spec.ServiceAccountName = "host1", "seller"
	p.Labels = map[string]string{"app": "web", "tier": `"front"`}
	p.Annotations = map[string]string{"example.org/note": "one\ntwo"}
	p.Status.PodIP, p.Status.PodIPs = "10.244.1.9", []corev1.PodIP{{IP: "10.244.1.9"}, {IP: "fd00:1::9"}}
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Limits: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("100M"),
		},
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")},
	}
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "free", Image: "web:1"})
	p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "web:1", Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Ki")},
	}}}
	return p
}

// TestEnvironmentRules goes through the rules of a kubelet's
// makeEnvironmentVariables, one a line.
func TestEnvironmentRules(t *testing.T) {
	n := node()
	n.HostIPs = []netip.Addr{netip.MustParseAddr("198.51.100.11"), netip.MustParseAddr("2001:db8::11")}
	n.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
	}
	yes, no := true, false
	value := func(name, value string) corev1.EnvVar { return corev1.EnvVar{Name: name, Value: value} }
	field := func(path string) corev1.EnvVar {
		return corev1.EnvVar{Name: "X", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	res := func(container, r, divisor string) corev1.EnvVar {
		s := &corev1.ResourceFieldSelector{ContainerName: container, Resource: r}
		if divisor != "" {
			s.Divisor = resource.MustParse(divisor)
		}
		return corev1.EnvVar{Name: "X", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: s}}
	}
	ref := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	configKey := func(name, key string, optional *bool) corev1.EnvVar {
		return corev1.EnvVar{Name: "X", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref(name), Key: key, Optional: optional}}}
	}
	secretKey := func(name, key string, optional *bool) corev1.EnvVar {
		return corev1.EnvVar{Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref(name), Key: key, Optional: optional}}}
	}
	fileKey := func(path, key string, optional *bool) corev1.EnvVar {
		return corev1.EnvVar{Name: "X", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "conf", Path: path, Key: key, Optional: optional}}}
	}
	fromConfig := func(prefix, name string, optional *bool) corev1.EnvFromSource {
		return corev1.EnvFromSource{Prefix: prefix, ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref(name), Optional: optional}}
	}
	fromSecret := func(prefix, name string, optional *bool) corev1.EnvFromSource {
		return corev1.EnvFromSource{Prefix: prefix, SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref(name), Optional: optional}}
	}
	type vars []corev1.EnvVar
	type from []corev1.EnvFromSource
	type w map[string]string
	for _, tt := range []struct {
		name     string
		from     from
		vars     vars
		links    *bool // enableServiceLinks; false unless given
		want     w     // but for those of Services
		files    Files
		services bool // those of the namespace's Services are there too
		err      string
	}{
		{name: "nothing"},
		{name: "values", vars: vars{value("A", "1"), value("B", "")}, want: w{"A": "1", "B": ""}},
		{name: "the last of a name", vars: vars{value("A", "1"), value("A", "2")}, want: w{"A": "2"}},

		{name: "reference to an earlier one", vars: vars{value("A", "1"), value("B", "$(A)2")}, want: w{"A": "1", "B": "12"}},
		{name: "reference to a later one", vars: vars{value("B", "$(A)2"), value("A", "1")}, want: w{"A": "1", "B": "$(A)2"}},
		{name: "reference to itself", vars: vars{value("A", "1"), value("A", "$(A)2")}, want: w{"A": "12"}},
		{name: "reference that is none", vars: vars{value("A", "1"), value("B", "$$(A) $A $(C")}, want: w{"A": "1", "B": "$(A) $A $(C"}},
		{name: "reference in what was referred to", vars: vars{value("A", "$$(B)"), value("B", "x"), value("C", "$(A)")}, want: w{"A": "$(B)", "B": "x", "C": "$(B)"}},
		{name: "reference to envFrom", from: from{fromConfig("", "two", nil)}, vars: vars{value("X", "$(c)")}, want: w{"X": "3", "b": "two", "c": "3"}},
		{name: "reference to a service", links: &yes, vars: vars{value("X", "$(WEB_UI_SERVICE_PORT)")}, services: true, want: w{"X": "80"}},
		{name: "envFrom is not expanded", from: from{fromConfig("", "one", nil)}, want: w{"a": "1", "b": "2", "ref": "$(a)", "with.dot": "dotted"}},

		{name: "envFrom, in order", from: from{fromConfig("", "two", nil), fromConfig("", "one", nil)}, want: w{"a": "1", "b": "2", "c": "3", "ref": "$(a)", "with.dot": "dotted"}},
		{name: "envFrom, other order", from: from{fromConfig("", "one", nil), fromConfig("", "two", nil)}, want: w{"a": "1", "b": "two", "c": "3", "ref": "$(a)", "with.dot": "dotted"}},
		{name: "envFrom with prefix", from: from{fromConfig("P_", "two", nil)}, want: w{"P_b": "two", "P_c": "3"}},
		{name: "env over envFrom", from: from{fromConfig("", "two", nil)}, vars: vars{value("b", "env")}, want: w{"b": "env", "c": "3"}},
		{name: "envFrom of a secret", from: from{fromSecret("S_", "one", nil)}, want: w{"S_a": "of the secret", "S_s": "secret\n"}},
		{name: "envFrom of nothing", from: from{fromConfig("", "empty", nil)}},
		{name: "envFrom of a missing one", from: from{fromConfig("", "none", nil)}, err: `configmaps "none" not found`},
		{name: "envFrom of a missing one, not optional", from: from{fromConfig("", "none", &no)}, err: `configmaps "none" not found`},
		{name: "envFrom of a missing one, optional", from: from{fromConfig("", "none", &yes), fromSecret("", "none", &yes)}},
		{name: "envFrom of what cannot be read", from: from{fromSecret("", "unreachable", &yes)}, err: "etcd is away"},

		{name: "key", vars: vars{configKey("one", "a", nil)}, want: w{"X": "1"}},
		{name: "key of a missing object", vars: vars{configKey("none", "a", nil)}, err: `configmaps "none" not found`},
		{name: "key of a missing object, optional", vars: vars{configKey("none", "a", &yes)}},
		{name: "missing key", vars: vars{configKey("one", "z", nil)}, err: "couldn't find key z in ConfigMap shop/one"},
		{name: "missing key, optional", vars: vars{value("X", "before"), configKey("one", "z", &yes)}, want: w{"X": "before"}},
		{name: "secret key", vars: vars{secretKey("one", "s", nil)}, want: w{"X": "secret\n"}},
		{name: "missing secret", vars: vars{secretKey("none", "s", nil)}, err: `secrets "none" not found`},
		{name: "missing secret, optional", vars: vars{secretKey("none", "s", &yes)}},
		{name: "missing secret key", vars: vars{secretKey("one", "z", nil)}, err: "couldn't find key z in Secret shop/one"},
		{name: "missing secret key, optional", vars: vars{secretKey("one", "z", &yes)}},
		{name: "secret that cannot be read, optional", vars: vars{secretKey("unreachable", "s", &yes)}, err: "etcd is away"},

		{name: "metadata.name", vars: vars{field("metadata.name")}, want: w{"X": "web-0"}},
		{name: "metadata.namespace", vars: vars{field("metadata.namespace")}, want: w{"X": "shop"}},
		{name: "metadata.uid", vars: vars{field("metadata.uid")}, want: w{"X": uid}},
		{name: "a label", vars: vars{field("metadata.labels['app']")}, want: w{"X": "web"}},
		{name: "a missing label", vars: vars{field("metadata.labels['none']")}, want: w{"X": ""}},
		{name: "an annotation", vars: vars{field("metadata.annotations['example.org/note']")}, want: w{"X": "one\ntwo"}},
		{name: "all labels", vars: vars{field("metadata.labels")}, want: w{"X": `app="web"` + "\n" + `tier="\"front\""`}},
		{name: "spec.nodeName", vars: vars{field("spec.nodeName")}, want: w{"X": "host1"}},
		{name: "spec.serviceAccountName", vars: vars{field("spec.serviceAccountName")}, want: w{"X": "seller"}},
		{name: "status.hostIP", vars: vars{field("status.hostIP")}, want: w{"X": "198.51.100.11"}},
		{name: "status.hostIPs", vars: vars{field("status.hostIPs")}, want: w{"X": "198.51.100.11,2001:db8::11"}},
		{name: "status.podIP", vars: vars{field("status.podIP")}, want: w{"X": "10.244.1.9"}},
		{name: "status.podIPs", vars: vars{field("status.podIPs")}, want: w{"X": "10.244.1.9,fd00:1::9"}},
		{name: "status.phase", vars: vars{field("status.phase")}, err: "unsupported fieldPath: status.phase"},
		{name: "a subscript of another", vars: vars{field("metadata.name['x']")}, err: "unsupported fieldPath: metadata.name['x']"},

		{name: "limits.cpu, rounded up", vars: vars{res("", "limits.cpu", "")}, want: w{"X": "2"}},
		{name: "limits.cpu in thousandths", vars: vars{res("", "limits.cpu", "1m")}, want: w{"X": "1500"}},
		{name: "requests.cpu", vars: vars{res("", "requests.cpu", "1")}, want: w{"X": "1"}},
		{name: "limits.memory", vars: vars{res("", "limits.memory", "")}, want: w{"X": "100000000"}},
		{name: "limits.memory in Mi, rounded up", vars: vars{res("", "limits.memory", "1Mi")}, want: w{"X": "96"}},
		{name: "requests that are not set", vars: vars{res("", "requests.memory", "1Mi")}, want: w{"X": "0"}},
		{name: "requests.ephemeral-storage", vars: vars{res("", "requests.ephemeral-storage", "1Mi")}, want: w{"X": "1024"}},
		{name: "no limit: the node's", vars: vars{res("free", "limits.memory", "1Gi")}, want: w{"X": "8"}},
		{name: "no cpu limit: the node's", vars: vars{res("free", "limits.cpu", "")}, want: w{"X": "4"}},
		{name: "no storage limit: the node's", vars: vars{res("", "limits.ephemeral-storage", "1Gi")}, want: w{"X": "100"}},
		{name: "of an init container", vars: vars{res("init", "limits.memory", "")}, want: w{"X": "1024"}},
		{name: "of no container", vars: vars{res("none", "limits.memory", "")}, err: "container none not found"},
		{name: "huge pages that are not set", vars: vars{res("", "limits.hugepages-2Mi", "")}, want: w{"X": "0"}},
		{name: "another resource", vars: vars{res("", "limits.example.org/gpu", "")}, err: "unsupported container resource: limits.example.org/gpu"},

		{name: "file", files: envFiles{}, vars: vars{value("A", "1"), fileKey("env", "b", nil), value("B", "$(X)!")}, want: w{"A": "1", "X": "two lines\nof it", "B": "two lines\nof it!"}},
		{name: "file of a zone that does not run", vars: vars{fileKey("env", "b", nil)}, err: "the pod's zone does not run yet"},
		{name: "key that a file lacks", files: envFiles{}, vars: vars{fileKey("env", "none", nil)}, err: `environment variable key "none" not found in file "env"`},
		{name: "key that a file lacks, optional", files: envFiles{}, vars: vars{fileKey("env", "none", &yes)}},
		{name: "key without a value, optional", files: envFiles{}, vars: vars{fileKey("env", "empty", &yes)}},
		{name: "file that is missing, optional", files: envFiles{}, vars: vars{fileKey("none", "b", &yes)}, err: "couldn't read env file none of volume conf: no such file"},
		{name: "file that is none", files: envFiles{}, vars: vars{fileKey("bad", "b", &yes)}, err: "couldn't parse env file bad of volume conf: line 1: the value is not in single quotes"},

		{name: "services", links: &yes, services: true},
		{name: "env over services", links: &yes, vars: vars{value("WEB_UI_PORT", "mine")}, services: true, want: w{"WEB_UI_PORT": "mine"}},
		{name: "no source", vars: vars{{Name: "X", ValueFrom: &corev1.EnvVarSource{}}}, err: "env X: valueFrom has no source that this node knows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := envPod()
			p.Spec.EnableServiceLinks = tt.links
			if tt.links == nil {
				p.Spec.EnableServiceLinks = &no
			}
			c := &p.Spec.Containers[0]
			c.EnvFrom, c.Env = tt.from, tt.vars
			got, err := Environment(p, c, n, envObjects{}, envServices{}, tt.files)
			if tt.err != "" || err != nil {
				if err == nil || !strings.Contains(err.Error(), tt.err) || tt.err == "" {
					t.Errorf("Environment = %v, want error %q", err, tt.err)
				}
				return
			}
			want := maps.Clone(apiServerVars)
			if tt.services {
				maps.Copy(want, webUIVars)
			}
			maps.Copy(want, tt.want)
			have := map[string]string{}
			for _, v := range got {
				have[v.Name] = v.Value
			}
			if !maps.Equal(have, want) || len(have) != len(got) {
				t.Errorf("got  %q\nwant %q", have, want)
			}
		})
	}
}

// apiServerVars are there whatever enableServiceLinks says.
var apiServerVars = map[string]string{
	"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443",
	"KUBERNETES_PORT": "tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443",
	"KUBERNETES_PORT_443_TCP_PROTO": "tcp", "KUBERNETES_PORT_443_TCP_PORT": "443", "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
}

var webUIVars = map[string]string{
	"WEB_UI_SERVICE_HOST": "fd00::7", "WEB_UI_SERVICE_PORT": "80", "WEB_UI_SERVICE_PORT_HTTP": "80", "WEB_UI_SERVICE_PORT_DNS_UDP": "53",
	"WEB_UI_PORT": "tcp://[fd00::7]:80", "WEB_UI_PORT_80_TCP": "tcp://[fd00::7]:80",
	"WEB_UI_PORT_80_TCP_PROTO": "tcp", "WEB_UI_PORT_80_TCP_PORT": "80", "WEB_UI_PORT_80_TCP_ADDR": "fd00::7",
	"WEB_UI_PORT_53_UDP":       "udp://[fd00::7]:53",
	"WEB_UI_PORT_53_UDP_PROTO": "udp", "WEB_UI_PORT_53_UDP_PORT": "53", "WEB_UI_PORT_53_UDP_ADDR": "fd00::7",
}
