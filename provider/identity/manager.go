package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate"
)

// Rotate keeps the client certificate that [Join] put into dir fresh until ctx
// ends: it asks for a new one when most of its life is over. Clients that were
// made from the kubeconfig take up the new one by themselves. client is used
// for the requests, so it must be such a one.
func Rotate(ctx context.Context, client kubernetes.Interface, node, dir string) error {
	if err := ensureDir(dir); err != nil {
		return err
	}
	s, err := store(dir, clientPrefix)
	if err != nil {
		return err
	}
	if _, err := s.Current(); err != nil {
		return fmt.Errorf("identity: no client certificate to keep fresh: %w", err)
	}
	m, err := certificate.NewManager(&certificate.Config{
		Name:             "client",
		ClientsetFn:      func(*tls.Certificate) (kubernetes.Interface, error) { return client, nil },
		Template:         &x509.CertificateRequest{Subject: subject(node)},
		SignerName:       certificatesv1.KubeAPIServerClientKubeletSignerName,
		GetUsages:        certificate.DefaultKubeletClientGetUsages,
		CertificateStore: s,
	})
	if err != nil {
		return fmt.Errorf("identity: client certificate: %w", err)
	}
	m.Start()
	<-ctx.Done()
	m.Stop()
	return nil
}

// Names are what a serving certificate is for.
type Names struct {
	DNS []string
	IPs []netip.Addr
}

func (n Names) ips() []net.IP {
	var list []net.IP
	for _, a := range n.IPs {
		list = append(list, a.AsSlice())
	}
	return list
}

// ServingConfig says where a serving certificate comes from.
type ServingConfig struct {
	// NodeName is the node that the certificate is for.
	NodeName string

	// CertFile and KeyFile, if set, are the certificate; they are read again
	// when they change, and the cluster's signer is not asked.
	CertFile, KeyFile string

	// Names returns what the certificate must be for, at present. When they
	// change, a new one is asked for. It must be quick.
	Names func() Names

	// Client asks the API server, as the node. Nil means that there is only a
	// self-signed certificate, where no files are given.
	Client kubernetes.Interface

	// Dir keeps signed certificates for the next start.
	Dir string
}

// Serving is the serving certificate of the kubelet API.
type Serving struct {
	manager certificate.Manager // nil with files, or without a client
	files   *pairFiles
	own     *selfSigned
}

// NewServing returns the serving certificate that c describes. A signed one
// from an earlier run is used at once; [Serving.Run] asks for it otherwise.
func NewServing(c ServingConfig) (*Serving, error) {
	if c.CertFile != "" || c.KeyFile != "" {
		f, err := newPairFiles(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, err
		}
		return &Serving{files: f}, nil
	}
	if c.NodeName == "" || c.Names == nil {
		return nil, errors.New("identity: serving certificate: no names that it could be for")
	}
	s := &Serving{own: &selfSigned{node: c.NodeName, names: c.Names}}
	if c.Client == nil {
		return s, nil
	}
	if err := ensureDir(c.Dir); err != nil {
		return nil, err
	}
	files, err := store(c.Dir, servingPrefix)
	if err != nil {
		return nil, err
	}
	s.manager, err = certificate.NewManager(&certificate.Config{
		Name:             "serving",
		ClientsetFn:      func(*tls.Certificate) (kubernetes.Interface, error) { return c.Client, nil },
		GetTemplate:      func() *x509.CertificateRequest { return template(c.NodeName, c.Names()) },
		SignerName:       certificatesv1.KubeletServingSignerName,
		GetUsages:        certificate.DefaultKubeletServingGetUsages,
		CertificateStore: files,
	})
	if err != nil {
		return nil, fmt.Errorf("identity: serving certificate: %w", err)
	}
	return s, nil
}

// template returns the request for a serving certificate, or nil while there
// is nothing that it could be for: the signer refuses that.
func template(node string, n Names) *x509.CertificateRequest {
	if len(n.DNS) == 0 && len(n.IPs) == 0 {
		return nil
	}
	return &x509.CertificateRequest{Subject: subject(node), DNSNames: n.DNS, IPAddresses: n.ips()}
}

// Run asks the cluster for a certificate when one is needed, until ctx ends.
func (s *Serving) Run(ctx context.Context) {
	if s.manager == nil {
		<-ctx.Done()
		return
	}
	s.manager.Start()
	<-ctx.Done()
	s.manager.Stop()
}

// Certificate returns the certificate for a new connection.
func (s *Serving) Certificate() (*tls.Certificate, error) {
	if s.files != nil {
		return s.files.pair()
	}
	if s.manager != nil {
		if c := s.manager.Current(); c != nil {
			return c, nil
		}
	}
	return s.own.pair()
}

// Signed tells whether the certificate is one that clients can verify, as far
// as can be known here: it is not our self-signed one.
func (s *Serving) Signed() bool {
	return s.files != nil || s.manager != nil && s.manager.Current() != nil
}

// GetCertificate is [Serving.Certificate] in the form that crypto/tls wants.
func (s *Serving) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.Certificate()
}
