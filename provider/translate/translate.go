// Package translate turns what Kubernetes says about a pod into what podinit,
// a zone and the storage are asked for, and what was seen of them back into a
// pod status.
//
// It is pure: what it needs of the cluster comes through small interfaces that
// the caller passes in, and nothing here touches the host. What a pod asks for
// and cannot have is refused by name (Admit); no field is dropped silently.
package translate

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Node is what the translation must know of the machine and the cluster.
type Node struct {
	Name    string
	HostIPs []netip.Addr // status.hostIPs: the node's internal addresses

	ClusterDNS    []netip.Addr // name servers for dnsPolicy ClusterFirst
	ClusterDomain string       // such as cluster.local
	Resolver      Resolver     // the host's own, for dnsPolicy Default

	KubeletPort int32 // of the node's addresses, where the kubelet API is

	// Labels are the node's in the API server; nil if they are not known, and
	// then pods are not checked against them.
	Labels map[string]string

	// Brands are the zone brands this node can run, its default first.
	Brands []string

	// Podinit is the host's path of podinit for a brand.
	Podinit map[string]string

	// HostPaths are the directories of the host that pods may see.
	HostPaths []HostPrefix

	// AllowPrivileged admits privileged containers: all that their zones may
	// do, which is never more than the zone.
	AllowPrivileged bool

	// ProcessLimit bounds the processes of a pod; 0 means no bound.
	ProcessLimit uint64

	// HostNamespaces are those whose pods may run in the global zone.
	HostNamespaces []string

	// HostPath is the PATH of the global zone, which a container of a host pod
	// gets unless it or its image sets one.
	HostPath string

	// APIServer is HOST:PORT of the API server as the host reaches it.
	APIServer string

	// Capacity is what a container without limits is told by
	// resourceFieldRef: the node's allocatable resources.
	Capacity corev1.ResourceList
}

// Resolver is the content of a resolv.conf file.
type Resolver struct {
	Nameservers []string
	Searches    []string
	Options     []string
}

// The brands, as written in annotations and labels.
const (
	BrandLX     = "lx"
	BrandNative = "reddwarf"
)

// BrandAnnotation lets a pod choose its zone's brand.
const BrandAnnotation = "reddwarf.io/zone-brand"

// runtimeClasses are the handlers that choose a brand.
var runtimeClasses = map[string]string{
	"reddwarf-lx":     BrandLX,
	"reddwarf-native": BrandNative,
}

// ErrBrand means that the pod asks for a brand that this node cannot run.
var ErrBrand = errors.New("brand not available on this node")

// Brands returns the brands that pod may have on node, the preferred one
// first. There are several only where neither the pod's runtime class nor its
// annotation nor its OS says which: then its images decide.
func Brands(pod *corev1.Pod, node Node) ([]string, error) {
	want := pod.Annotations[BrandAnnotation]
	if class := pod.Spec.RuntimeClassName; class != nil && *class != "" {
		if *class == HostClass {
			if want != "" {
				return nil, fmt.Errorf("runtimeClassName %q and annotation %s=%q contradict each other: %w", *class, BrandAnnotation, want, ErrBrand)
			}
			return []string{BrandHost}, nil
		}
		b, ok := runtimeClasses[*class]
		if !ok {
			return nil, fmt.Errorf("runtimeClassName %q: %w", *class, ErrBrand)
		}
		if want != "" && want != b {
			return nil, fmt.Errorf("runtimeClassName %q and annotation %s=%q contradict each other: %w", *class, BrandAnnotation, want, ErrBrand)
		}
		want = b
	}
	var out []string
	for _, b := range node.Brands {
		if want == "" || b == want {
			out = append(out, b)
		}
	}
	if os := pod.Spec.OS; os != nil {
		out = slices.DeleteFunc(out, func(b string) bool { return ImageOS(b) != string(os.Name) })
		if want == "" && len(out) == 0 {
			return nil, fmt.Errorf("for OS %q: %w", os.Name, ErrBrand)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("brand %q: %w", want, ErrBrand)
	}
	return out, nil
}

// ImageOS returns the operating system whose images a brand runs, as image
// indexes name it.
func ImageOS(brand string) string {
	if brand == BrandLX {
		return "linux"
	}
	return "illumos"
}

// ZoneName returns the name of the zone of the pod with that UID. It fits
// zonecfg(8)'s 63 characters, whatever the pod is called.
func ZoneName(uid string) string { return ZonePrefix + uid }

// ZonePrefix begins the names of all pod zones.
const ZonePrefix = "rdw-"

// LinkName returns the name of the VNIC of a slot. dladm(8) wants a letter
// first and a number without leading zero last.
func LinkName(slot int) string { return fmt.Sprintf("%s%d", LinkPrefix, slot) }

// LinkPrefix begins the names of the VNICs of pods.
const LinkPrefix = "rdw"

// Hostname returns the host name inside the pod, as a kubelet chooses it.
func Hostname(pod *corev1.Pod) string {
	h := pod.Name
	if pod.Spec.Hostname != "" {
		h = pod.Spec.Hostname
	}
	if o := pod.Spec.HostnameOverride; o != nil && *o != "" {
		return *o
	}
	const longest = 63 // of a DNS label, and below illumos' and Linux' own limit
	if len(h) > longest {
		h = h[:longest]
		for len(h) > 0 && (h[len(h)-1] == '-' || h[len(h)-1] == '.') {
			h = h[:len(h)-1]
		}
	}
	return h
}

// FQDN returns the pod's full name, or "" where it has none because it names
// no subdomain.
func FQDN(pod *corev1.Pod, node Node) string {
	if pod.Spec.Subdomain == "" || pod.Spec.HostnameOverride != nil {
		return ""
	}
	return fmt.Sprintf("%s.%s.%s.svc.%s", Hostname(pod), pod.Spec.Subdomain, pod.Namespace, node.ClusterDomain)
}
