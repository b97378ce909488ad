package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"reddwarf.io/reddwarf/hack/cluster/pki"
)

// Names of the identities that have a kubeconfig in the cluster's folder.
const (
	Admin             = "admin"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

// KubeletClientUser is the API server's name towards kubelets. It is in no
// group, so that a node's authorizer is really asked about it.
const KubeletClientUser = "kube-apiserver-kubelet-client"

var (
	forClient = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	forServer = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	forBoth   = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

// WriteCredentials makes the cluster's folder, its authorities and keys unless
// they are there, and its certificates and kubeconfigs afresh.
func (c Config) WriteCredentials() error {
	dir := filepath.Join(c.Dir, "pki")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	for _, d := range []string{c.Dir, dir} { // they may be older than this run
		if err := os.Chmod(d, 0o700); err != nil {
			return fmt.Errorf("credentials: %w", err)
		}
	}
	cluster, err := pki.EnsureAuthority(dir, "ca", "reddwarf-dev-ca")
	if err != nil {
		return err
	}
	frontProxy, err := pki.EnsureAuthority(dir, "front-proxy-ca", "reddwarf-dev-front-proxy-ca")
	if err != nil {
		return err
	}
	etcd, err := pki.EnsureAuthority(dir, "etcd-ca", "reddwarf-dev-etcd-ca")
	if err != nil {
		return err
	}
	if err := pki.EnsureSigningKey(dir, "sa"); err != nil {
		return err
	}
	loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	for _, leaf := range []struct {
		file   string
		signer *pki.Authority
		pki.Request
	}{
		{"apiserver", cluster, pki.Request{CommonName: "kube-apiserver", DNSNames: serverNames(), IPs: c.serverIPs(), Usages: forServer}},
		{"components", cluster, pki.Request{CommonName: "reddwarf-dev-components", DNSNames: []string{"localhost"}, IPs: loopback, Usages: forServer}},
		{"apiserver-kubelet-client", cluster, pki.Request{CommonName: KubeletClientUser, Usages: forClient}},
		{"front-proxy-client", frontProxy, pki.Request{CommonName: "front-proxy-client", Usages: forClient}},
		{"etcd", etcd, pki.Request{CommonName: "etcd", DNSNames: []string{"localhost"}, IPs: loopback, Usages: forBoth}},
	} {
		pair, err := leaf.signer.Issue(leaf.Request)
		if err != nil {
			return err
		}
		if err := pair.Write(dir, leaf.file); err != nil {
			return err
		}
	}
	return c.writeKubeconfigs(cluster)
}

func (c Config) writeKubeconfigs(cluster *pki.Authority) error {
	for name, r := range map[string]pki.Request{
		Admin:             {CommonName: "kubernetes-admin", Organizations: []string{"system:masters"}},
		ControllerManager: {CommonName: "system:kube-controller-manager"},
		Scheduler:         {CommonName: "system:kube-scheduler"},
	} {
		r.Usages = forClient
		pair, err := cluster.Issue(r)
		if err != nil {
			return err
		}
		data, err := Kubeconfig(c.LocalURL(), name, cluster.Cert(), pair)
		if err != nil {
			return err
		}
		if err := pki.WriteFile(c.Kubeconfig(name), data); err != nil {
			return err
		}
	}
	return nil
}

// Kubeconfig returns a kubeconfig that holds its certificates itself.
func Kubeconfig(server, user string, ca []byte, pair pki.Pair) ([]byte, error) {
	const name = "reddwarf-dev"
	k := clientcmdapi.NewConfig()
	k.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	k.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.Cert, ClientKeyData: pair.Key}
	k.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	k.CurrentContext = name
	data, err := clientcmd.Write(*k)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of %s: %w", user, err)
	}
	return data, nil
}

// WithServer returns the kubeconfig in data with every cluster at server.
func WithServer(data []byte, server string) ([]byte, error) {
	k, err := clientcmd.Load(data)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	for _, cluster := range k.Clusters {
		cluster.Server = server
	}
	out, err := clientcmd.Write(*k)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return out, nil
}

// Node is a request for the credentials of a node.
type Node struct {
	Name string
	IP   netip.Addr // its InternalIP, where the API server calls its kubelet API
}

// WriteNode puts into dir what node needs: kubeconfig (its client certificate as
// system:node:NAME, server as the API server), ca.crt, and kubelet.crt and
// kubelet.key for serving. clusterDir is the folder of the cluster.
func WriteNode(clusterDir, dir, server string, node Node) error {
	if node.Name == "" || !node.IP.IsValid() {
		return errors.New("node credentials: a name and an address are needed")
	}
	cluster, err := pki.LoadAuthority(filepath.Join(clusterDir, "pki"), "ca")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("node credentials: %w", err)
	}
	user := "system:node:" + node.Name
	groups := []string{"system:nodes"}
	client, err := cluster.Issue(pki.Request{CommonName: user, Organizations: groups, Usages: forClient})
	if err != nil {
		return err
	}
	serving, err := cluster.Issue(pki.Request{
		CommonName: user, Organizations: groups, Usages: forServer,
		DNSNames: []string{node.Name}, IPs: []netip.Addr{node.IP},
	})
	if err != nil {
		return err
	}
	kubeconfig, err := Kubeconfig(server, user, cluster.Cert(), client)
	if err != nil {
		return err
	}
	if err := serving.Write(dir, "kubelet"); err != nil {
		return err
	}
	if err := pki.WriteFile(filepath.Join(dir, "ca.crt"), cluster.Cert()); err != nil {
		return err
	}
	return pki.WriteFile(filepath.Join(dir, "kubeconfig"), kubeconfig)
}

// serverNames are the names that pods use for the API server.
func serverNames() []string {
	return []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local",
	}
}

// serverIPs has loopback always: a relay there leads in from outside the lab.
func (c Config) serverIPs() []netip.Addr {
	ips := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), c.ServiceIP()}
	if !c.Bind.IsUnspecified() {
		ips = append(ips, c.Bind)
	}
	if c.Advertise.IsValid() {
		ips = append(ips, c.Advertise)
	}
	return ips
}
