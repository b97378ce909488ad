package identity

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/certificate"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/keyutil"
)

// Joining is what a host needs to become a node.
type Joining struct {
	// NodeName is the name that the node shall have.
	NodeName string

	// Bootstrap reaches the API server with the rights of a new node, usually
	// by a bootstrap token. It must verify the server.
	Bootstrap *rest.Config

	// Dir is where the certificate, its key and the kubeconfig go. It is made
	// with mode 0700.
	Dir string

	// client is for tests; nil means one for Bootstrap.
	client kubernetes.Interface
}

// Join gets a client certificate for the node and writes a kubeconfig that
// uses it, whose path it returns. It waits until the cluster has signed the
// certificate or ctx ends, and may be repeated: a certificate that is still
// good is kept, and a request that is still open is taken up again.
func Join(ctx context.Context, j Joining) (kubeconfig string, err error) {
	if err := j.validate(); err != nil {
		return "", err
	}
	if err := ensureDir(j.Dir); err != nil {
		return "", err
	}
	s, err := store(j.Dir, clientPrefix)
	if err != nil {
		return "", err
	}
	if !haveClient(s, j.NodeName) {
		if err := j.request(ctx, s); err != nil {
			return "", err
		}
	}
	path := filepath.Join(j.Dir, "kubeconfig")
	return path, j.writeKubeconfig(path, s.CurrentPath())
}

func (j *Joining) validate() error {
	switch {
	case j.NodeName == "":
		return errors.New("identity: no node name")
	case j.Bootstrap == nil:
		return errors.New("identity: no way to reach the API server")
	case j.Bootstrap.Insecure:
		return errors.New("identity: the API server would not be verified: give its CA certificate or the CA's hash")
	}
	if j.client == nil {
		c, err := kubernetes.NewForConfig(j.Bootstrap)
		if err != nil {
			return fmt.Errorf("identity: %w", err)
		}
		j.client = c
	}
	return nil
}

// haveClient tells whether the store has a certificate of this node that is
// good for a while.
func haveClient(s certificate.Store, node string) bool {
	pair, err := s.Current()
	if err != nil {
		return false
	}
	c, err := leaf(pair)
	return err == nil && c.Subject.CommonName == userName(node) && time.Now().Before(c.NotAfter)
}

// request asks the cluster's signer for a client certificate.
func (j *Joining) request(ctx context.Context, s certificate.Store) error {
	keyPath := filepath.Join(j.Dir, clientPrefix+".key.new")
	key, err := loadKey(keyPath)
	if err != nil {
		return err
	}
	request, err := cert.MakeCSRFromTemplate(key, &x509.CertificateRequest{Subject: subject(j.NodeName)})
	if err != nil {
		return fmt.Errorf("identity: request: %w", err)
	}
	name, err := requestName(key, j.NodeName)
	if err != nil {
		return err
	}
	name, id, err := csr.RequestCertificateWithContext(ctx, j.client, request, name,
		certificatesv1.KubeAPIServerClientKubeletSignerName, nil, certificate.DefaultKubeletClientGetUsages(key), key)
	if err != nil {
		return fmt.Errorf("identity: request: %w", err)
	}
	pem, err := csr.WaitForCertificate(ctx, j.client, name, id)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("identity: request %s was not signed: %w", name, err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return fmt.Errorf("identity: key: %w", err)
	}
	if _, err := s.Update(pem, keyPEM); err != nil {
		return fmt.Errorf("identity: certificate: %w", err)
	}
	if err := os.Remove(keyPath); err != nil {
		return fmt.Errorf("identity: key: %w", err)
	}
	return nil
}

// requestName returns the name of the request for a key, always the same, so
// that a repeated join finds the one it has made.
func requestName(key crypto.Signer, node string) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", fmt.Errorf("identity: key: %w", err)
	}
	sum := sha256.Sum256(append(der, userName(node)...))
	return "node-csr-" + hex.EncodeToString(sum[:16]), nil
}

// writeKubeconfig writes how to reach the API server by the certificate, by
// reference, so that a new one is used without another write.
func (j *Joining) writeKubeconfig(path, pair string) error {
	ca := j.Bootstrap.CAData
	if len(ca) == 0 && j.Bootstrap.CAFile != "" {
		var err error
		if ca, err = os.ReadFile(j.Bootstrap.CAFile); err != nil {
			return fmt.Errorf("identity: CA: %w", err)
		}
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["cluster"] = &clientcmdapi.Cluster{
		Server:                   j.Bootstrap.Host,
		CertificateAuthorityData: ca,
		TLSServerName:            j.Bootstrap.ServerName,
	}
	c.AuthInfos["node"] = &clientcmdapi.AuthInfo{ClientCertificate: pair, ClientKey: pair}
	c.Contexts["node"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: "node"}
	c.CurrentContext = "node"
	b, err := clientcmd.Write(*c)
	if err != nil {
		return fmt.Errorf("identity: kubeconfig: %w", err)
	}
	if err := writeFile(path, b); err != nil {
		return fmt.Errorf("identity: kubeconfig: %w", err)
	}
	return nil
}
