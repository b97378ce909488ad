package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/keyutil"

	"reddwarf.io/reddwarf/hack/testbed"
)

// signTime is how long the cluster may take to sign.
const signTime = time.Minute

// identity gets the node a client certificate, approved by the administrator
// that we are, and writes what the agent needs into a directory of the lab.
func (j joining) identity(ctx context.Context) (testbed.Identity, error) {
	dir := filepath.Join(os.Getenv("REDDWARF_BED"), "identity")
	id := testbed.Identity{Kubeconfig: filepath.Join(dir, "kubeconfig"), ClientCA: filepath.Join(dir, "ca.crt"), Dir: filepath.Join(dir, "serving")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return id, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return id, err
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return id, err
	}
	request, err := cert.MakeCSRFromTemplate(key, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "system:node:" + j.node, Organization: []string{"system:nodes"}},
	})
	if err != nil {
		return id, err
	}
	usages := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	name, uid, err := csr.RequestCertificateWithContext(ctx, j.api, request, "", certificatesv1.KubeAPIServerClientKubeletSignerName, nil, usages, key)
	if err != nil {
		return id, fmt.Errorf("ask for the node's certificate: %w", err)
	}
	if err := j.approve(ctx, name); err != nil {
		return id, err
	}
	ctx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	signed, err := csr.WaitForCertificate(ctx, j.api, name, uid)
	if err != nil {
		return id, fmt.Errorf("the cluster has not signed the node's certificate: %w", err)
	}
	if err := j.writeKubeconfig(id.Kubeconfig, signed, keyPEM); err != nil {
		return id, err
	}
	return id, j.writeClientCA(ctx, id.ClientCA)
}

func (j joining) writeKubeconfig(file string, signed, key []byte) error {
	ca := j.config.CAData
	if len(ca) == 0 && j.config.CAFile != "" {
		var err error
		if ca, err = os.ReadFile(j.config.CAFile); err != nil {
			return err
		}
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["cluster"] = &clientcmdapi.Cluster{Server: j.config.Host, TLSServerName: j.config.ServerName, CertificateAuthorityData: ca}
	c.AuthInfos["node"] = &clientcmdapi.AuthInfo{ClientCertificateData: signed, ClientKeyData: key}
	c.Contexts["node"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: "node"}
	c.CurrentContext = "node"
	return clientcmd.WriteToFile(*c, file)
}

// writeClientCA writes the certificates that sign the API server's own clients.
func (j joining) writeClientCA(ctx context.Context, file string) error {
	m, err := j.api.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("find the cluster's client CA: %w", err)
	}
	ca := m.Data["client-ca-file"]
	if ca == "" {
		return errors.New("the cluster publishes no client CA in kube-system/extension-apiserver-authentication")
	}
	return os.WriteFile(file, []byte(ca), 0o644)
}

func (j joining) approve(ctx context.Context, name string) error {
	requests := j.api.CertificatesV1().CertificateSigningRequests()
	r, err := requests.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "DemoHost", Message: "approved by demo-host",
	})
	_, err = requests.UpdateApproval(ctx, name, r, metav1.UpdateOptions{})
	return err
}

// approveServing approves what this node, and no other, asks for, until ctx ends.
func (j joining) approveServing(ctx context.Context) error {
	for {
		list, err := j.api.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
		if err == nil {
			for _, r := range list.Items {
				if r.Spec.SignerName == certificatesv1.KubeletServingSignerName && r.Spec.Username == "system:node:"+j.node && len(r.Status.Conditions) == 0 {
					err = errors.Join(err, j.approve(ctx, r.Name))
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		if err != nil && !apierrors.IsConflict(err) {
			fmt.Fprintln(os.Stderr, "demo-host: approve the serving certificate:", err)
		}
	}
}

// leave removes the node's object.
func (j joining) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := j.api.CoreV1().Nodes().Delete(ctx, j.node, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (j joining) awaitReady(ctx context.Context, bed *testbed.Bed, host *testbed.Host) error {
	return bed.Eventually(ctx, time.Minute, "the node to be ready", func(ctx context.Context) error {
		n, err := j.api.CoreV1().Nodes().Get(ctx, j.node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("it is not yet; see %s", host.AgentLog())
	})
}
