package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The limits of a resolv.conf, as k8s.io/kubernetes/pkg/apis/core/validation
// has them. Resolvers ignore the fourth name server, and glibc 2.28 aborts on a
// search domain longer than a name may be.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchName  = 253
	maxSearchLine  = 2048
)

// Note is what the users of a pod are told in an event.
type Note struct{ Reason, Message string }

// The Service that a cluster's name servers are behind, by custom.
const (
	dnsNamespace = "kube-system"
	dnsService   = "kube-dns"
)

// withClusterDNS fills in the cluster's name servers where the node was not
// told them.
func withClusterDNS(node Node, services Services) (Node, error) {
	if len(node.ClusterDNS) > 0 {
		return node, nil
	}
	list, err := services.Services(dnsNamespace)
	if err != nil {
		return node, err
	}
	for _, s := range list {
		if s.Name != dnsService {
			continue
		}
		for _, text := range s.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(text); err == nil { // not "None"
				node.ClusterDNS = append(node.ClusterDNS, a)
			}
		}
	}
	return node, nil
}

// ResolvConf returns the pod's resolver configuration, and what of it could not
// be as asked for, in a kubelet's words. Where the node knows no cluster DNS,
// ClusterFirst falls back to the host's own, as a kubelet does.
func ResolvConf(pod *corev1.Pod, node Node) (Resolver, []Note) {
	var r Resolver
	var notes []Note
	policy := pod.Spec.DNSPolicy
	if pod.Spec.HostNetwork && policy != corev1.DNSNone && policy != corev1.DNSClusterFirstWithHostNet {
		policy = corev1.DNSDefault
	}
	if policy != corev1.DNSNone && policy != corev1.DNSDefault && len(node.ClusterDNS) == 0 {
		notes = append(notes, Note{"MissingClusterDNS", fmt.Sprintf("pod: \"%s_%s(%s)\". kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.",
			pod.Name, pod.Namespace, pod.UID, corev1.DNSClusterFirst, corev1.DNSDefault)})
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		r = Resolver{
			Nameservers: slices.Clone(node.Resolver.Nameservers),
			Searches:    slices.Clone(node.Resolver.Searches),
			Options:     slices.Clone(node.Resolver.Options),
		}
	default:
		for _, a := range node.ClusterDNS {
			r.Nameservers = append(r.Nameservers, a.String())
		}
		if d := node.ClusterDomain; d != "" {
			r.Searches = []string{pod.Namespace + ".svc." + d, "svc." + d, d}
		}
		r.Searches = append(r.Searches, node.Resolver.Searches...)
		r.Options = []string{"ndots:5"}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.Nameservers = append(r.Nameservers, c.Nameservers...)
		r.Searches = append(r.Searches, c.Searches...)
		for _, o := range c.Options {
			r.setOption(o.Name, deref(o.Value))
		}
	}
	r.Nameservers, r.Searches = unique(r.Nameservers), unique(r.Searches)
	return r, append(notes, r.cut()...)
}

// cut takes off what goes beyond the limits.
func (r *Resolver) cut() []Note {
	var notes []Note
	if len(r.Nameservers) > maxNameservers {
		r.Nameservers = r.Nameservers[:maxNameservers]
		notes = append(notes, Note{"DNSConfigForming",
			"Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: " + strings.Join(r.Nameservers, " ")})
	}
	wanted := len(r.Searches)
	r.Searches = r.Searches[:min(wanted, maxSearches)]
	r.Searches = slices.DeleteFunc(r.Searches, func(s string) bool { return len(s) > maxSearchName })
	for len(strings.Join(r.Searches, " ")) > maxSearchLine {
		r.Searches = r.Searches[:len(r.Searches)-1]
	}
	if len(r.Searches) < wanted {
		notes = append(notes, Note{"DNSConfigForming",
			"Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " + strings.Join(r.Searches, " ")})
	}
	return notes
}

// setOption sets an option in the place of one of the same name.
func (r *Resolver) setOption(name, value string) {
	text := name
	if value != "" {
		text += ":" + value
	}
	for i, have := range r.Options {
		if n, _, _ := strings.Cut(have, ":"); n == name {
			r.Options[i] = text
			return
		}
	}
	r.Options = append(r.Options, text)
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// String returns the text of the file.
func (r Resolver) String() string {
	var b strings.Builder
	for _, n := range r.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", n)
	}
	if len(r.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Searches, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.String()
}

// ParseResolver reads the host's own resolv.conf. Lines that it does not know
// are left out, as resolvers do; the last search or domain line counts, and so
// does the last of several options of one name.
func ParseResolver(text string) Resolver {
	var r Resolver
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.Nameservers = append(r.Nameservers, f[1])
		case "search", "domain":
			r.Searches = nil
			for _, s := range f[1:] {
				if s = strings.TrimSuffix(s, "."); s != "" { // with and without the dot is the same
					r.Searches = append(r.Searches, s)
				}
			}
		case "options":
			for _, o := range f[1:] {
				name, value, _ := strings.Cut(o, ":")
				r.setOption(name, value)
			}
		}
	}
	return r
}
