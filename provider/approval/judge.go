package approval

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/node"
)

const (
	userPrefix = "system:node:"
	nodesGroup = "system:nodes"
)

// usages are what a kubelet asks for, with or without RSA's key encipherment.
var usages = []certificatesv1.KeyUsage{certificatesv1.UsageServerAuth, certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment}

// Judge returns why a request for a serving certificate must not be approved
// by us, or nil if it may: it is a node's own, that node is one of ours, and
// the certificate is for addresses that the node and no other has. allowed, if
// there are any, are the networks in which its addresses must lie: a node writes
// its own addresses, so only an operator can say which it may have.
//
// Ours is a node with our taint: a node can give itself labels, but no taints
// after its registration.
func Judge(r *certificatesv1.CertificateSigningRequest, nodes []corev1.Node, allowed []netip.Prefix) error {
	if r.Spec.SignerName != certificatesv1.KubeletServingSignerName {
		return fmt.Errorf("its signer is %s", r.Spec.SignerName)
	}
	name, ok := strings.CutPrefix(r.Spec.Username, userPrefix)
	if !ok || !slices.Contains(r.Spec.Groups, nodesGroup) {
		return fmt.Errorf("%s of groups %v is no node", r.Spec.Username, r.Spec.Groups)
	}
	i := slices.IndexFunc(nodes, func(n corev1.Node) bool { return n.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no node %s", name)
	}
	if !slices.ContainsFunc(nodes[i].Spec.Taints, func(t corev1.Taint) bool { return t.Key == node.Taint && t.Value == node.TaintValue }) {
		return fmt.Errorf("node %s has no taint %s=%s: it is not one of ours", name, node.Taint, node.TaintValue)
	}
	for _, u := range r.Spec.Usages {
		if !slices.Contains(usages, u) {
			return fmt.Errorf("it asks for the usage %s", u)
		}
	}
	if !slices.Contains(r.Spec.Usages, certificatesv1.UsageServerAuth) || !slices.Contains(r.Spec.Usages, certificatesv1.UsageDigitalSignature) {
		return errors.New("it does not ask for the usages of a server")
	}
	block, rest := pem.Decode(r.Spec.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(strings.TrimSpace(string(rest))) > 0 {
		return errors.New("it is not one certificate request in PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	if err := csr.CheckSignature(); err != nil {
		return err
	}
	return judgeNames(csr, r.Spec.Username, i, nodes, allowed)
}

// judgeNames looks at what the certificate would be for.
func judgeNames(csr *x509.CertificateRequest, user string, i int, nodes []corev1.Node, allowed []netip.Prefix) error {
	if csr.Subject.CommonName != user || !slices.Equal(csr.Subject.Organization, []string{nodesGroup}) {
		return fmt.Errorf("its subject is %s", csr.Subject)
	}
	if len(csr.EmailAddresses)+len(csr.URIs) > 0 {
		return errors.New("it has e-mail addresses or URIs")
	}
	if len(csr.DNSNames)+len(csr.IPAddresses) == 0 {
		return errors.New("it names no address")
	}
	var wanted []string
	for _, ip := range csr.IPAddresses {
		a, ok := netip.AddrFromSlice(ip)
		a = a.Unmap()
		if !ok || len(allowed) > 0 && !slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return fmt.Errorf("address %s is in none of the networks allowed for nodes", ip)
		}
		wanted = append(wanted, a.String())
	}
	for _, a := range append(wanted, csr.DNSNames...) {
		if !hasAddress(nodes[i], a) {
			return fmt.Errorf("node %s does not have the address %s", nodes[i].Name, a)
		}
		for j := range nodes {
			if j != i && hasAddress(nodes[j], a) {
				return fmt.Errorf("node %s has the address %s too", nodes[j].Name, a)
			}
		}
	}
	return nil
}

func hasAddress(n corev1.Node, address string) bool {
	return slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool { return strings.EqualFold(a.Address, address) })
}
