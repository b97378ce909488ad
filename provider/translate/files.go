package translate

import (
	"fmt"
	"strings"
)

// SpecFiles returns the files that stand beside podinit's spec and are mounted
// into every container, by name, and what its users are to be told of them.
func SpecFiles(in Input) (map[string][]byte, []Note, error) {
	node, err := withClusterDNS(in.Node, in.Services)
	if err != nil {
		return nil, nil, err
	}
	resolver, notes := ResolvConf(in.Pod, node)
	return map[string][]byte{
		hostsFile:    []byte(hosts(in)),
		resolvFile:   []byte(resolver.String()),
		hostnameFile: []byte(kernelHostname(in.Pod, in.Node) + "\n"),
	}, notes, nil
}

func hosts(in Input) string {
	var b strings.Builder
	b.WriteString("# Kubernetes-managed hosts file.\n" +
		"127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::0\tip6-localnet\n" +
		"fe00::0\tip6-mcastprefix\n" +
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
