package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	tokenID     = "abcdef"
	tokenSecret = "0123456789abcdef"
)

// public is an API server that shows cluster-info to all.
type public struct {
	*httptest.Server
	ca     *authority
	data   map[string]string
	tokens []string // what came as Authorization
}

func newPublic(t *testing.T) *public {
	t.Helper()
	p := &public{ca: newAuthority(t)}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			p.tokens = append(p.tokens, h)
		}
		if r.URL.Path != "/api/v1/namespaces/kube-public/configmaps/cluster-info" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		m := corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}, Data: p.data}
		_ = json.NewEncoder(w).Encode(m)
	}))
	p.TLS = &tls.Config{Certificates: []tls.Certificate{serverPair(t, p.ca)}}
	p.StartTLS()
	t.Cleanup(p.Close)
	p.publish(t, p.ca.pem(), tokenID, tokenSecret)
	return p
}

func serverPair(t *testing.T, a *authority) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(9), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// publish sets what the server shows, signed with a token.
func (p *public) publish(t *testing.T, ca []byte, id, secret string) {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters[""] = &clientcmdapi.Cluster{Server: p.URL, CertificateAuthorityData: ca}
	b, err := clientcmd.Write(*c)
	if err != nil {
		t.Fatal(err)
	}
	p.data = map[string]string{"kubeconfig": string(b), "jws-kubeconfig-" + id: jws(string(b), id, secret, "HS256")}
}

func jws(content, id, secret, alg string) string {
	enc := base64.RawURLEncoding.EncodeToString
	head := enc([]byte(`{"alg":"` + alg + `","kid":"` + id + `"}`))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(head + "." + enc([]byte(content))))
	return head + ".." + enc(mac.Sum(nil))
}

func (p *public) discovery() Discovery {
	return Discovery{Server: p.URL, Token: tokenID + "." + tokenSecret, CAHashes: []string{HashCA(p.ca.cert)}}
}

func TestDiscover(t *testing.T) {
	p := newPublic(t)
	other := newAuthority(t)
	p.publish(t, append(other.pem(), p.ca.pem()...), tokenID, tokenSecret)
	c, err := Discover(t.Context(), p.discovery())
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != p.URL || c.BearerToken != tokenID+"."+tokenSecret || c.Insecure {
		t.Errorf("config: %+v", c)
	}
	if block, rest := pem.Decode(c.CAData); block == nil || string(block.Bytes) != string(p.ca.cert.Raw) || len(rest) > 0 {
		t.Errorf("trusts more than the certificate whose hash was given: %s", c.CAData)
	}
	if len(p.tokens) > 0 {
		t.Errorf("the token was sent to a server that had not proved itself: %q", p.tokens)
	}
}

func TestDiscoverRefuses(t *testing.T) {
	evil := newAuthority(t)
	for _, tt := range []struct {
		name      string
		edit      func(*public, *Discovery)
		untrusted bool
	}{
		{"no hash", func(_ *public, d *Discovery) { d.CAHashes = nil }, false},
		{"bad hash", func(_ *public, d *Discovery) { d.CAHashes = []string{"sha256:xyz"} }, false},
		{"bad token", func(_ *public, d *Discovery) { d.Token = "abcdef" }, false},
		{"plain HTTP", func(p *public, d *Discovery) { d.Server = strings.Replace(p.URL, "https", "http", 1) }, false},
		{"another CA's hash", func(_ *public, d *Discovery) { d.CAHashes = []string{HashCA(evil.cert)} }, true},
		{"another secret", func(_ *public, d *Discovery) { d.Token = tokenID + ".aaaaaaaaaaaaaaaa" }, true},
		{"unknown token", func(_ *public, d *Discovery) { d.Token = "zzzzzz." + tokenSecret }, true},
		{"changed content", func(p *public, _ *Discovery) { p.data["kubeconfig"] += "\n# x" }, true},
		{"no algorithm", func(p *public, _ *Discovery) {
			p.data["jws-kubeconfig-"+tokenID] = jws(p.data["kubeconfig"], tokenID, tokenSecret, "none")
		}, true},
		{"the server has not the CA's certificate", func(p *public, d *Discovery) {
			p.publish(t, evil.pem(), tokenID, tokenSecret)
			d.CAHashes = []string{HashCA(evil.cert)}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPublic(t)
			d := p.discovery()
			tt.edit(p, &d)
			c, err := Discover(t.Context(), d)
			if err == nil || errors.Is(err, ErrUntrusted) != tt.untrusted {
				t.Errorf("Discover = %+v, %v, want untrusted = %v", c, err, tt.untrusted)
			}
			if len(p.tokens) > 0 {
				t.Errorf("the token was sent: %q", p.tokens)
			}
		})
	}
}

// FuzzSigned checks that nothing counts as a signature but what was made with
// the secret.
func FuzzSigned(f *testing.F) {
	f.Add("content", "a..b")
	f.Add("content", jws("content", tokenID, "ffffffffffffffff", "HS256"))
	f.Add("", jws("", tokenID, "", "HS256"))
	f.Fuzz(func(t *testing.T, content, signature string) {
		if signed(content, signature, tokenID, tokenSecret) {
			t.Errorf("%q is taken for a signature of %q", signature, content)
		}
	})
}
