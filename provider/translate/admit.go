package translate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Refusal is why a pod cannot run on this node, ever. It becomes the pod's
// terminal status.
type Refusal struct {
	Reason  string
	Message string
}

// The reasons of refusals.
const (
	ReasonUnsupported = "UnsupportedByNode"
	ReasonPodOS       = "PodOSNotSupported" // the kubelet's word
	ReasonBrand       = "ZoneBrandNotAvailable"

	ReasonNodeAffinity = "NodeAffinity"    // the kubelet's word
	ReasonSysctl       = "SysctlForbidden" // the kubelet's word
	ReasonNodePorts    = "NodePorts"       // likewise
	ReasonOutOf        = "OutOf"           // likewise, before the name of a resource
)

// maxMessage keeps a refusal's message readable.
const maxMessage = 2048

// Admit returns why pod cannot run on node, or nil. It names everything that
// the pod asks for and would not get: a field that changes what the pod is
// allowed or promised is never ignored.
func Admit(pod *corev1.Pod, node Node) *Refusal {
	if os := pod.Spec.OS; os != nil && os.Name != corev1.Linux {
		return &Refusal{ReasonPodOS, fmt.Sprintf("Failed to admit pod: its OS is %q", os.Name)}
	}
	if _, err := Brands(pod, node); err != nil {
		return &Refusal{ReasonBrand, "Failed to admit pod: " + err.Error()}
	}
	if node.Labels != nil && !placed(pod, node) {
		return &Refusal{ReasonNodeAffinity, "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	if r := hostAllowed(pod, node); r != nil {
		return r
	}
	if s := pod.Spec.SecurityContext; s != nil && len(s.Sysctls) > 0 {
		// They are parameters of a Linux kernel; none is safe here.
		return &Refusal{ReasonSysctl, fmt.Sprintf("Pod was rejected: forbidden sysctl: %q not allowlisted", s.Sysctls[0].Name)}
	}
	a := admission{privileged: node.AllowPrivileged}
	a.pod(pod, node)
	a.network(pod, node)
	a.podSecurity(pod.Spec.SecurityContext)
	for _, v := range pod.Spec.Volumes {
		a.volume(pod, v, node)
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		a.container("initContainers", c)
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		a.container("containers", c)
	}
	if len(a.faults) == 0 {
		return nil
	}
	msg := "Pod uses what this node cannot do: " + strings.Join(a.faults, "; ")
	if len(msg) > maxMessage {
		msg = msg[:maxMessage]
	}
	return &Refusal{ReasonUnsupported, msg}
}

// admission collects faults. prefix is where in the manifest it looks.
type admission struct {
	prefix     string
	privileged bool // containers may be
	faults     []string
}

func (a *admission) when(fault bool, format string, args ...any) {
	if fault {
		a.faults = append(a.faults, a.prefix+fmt.Sprintf(format, args...))
	}
}

func (a *admission) pod(pod *corev1.Pod, node Node) {
	s := &pod.Spec
	if HostPod(pod) {
		a.host(pod)
	} else {
		a.when(s.HostNetwork, "hostNetwork without runtimeClassName %s: a zone has a network of its own", HostClass)
	}
	a.when(s.HostPID, "hostPID")
	a.when(s.HostIPC, "hostIPC")
	a.when(s.HostUsers != nil && !*s.HostUsers, "hostUsers: false")
	a.when(len(s.ResourceClaims) > 0, "resourceClaims")
	a.resources("resources", s.Resources)
	if isTrue(s.SetHostnameAsFQDN) {
		a.when(len(FQDN(pod, node)) > 63, "setHostnameAsFQDN with a name longer than 63 characters")
	}
}

func (a *admission) podSecurity(s *corev1.PodSecurityContext) {
	if s == nil {
		return
	}
	a.when(localSeccomp(s.SeccompProfile), "securityContext.seccompProfile of type Localhost")
	a.when(localAppArmor(s.AppArmorProfile), "securityContext.appArmorProfile of type Localhost")
	p := s.SupplementalGroupsPolicy
	a.when(p != nil && *p != corev1.SupplementalGroupsPolicyMerge && *p != corev1.SupplementalGroupsPolicyStrict,
		"securityContext.supplementalGroupsPolicy: %s", deref(p))
}

func localSeccomp(p *corev1.SeccompProfile) bool {
	return p != nil && p.Type == corev1.SeccompProfileTypeLocalhost
}

func localAppArmor(p *corev1.AppArmorProfile) bool {
	return p != nil && p.Type == corev1.AppArmorProfileTypeLocalhost
}

func (a *admission) container(list string, c *corev1.Container) {
	a.prefix = fmt.Sprintf("%s[%s].", list, c.Name)
	defer func() { a.prefix = "" }()
	a.when(len(c.VolumeDevices) > 0, "volumeDevices")
	a.when(len(c.Resources.Claims) > 0, "resources.claims")
	for _, r := range c.RestartPolicyRules {
		known := r.Action == corev1.ContainerRestartRuleActionRestart || r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		a.when(!known, "restartPolicyRules: action %s", r.Action)
	}
	if l := c.Lifecycle; l != nil {
		a.when(l.PostStart != nil && l.PostStart.TCPSocket != nil, "lifecycle.postStart.tcpSocket")
		a.when(l.PreStop != nil && l.PreStop.TCPSocket != nil, "lifecycle.preStop.tcpSocket")
	}
	for _, m := range c.VolumeMounts {
		a.when(m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone,
			"volumeMounts[%s].mountPropagation: %s", m.MountPath, deref(m.MountPropagation))
		a.when(len(m.BindMountOptions) > 0, "volumeMounts[%s].bindMountOptions", m.MountPath)
	}
	a.resources("resources", &c.Resources)
	a.containerSecurity(c.SecurityContext)
}

// resources refuses what is limited or requested and not known, in the order of
// the names.
func (a *admission) resources(field string, r *corev1.ResourceRequirements) {
	if r == nil {
		return
	}
	names := map[corev1.ResourceName]bool{}
	for _, list := range []corev1.ResourceList{r.Limits, r.Requests} {
		for name := range list {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a.when(!knownResource(name), "%s: %s", field, name)
	}
}

func knownResource(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return false
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
