package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test-ca"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue returns a certificate for name, with one usage. edit may change it.
func (a *authority) issue(t *testing.T, name string, serial int64, usage x509.ExtKeyUsage, edit ...func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, KeyUsage: x509.KeyUsageDigitalSignature,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	for _, e := range edit {
		e(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// rights are what fakeAPI grants: "user verb subresource", or "@group verb
// subresource".
type rights []string

// to reports whether the user or one of its groups has the right.
func (r rights) to(user string, groups []string, right string) bool {
	return slices.Contains(r, user+" "+right) ||
		slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(r, "@"+g+" "+right) })
}

// fakeAPI answers reviews over HTTP, as an API server does. The token "T-name" is
// that of user name, for the API server itself; "V-name" is one that was made
// for the audience vault. While broken is set it fails.
type fakeAPI struct {
	granted rights
	mu      sync.Mutex
	broken  bool
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	var answer any
	switch r.URL.Path {
	case "/apis/authentication.k8s.io/v1/tokenreviews":
		var review authenticationv1.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if name, ok := strings.CutPrefix(review.Spec.Token, "T-"); ok {
			review.Status.Authenticated = true
			review.Status.User.Username = name
			review.Status.User.Groups = []string{"token-users"}
		}
		if name, ok := strings.CutPrefix(review.Spec.Token, "V-"); ok {
			if slices.Contains(review.Spec.Audiences, "vault") { // somebody asked for it
				review.Status.Authenticated, review.Status.Audiences = true, []string{"vault"}
				review.Status.User.Username = name
			} else {
				review.Status.Error = "token audiences [\"vault\"] is invalid for the target audiences [\"api\"]"
			}
		}
		answer = review
	case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
		var review authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a := review.Spec.ResourceAttributes
		review.Status.Allowed = a != nil && a.Resource == "nodes" && a.Name == "node-1" && a.Group == "" && a.Namespace == "" &&
			f.granted.to(review.Spec.User, review.Spec.Groups, a.Verb+" "+a.Subresource)
		answer = review
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer) //nolint:errcheck // the test fails by itself
}

// harness is a running server with its surroundings.
type harness struct {
	url   string
	ca    *authority
	api   *fakeAPI
	pods  *fakePods
	stop  context.CancelFunc // ends the server
	ended chan error         // what Serve returned
	certs struct {
		sync.Mutex
		serving *tls.Certificate
	}
}

// start runs a server in which user "admin" may do everything, and others what is
// granted.
func start(t *testing.T, granted ...string) *harness {
	t.Helper()
	return startWith(t, nil, granted...)
}

// startWith is start with a client CA of its own; nil is the harness's.
func startWith(t *testing.T, clientCA func() (x509.VerifyOptions, bool), granted ...string) *harness {
	t.Helper()
	h := &harness{ca: newAuthority(t), pods: newFakePods(), ended: make(chan error, 1)}
	h.api = &fakeAPI{granted: append(rights{"admin get proxy", "admin create proxy", "admin get stats", "admin get metrics", "admin get log"}, granted...)}
	apiServer := httptest.NewServer(h.api)
	t.Cleanup(apiServer.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: apiServer.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	if clientCA == nil {
		ca, err := dynamiccertificates.NewStaticCAContent("test", h.ca.pem())
		if err != nil {
			t.Fatal(err)
		}
		clientCA = ca.VerifyOptions
	}
	auth, err := NewAuth(client, clientCA)
	if err != nil {
		t.Fatal(err)
	}
	h.certs.serving = h.ca.issue(t, "node-1", 2, x509.ExtKeyUsageServerAuth)
	s, err := New(Config{
		NodeName: "node-1", Pods: h.pods, Auth: auth,
		Certificate: func() (*tls.Certificate, error) {
			h.certs.Lock()
			defer h.certs.Unlock()
			return h.certs.serving, nil
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metric 1\n") }), //nolint:errcheck // the test fails by itself
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.url = "https://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ended <- s.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return h
}

// restConfig returns a client configuration for the user with a certificate.
func (h *harness) restConfig(t *testing.T, user string) *rest.Config {
	t.Helper()
	cert := h.ca.issue(t, user, 3, x509.ExtKeyUsageClientAuth)
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return &rest.Config{
		Host: h.url,
		TLSClientConfig: rest.TLSClientConfig{
			CAData:   h.ca.pem(),
			CertData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
			KeyData:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		},
	}
}

// client returns an HTTP client that shows certs and does not follow redirects.
func (h *harness) client(t *testing.T, certs ...*tls.Certificate) *http.Client {
	t.Helper()
	c := &tls.Config{RootCAs: h.ca.pool(), MinVersion: tls.VersionTLS12}
	for _, cert := range certs {
		c.Certificates = append(c.Certificates, *cert)
	}
	transport := &http.Transport{TLSClientConfig: c}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// admin returns an HTTP client that may do everything.
func (h *harness) admin(t *testing.T) *http.Client {
	t.Helper()
	return h.client(t, h.ca.issue(t, "admin", 4, x509.ExtKeyUsageClientAuth))
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// fakePods has the pods ns/web (running, containers c and side, init container
// setup) and ns/done. What it does with streams is up to the test.
type fakePods struct {
	logs    func(ctx context.Context, o LogOptions) (io.ReadCloser, error)
	exec    func(ctx context.Context, container string, cmd []string, a AttachIO) error
	forward func(ctx context.Context, port int32, stream io.ReadWriteCloser) error
}

func newFakePods() *fakePods {
	return &fakePods{
		logs: func(_ context.Context, _ LogOptions) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader([]byte("hello\n"))), nil
		},
		exec: func(context.Context, string, []string, AttachIO) error { return errdefs.InvalidInput("not set") },
		forward: func(_ context.Context, _ int32, s io.ReadWriteCloser) error {
			defer s.Close() //nolint:errcheck // the end of the test's stream
			_, err := io.Copy(s, s)
			return err
		},
	}
}

func (*fakePods) Pods() []*corev1.Pod {
	return []*corev1.Pod{
		{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "uid-1"},
			Spec: corev1.PodSpec{
				Containers:     []corev1.Container{{Name: "c"}, {Name: "side"}},
				InitContainers: []corev1.Container{{Name: "setup"}},
			},
			Status: corev1.PodStatus{Phase: corev1.PodRunning},
		},
		{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "done", UID: "uid-2"},
			Status:     corev1.PodStatus{Phase: corev1.PodSucceeded},
		},
	}
}

func (f *fakePods) Logs(ctx context.Context, _, _, _ string, o LogOptions) (io.ReadCloser, error) {
	return f.logs(ctx, o)
}

func (f *fakePods) Exec(ctx context.Context, _, _, container string, cmd []string, a AttachIO) error {
	return f.exec(ctx, container, cmd, a)
}

func (f *fakePods) Attach(ctx context.Context, _, _, container string, a AttachIO) error {
	return f.exec(ctx, container, []string{"attached"}, a)
}

func (f *fakePods) PortForward(ctx context.Context, _, _ string, port int32, s io.ReadWriteCloser) error {
	return f.forward(ctx, port, s)
}

func (*fakePods) StatsSummary(context.Context) (*statsv1alpha1.Summary, error) {
	return &statsv1alpha1.Summary{Node: statsv1alpha1.NodeStats{NodeName: "node-1"}}, nil
}
