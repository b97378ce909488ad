package translate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// SpecFiles returns the files that stand beside podinit's spec and are mounted
// into every container, by name.
func SpecFiles(in Input) map[string][]byte {
	return map[string][]byte{
		hostsFile:    []byte(hosts(in)),
		resolvFile:   []byte(ResolvConf(in.Pod, in.Node).String()),
		hostnameFile: []byte(kernelHostname(in.Pod, in.Node) + "\n"),
	}
}

func hosts(in Input) string {
	var b strings.Builder
	b.WriteString("# Kubernetes-managed hosts file.\n" +
		"127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\n" +
		"fe00::\tip6-mcastprefix\n" +
		"fe00::1\tip6-allnodes\n" +
		"fe00::2\tip6-allrouters\n")
	names := Hostname(in.Pod)
	if fqdn := FQDN(in.Pod, in.Node); fqdn != "" {
		names = fqdn + "\t" + names
	}
	for _, a := range in.Addresses {
		fmt.Fprintf(&b, "%s\t%s\n", a.Addr(), names)
	}
	if len(in.Pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
	}
	for _, a := range in.Pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
	return b.String()
}

// The limits of a resolv.conf that Kubernetes keeps to.
const (
	maxNameservers = 3
	maxSearches    = 32
)

// ResolvConf returns the pod's resolver configuration. Where the node knows no
// cluster DNS, ClusterFirst falls back to the host's own, as a kubelet does.
func ResolvConf(pod *corev1.Pod, node Node) Resolver {
	var r Resolver
	switch {
	case pod.Spec.DNSPolicy == corev1.DNSNone:
	case pod.Spec.DNSPolicy == corev1.DNSDefault || len(node.ClusterDNS) == 0:
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
			r.setOption(o)
		}
	}
	r.Nameservers = unique(r.Nameservers, maxNameservers)
	r.Searches = unique(r.Searches, maxSearches)
	return r
}

// setOption replaces an option of the same name.
func (r *Resolver) setOption(o corev1.PodDNSConfigOption) {
	text := o.Name
	if o.Value != nil {
		text += ":" + *o.Value
	}
	r.Options = slices.DeleteFunc(r.Options, func(have string) bool {
		name, _, _ := strings.Cut(have, ":")
		return name == o.Name
	})
	r.Options = append(r.Options, text)
}

func unique(in []string, most int) []string {
	var out []string
	for _, s := range in {
		if len(out) < most && !slices.Contains(out, s) {
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
// are left out, as resolvers do; the last search or domain line counts.
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
			r.Searches = f[1:]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	return r
}
