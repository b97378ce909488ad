package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestIssue(t *testing.T) {
	a, err := EnsureAuthority(t.TempDir(), "ca", "test-ca")
	if err != nil {
		t.Fatal(err)
	}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, tt := range []struct {
		name     string
		request  Request
		host     string // to verify for; empty means any
		usage    x509.ExtKeyUsage
		wantFail bool
	}{
		{"dns name", Request{DNSNames: []string{"node.example"}, Usages: server}, "node.example", x509.ExtKeyUsageServerAuth, false},
		{"other dns name", Request{DNSNames: []string{"node.example"}, Usages: server}, "other.example", x509.ExtKeyUsageServerAuth, true},
		{"address", Request{IPs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}, Usages: server}, "198.51.100.1", x509.ExtKeyUsageServerAuth, false},
		{"mapped address", Request{IPs: []netip.Addr{netip.MustParseAddr("::ffff:198.51.100.1")}, Usages: server}, "198.51.100.1", x509.ExtKeyUsageServerAuth, false},
		{"other address", Request{IPs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}, Usages: server}, "198.51.100.2", x509.ExtKeyUsageServerAuth, true},
		{"client", Request{CommonName: "system:node:a", Organizations: []string{"system:nodes"}, Usages: client}, "", x509.ExtKeyUsageClientAuth, false},
		{"client is no server", Request{DNSNames: []string{"a"}, Usages: client}, "a", x509.ExtKeyUsageServerAuth, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pair, err := a.Issue(tt.request)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := tls.X509KeyPair(pair.Cert, pair.Key)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(a.Cert()) {
				t.Fatal("authority has no certificate")
			}
			_, err = parsed.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: tt.host, KeyUsages: []x509.ExtKeyUsage{tt.usage}})
			if (err != nil) != tt.wantFail {
				t.Errorf("verify = %v, want failure: %v", err, tt.wantFail)
			}
			if got := parsed.Leaf.Subject; got.CommonName != tt.request.CommonName || len(got.Organization) != len(tt.request.Organizations) {
				t.Errorf("subject = %v", got)
			}
		})
	}
}

func TestAuthoritiesDoNotMix(t *testing.T) {
	dir := t.TempDir()
	a, err := EnsureAuthority(dir, "a", "same")
	if err != nil {
		t.Fatal(err)
	}
	b, err := EnsureAuthority(dir, "b", "same")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := b.Issue(Request{CommonName: "x", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Cert())
	if _, err := parsed.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("a certificate of one authority verifies with another")
	}
}

func TestEnsureAuthorityKeeps(t *testing.T) {
	dir := t.TempDir()
	first, err := EnsureAuthority(dir, "ca", "x")
	if err != nil {
		t.Fatal(err)
	}
	second, err := EnsureAuthority(dir, "ca", "x")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Cert(), second.Cert()) {
		t.Error("the authority was made again")
	}
	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureAuthority(dir, "ca", "x"); err == nil || !strings.Contains(err.Error(), "half of it is missing") {
		t.Errorf("without its key: %v", err)
	}
}

func TestLoadAuthorityRefusesLeaf(t *testing.T) {
	dir := t.TempDir()
	a, err := EnsureAuthority(dir, "ca", "x")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := a.Issue(Request{CommonName: "leaf"})
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Write(dir, "leaf"); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAuthority(dir, "leaf"); err == nil {
		t.Error("a leaf certificate was taken as an authority")
	}
}

func TestSigningKeyKeptAndPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := EnsureSigningKey(dir, "sa"); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(dir, "sa.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := EnsureSigningKey(dir, "sa"); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(dir, "sa.key"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the key was made again")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("%d files, want 2 and no temporary ones", len(entries))
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}
