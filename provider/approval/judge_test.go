package approval

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reddwarf.io/reddwarf/provider/node"
)

// ours is a node of ours with a host name and addresses.
func ours(name string, addresses ...string) corev1.Node {
	n := corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: node.Taint, Value: node.TaintValue, Effect: corev1.TaintEffectNoSchedule}}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}},
	}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func sign(t *testing.T, template x509.CertificateRequest) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name    string
		csr     func(*x509.CertificateRequest)
		request func(*certificatesv1.CertificateSigningRequest)
		nodes   func([]corev1.Node) []corev1.Node
		allowed []string
		refused string // a part of the reason; empty means approved
	}{
		{name: "a node's own"},
		{name: "within the allowed networks", allowed: []string{"192.0.2.0/24"}},
		{name: "without key encipherment", request: func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Usages = r.Spec.Usages[:2] }},
		{name: "outside the allowed networks", allowed: []string{"198.51.100.0/24"}, refused: "none of the networks"},
		{name: "another signer", request: func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.SignerName = certificatesv1.KubeAPIServerClientKubeletSignerName
		}, refused: "signer"},
		{name: "a user", request: func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Username = "jane" }, refused: "no node"},
		{name: "not in the nodes' group", request: func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Groups = nil }, refused: "no node"},
		{name: "a node that is not there", nodes: func([]corev1.Node) []corev1.Node { return nil }, refused: "there is no node"},
		{name: "somebody else's node", nodes: func(n []corev1.Node) []corev1.Node {
			n[0].Spec.Taints = nil
			n[0].Labels = map[string]string{"kubernetes.io/os": "illumos"}
			return n
		}, refused: "not one of ours"},
		{name: "client usage", request: func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Usages = append(r.Spec.Usages, certificatesv1.UsageClientAuth)
		}, refused: "usage"},
		{name: "no server usage", request: func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature}
		}, refused: "usages"},
		{name: "another node's name", csr: func(c *x509.CertificateRequest) { c.Subject.CommonName = "system:node:other" }, refused: "subject"},
		{name: "another group", csr: func(c *x509.CertificateRequest) {
			c.Subject.Organization = append(c.Subject.Organization, "system:masters")
		}, refused: "subject"},
		{name: "an address it does not have", csr: func(c *x509.CertificateRequest) { c.IPAddresses = append(c.IPAddresses, net.ParseIP("192.0.2.99")) }, refused: "does not have"},
		{name: "a name it does not have", csr: func(c *x509.CertificateRequest) { c.DNSNames = append(c.DNSNames, "kubernetes.default.svc") }, refused: "does not have"},
		{name: "an address that it took from another node", nodes: func(n []corev1.Node) []corev1.Node { return append(n, ours("linux-1", "192.0.2.7")) }, refused: "too"},
		{name: "no address", csr: func(c *x509.CertificateRequest) { c.IPAddresses, c.DNSNames = nil, nil }, refused: "no address"},
		{name: "a URI", csr: func(c *x509.CertificateRequest) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }, refused: "URIs"},
		{name: "an e-mail address", csr: func(c *x509.CertificateRequest) { c.EmailAddresses = []string{"a@example"} }, refused: "e-mail"},
		{name: "no request", request: func(r *certificatesv1.CertificateSigningRequest) { r.Spec.Request = []byte("hello") }, refused: "PEM"},
		{name: "two requests", request: func(r *certificatesv1.CertificateSigningRequest) {
			r.Spec.Request = append(r.Spec.Request, r.Spec.Request...)
		}, refused: "PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			csr := x509.CertificateRequest{
				Subject:     pkix.Name{CommonName: "system:node:zone1", Organization: []string{"system:nodes"}},
				DNSNames:    []string{"zone1"},
				IPAddresses: []net.IP{net.ParseIP("192.0.2.7")},
			}
			if tt.csr != nil {
				tt.csr(&csr)
			}
			r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
				Request: sign(t, csr), SignerName: certificatesv1.KubeletServingSignerName,
				Username: "system:node:zone1", Groups: []string{"system:nodes", "system:authenticated"},
				Usages: slices.Clone(usages),
			}}
			if tt.request != nil {
				tt.request(r)
			}
			nodes := []corev1.Node{ours("zone1", "192.0.2.7")}
			if tt.nodes != nil {
				nodes = tt.nodes(nodes)
			}
			var allowed []netip.Prefix
			for _, p := range tt.allowed {
				allowed = append(allowed, netip.MustParsePrefix(p))
			}
			err := Judge(r, nodes, allowed)
			switch {
			case tt.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)):
				t.Errorf("the answer is %v, want a refusal with %q", err, tt.refused)
			}
		})
	}
}

func TestJudgeRefusesAForgedSignature(t *testing.T) {
	data := sign(t, x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "system:node:zone1", Organization: []string{"system:nodes"}},
		DNSNames: []string{"zone1"},
	})
	block, _ := pem.Decode(data)
	block.Bytes[len(block.Bytes)-1] ^= 1
	r := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(block), SignerName: certificatesv1.KubeletServingSignerName,
		Username: "system:node:zone1", Groups: []string{"system:nodes"}, Usages: slices.Clone(usages),
	}}
	if err := Judge(r, []corev1.Node{ours("zone1")}, nil); err == nil {
		t.Error("a request that nobody signed was approved")
	}
}
