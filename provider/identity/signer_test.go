package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// authority is a CA, and a cluster's signer that approves what it is asked for
// unless told not to.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	life time.Duration

	mu       sync.Mutex
	deny     bool
	leave    func() // called instead of an answer, when set
	requests []certificatesv1.CertificateSigningRequestSpec
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: c, key: key, life: time.Hour}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// client returns a client of an API server with this signer.
func (a *authority) client() *fake.Clientset {
	c := fake.NewClientset()
	c.PrependReactor("create", "certificatesigningrequests", func(action clienttesting.Action) (bool, runtime.Object, error) {
		r := action.(clienttesting.CreateAction).GetObject().(*certificatesv1.CertificateSigningRequest).DeepCopy()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.requests = append(a.requests, r.Spec)
		if r.Name == "" {
			r.Name = fmt.Sprint(r.GenerateName, len(a.requests))
		}
		r.UID = types.UID(r.Name)
		if a.leave != nil {
			a.leave()
		} else if err := a.decide(r); err != nil {
			return true, nil, err
		}
		return true, r, c.Tracker().Create(certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests"), r, "")
	})
	return c
}

// decide approves and signs a request, or denies it.
func (a *authority) decide(r *certificatesv1.CertificateSigningRequest) error {
	kind := certificatesv1.CertificateApproved
	if a.deny {
		kind = certificatesv1.CertificateDenied
	}
	r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: kind, Status: corev1.ConditionTrue, Reason: "Test"}}
	if a.deny {
		return nil
	}
	b, err := a.sign(r.Spec.Request)
	r.Status.Certificate = b
	return err
}

// decideAll does so with the requests that were left.
func (a *authority) decideAll(t *testing.T, c kubernetes.Interface) {
	t.Helper()
	requests := c.CertificatesV1().CertificateSigningRequests()
	l, err := requests.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Items {
		if err := a.decide(&l.Items[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := requests.UpdateStatus(t.Context(), &l.Items[i], metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (a *authority) sign(request []byte) ([]byte, error) {
	block, _ := pem.Decode(request)
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: r.Subject, DNSNames: r.DNSNames, IPAddresses: r.IPAddresses,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(a.life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, r.PublicKey, a.key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

func (a *authority) asked() []certificatesv1.CertificateSigningRequestSpec {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}
