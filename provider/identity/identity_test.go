package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/keyutil"
)

func joining(t *testing.T, a *authority) Joining {
	t.Helper()
	return Joining{
		NodeName:  "host1",
		Bootstrap: &rest.Config{Host: "https://198.51.100.1:6443", TLSClientConfig: rest.TLSClientConfig{CAData: a.pem()}},
		Dir:       filepath.Join(t.TempDir(), "pki"),
		client:    a.client(),
	}
}

func TestJoin(t *testing.T) {
	a := newAuthority(t)
	j := joining(t, a)
	path, err := Join(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.asked()) != 1 || a.asked()[0].SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		t.Fatalf("requests: %+v", a.asked())
	}
	c, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "https://198.51.100.1:6443" || c.BearerToken != "" || string(c.CAData) != string(a.pem()) {
		t.Errorf("kubeconfig: %+v", c)
	}
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := leaf(&pair)
	if err != nil || l.Subject.CommonName != "system:node:host1" || len(l.Subject.Organization) != 1 || l.Subject.Organization[0] != "system:nodes" {
		t.Errorf("certificate for %v, %v", l.Subject, err)
	}
	checkPrivate(t, j.Dir)

	// Again: nothing is asked for.
	if _, err := Join(t.Context(), j); err != nil || len(a.asked()) != 1 {
		t.Errorf("a repeated join: %v after %d requests", err, len(a.asked()))
	}
	j.NodeName, j.client = "host2", a.client() // another identity
	if _, err := Join(t.Context(), j); err != nil || len(a.asked()) != 2 {
		t.Errorf("a join as another node: %v after %d requests", err, len(a.asked()))
	}
}

