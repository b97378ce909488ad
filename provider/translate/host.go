package translate

import (
	"net"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/hostpods"
)

// Host pods: pods whose containers are processes of the global zone, for what
// has to manage the host itself, as HostProcess pods are on Windows.

// BrandHost stands where another pod's zone brand does.
const BrandHost = hostpods.Brand

// HostClass is the runtime class that asks for a host pod.
const HostClass = "reddwarf-host"

// ReasonHostPod is why a host pod is refused.
const ReasonHostPod = "HostPodNotAllowed"

// HostPod reports whether pod asks to run in the global zone.
func HostPod(pod *corev1.Pod) bool {
	return deref(pod.Spec.RuntimeClassName) == HostClass
}

// hostAllowed returns why a host pod may not run here, or nil. Such a pod is
// root on the host, so its namespace must be one that the operator named.
func hostAllowed(pod *corev1.Pod, node Node) *Refusal {
	if !HostPod(pod) || slices.Contains(node.HostNamespaces, pod.Namespace) {
		return nil
	}
	return &Refusal{ReasonHostPod, "Failed to admit pod: runtimeClassName " + HostClass + " runs containers in the host's global zone, and namespace " +
		pod.Namespace + " is not among those that --host-pod-namespaces of this node names"}
}

// host collects what a host pod asks for and cannot have: the host's network is
// the only one there is, and nothing bounds a process of the global zone.
func (a *admission) host(pod *corev1.Pod) {
	a.when(!pod.Spec.HostNetwork, "runtimeClassName %s without hostNetwork: true: a process of the global zone has the host's network", HostClass)
	a.when(isTrue(pod.Spec.SetHostnameAsFQDN), "setHostnameAsFQDN in a host pod")
	for _, c := range AllContainers(pod) {
		for name := range c.Resources.Limits {
			a.when(true, "containers[%s].resources.limits: %s: nothing enforces limits in the global zone; set requests only", c.Name, name)
		}
	}
	for _, v := range pod.Spec.Volumes {
		a.when(InMemory(v), "volume %q: emptyDir in memory in a host pod", v.Name)
	}
}

// hostZone is what a host pod has instead of a zone's configuration.
func hostZone(in Input, d Datasets, attrs []zones.Attr) zones.Config {
	return zones.Config{
		Name: ZoneName(string(in.Pod.UID)), Brand: BrandHost, Path: d.ZonePath, Attrs: attrs,
		Mounts: append(containerMounts(in, d), volumeMounts(in, d)...),
	}
}

// Addresses returns the addresses of a pod that holds own: a host pod has the
// host's.
func Addresses(pod *corev1.Pod, node Node, own []netip.Addr) []netip.Addr {
	if HostPod(pod) {
		return node.HostIPs
	}
	return own
}

// hostVars are the variables by which a program of a host pod finds the API
// server. The ClusterIP of the API server would not
// do: no packet that the global zone itself sends meets ipnat's rdr rules.
// What the pod sets itself is left alone.
func hostVars(c *corev1.Container, node Node) []Var {
	host, port, err := net.SplitHostPort(node.APIServer)
	if err != nil {
		return nil // the operator's kubeconfig names none
	}
	vars := []Var{{"KUBERNETES_SERVICE_HOST", host}, {"KUBERNETES_SERVICE_PORT", port}, {"KUBERNETES_SERVICE_PORT_HTTPS", port}}
	return slices.DeleteFunc(vars, func(v Var) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == v.Name })
	})
}