// checkPrivate fails if anybody else can read what is in dir.
func checkPrivate(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil && fi.Mode()&fs.ModeSymlink == 0 && fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", p, fi.Mode())
		}
		if strings.HasSuffix(p, ".new") {
			t.Errorf("left behind: %s", p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestJoinGoesOn ends a join while its request waits for approval, and expects
// the next one to find the same request.
func TestJoinGoesOn(t *testing.T) {
	a := newAuthority(t)
	j := joining(t, a)
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	a.leave = func() { cancel(interrupted) }
	if _, err := Join(ctx, j); !errors.Is(err, interrupted) {
		t.Fatalf("Join = %v, want the interruption", err)
	}
	a.leave = nil
	a.decideAll(t, j.client)
	if _, err := Join(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, r := range a.asked() {
		keys[publicKey(t, r.Request)] = true
	}
	if len(keys) != 1 {
		t.Errorf("%d requests with %d keys, want the same key each time", len(a.asked()), len(keys))
	}
}

func publicKey(t *testing.T, request []byte) string {
	t.Helper()
	block, _ := pem.Decode(request)
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return string(r.RawSubjectPublicKeyInfo)
}

func TestJoinDenied(t *testing.T) {
	a := newAuthority(t)
	a.deny = true
	j := joining(t, a)
	if _, err := Join(t.Context(), j); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("Join = %v, want the denial", err)
	}
	if _, err := os.Stat(filepath.Join(j.Dir, "kubeconfig")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a kubeconfig was written: %v", err)
	}
}

func TestJoinRefuses(t *testing.T) {
	a := newAuthority(t)
	for name, edit := range map[string]func(*Joining){
		"no name":      func(j *Joining) { j.NodeName = "" },
		"no server":    func(j *Joining) { j.Bootstrap = nil },
		"insecure":     func(j *Joining) { j.Bootstrap.Insecure = true },
		"relative dir": func(j *Joining) { j.Dir = "pki" },
	} {
		j := joining(t, a)
		edit(&j)
		if _, err := Join(t.Context(), j); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	j := joining(t, a)
	if err := os.MkdirAll(j.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), j); !errors.Is(err, ErrDirectory) {
		t.Errorf("a public directory: %v, want ErrDirectory", err)
	}
	if len(a.asked()) != 0 {
		t.Errorf("%d requests were made", len(a.asked()))
	}
}

func TestRotate(t *testing.T) {
	a := newAuthority(t)
	a.life = time.Second // so the next one is due at once
	j := joining(t, a)
	if _, err := Join(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	a.life = time.Hour
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- Rotate(ctx, j.client, "host1", j.Dir) }()
	path := filepath.Join(j.Dir, clientPrefix+"-current.pem")
	for {
		pair, err := tls.LoadX509KeyPair(path, path)
		if err != nil {
			t.Error(err)
			break
		}
		if l, err := leaf(&pair); err != nil || time.Until(l.NotAfter) > time.Minute {
			break
		}
		if ctx.Err() != nil {
			t.Error("the certificate was not renewed")
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Rotate = %v", err)
	}
	if err := Rotate(t.Context(), j.client, "host1", t.TempDir()+"/empty"); err == nil {
		t.Error("Rotate of nothing succeeded")
	}
}

// names is a set of names that can change.
type names struct {
	mu sync.Mutex
	n  Names
}

func (n *names) get() Names {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.n
}

func (n *names) set(v Names) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.n = v
}

func TestServingIsSignedByTheCluster(t *testing.T) {
	a := newAuthority(t)
	c := ServingConfig{
		NodeName: "host1", Client: a.client(), Dir: filepath.Join(t.TempDir(), "pki"),
		Names: func() Names {
			return Names{DNS: []string{"host1"}, IPs: []netip.Addr{netip.MustParseAddr("198.51.100.11")}}
		},
	}
	s, err := NewServing(c)
	if err != nil {
		t.Fatal(err)
	}
	if s.Signed() || verify(t, s, a, "host1") == nil {
		t.Error("there is a signed certificate before anybody signed one")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	for !s.Signed() && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	for _, name := range []string{"host1", "198.51.100.11"} {
		if err := verify(t, s, a, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	cancel()
	<-ended
	if r := a.asked(); len(r) != 1 || r[0].SignerName != certificatesv1.KubeletServingSignerName {
		t.Errorf("requests: %+v", r)
	}
	checkPrivate(t, c.Dir)

	again, err := NewServing(c) // a restarted agent
	if err != nil || !again.Signed() || verify(t, again, a, "host1") != nil {
		t.Errorf("after a restart: %v, signed = %v", err, again.Signed())
	}
}

// verify checks the certificate as a client that trusts the authority does.
func verify(t *testing.T, s *Serving, a *authority, name string) error {
	t.Helper()
	pair, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := leaf(pair)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	_, err = l.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
	return err
}

func TestServingSelfSigned(t *testing.T) {
	n := &names{}
	n.set(Names{IPs: []netip.Addr{netip.MustParseAddr("fd00::1")}})
	s, err := NewServing(ServingConfig{NodeName: "host1", Names: n.get})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Certificate()
	if err != nil || first.Leaf.VerifyHostname("fd00::1") != nil || s.Signed() {
		t.Fatalf("certificate: %v", err)
	}
	if same, err := s.Certificate(); err != nil || same != first {
		t.Errorf("another certificate for every connection: %v", err)
	}
	n.set(Names{DNS: []string{"new"}})
	if other, err := s.Certificate(); err != nil || other.Leaf.VerifyHostname("new") != nil {
		t.Errorf("a changed name is not in the certificate: %v", err)
	}
}

func TestServingFiles(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	put := func(name string) {
		t.Helper()
		pair, err := signSelf(name, Names{DNS: []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		key, err := keyutil.MarshalPrivateKeyToPEM(pair.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(writeFile(certFile, pemCert(pair.Certificate[0])), writeFile(keyFile, key)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewServing(ServingConfig{CertFile: certFile, KeyFile: keyFile}); err == nil {
		t.Error("files that are not there were accepted")
	}
	if _, err := NewServing(ServingConfig{CertFile: certFile}); err == nil {
		t.Error("a certificate without a key was accepted")
	}
	put("one")
	s, err := NewServing(ServingConfig{CertFile: certFile, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		pair, err := s.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		if l, err := leaf(pair); err != nil || l.VerifyHostname(want) != nil {
			t.Errorf("certificate for %v, want %s", l.DNSNames, want)
		}
	}
	check("one")
	put("two")
	check("two")
	write(t, certFile, "half a certif")
	check("two") // while it is being replaced
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	check("two")
	put("three")
	check("three")
}

func pemCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
