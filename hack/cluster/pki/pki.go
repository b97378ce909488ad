// Package pki makes the certificates of the dev cluster: small certificate
// authorities and what they sign.
//
// Authorities and signing keys are made once per folder and then kept, so that
// a certificate handed to a node stays valid over a restart of the cluster.
// Everything else is signed afresh at each start, because the addresses in it
// may have changed.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Validity of what is made here. A dev cluster is not meant to grow old.
const (
	authorityYears = 10
	leafYears      = 1
)

// Authority is a certificate authority with its key.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Request says what a certificate is for.
type Request struct {
	CommonName    string
	Organizations []string
	DNSNames      []string
	IPs           []netip.Addr
	Usages        []x509.ExtKeyUsage
}

// Pair is a certificate and its private key, both in PEM.
type Pair struct {
	Cert, Key []byte
}

// EnsureAuthority loads the authority dir/name.{crt,key}, and makes it first if
// neither file is there. One file without the other is an error.
func EnsureAuthority(dir, name, commonName string) (*Authority, error) {
	a, err := LoadAuthority(dir, name)
	if err == nil {
		return a, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, ext := range []string{".crt", ".key"} {
		if _, serr := os.Stat(filepath.Join(dir, name+ext)); serr == nil {
			return nil, fmt.Errorf("authority %s: half of it is missing: %w", name, err)
		}
	}
	pair, err := newAuthority(commonName)
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	if err := pair.Write(dir, name); err != nil {
		return nil, err
	}
	return LoadAuthority(dir, name)
}

// LoadAuthority reads the authority dir/name.{crt,key}.
func LoadAuthority(dir, name string) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, fmt.Errorf("authority %s: %w", name, err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("authority %s: not a certificate authority", name)
	}
	return &Authority{cert: pair.Leaf, key: key}, nil
}

// Cert returns the authority's certificate in PEM.
func (a *Authority) Cert() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// Issue makes a key and signs a certificate for it.
func (a *Authority) Issue(r Request) (Pair, error) {
	template, err := newTemplate(r.CommonName, leafYears)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate %s: %w", r.CommonName, err)
	}
	template.Subject.Organization = r.Organizations
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = r.Usages
	template.DNSNames = r.DNSNames
	for _, ip := range r.IPs {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.Unmap().AsSlice()))
	}
	pair, err := sign(template, a.cert, a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate %s: %w", r.CommonName, err)
	}
	return pair, nil
}

// Write puts the pair into dir/name.crt and dir/name.key, readable by the owner
// only. It replaces what is there.
func (p Pair) Write(dir, name string) error {
	if err := WriteFile(filepath.Join(dir, name+".key"), p.Key); err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, name+".crt"), p.Cert)
}

// EnsureSigningKey makes the key pair dir/name.key, dir/name.pub for signing
// service account tokens, unless it is there.
func EnsureSigningKey(dir, name string) error {
	private, public := filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	_, errPrivate := os.Stat(private)
	_, errPublic := os.Stat(public)
	if errPrivate == nil && errPublic == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("signing key %s: %w", name, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return fmt.Errorf("signing key %s: %w", name, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("signing key %s: %w", name, err)
	}
	if err := WriteFile(private, keyPEM); err != nil {
		return err
	}
	return WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// WriteFile writes data to path through a temporary file beside it, with mode
// 0600, so that a reader never sees half of it.
func WriteFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

func newAuthority(commonName string) (Pair, error) {
	template, err := newTemplate(commonName, authorityYears)
	if err != nil {
		return Pair{}, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	return sign(template, nil, nil)
}

func newTemplate(commonName string, years int) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-time.Hour), // clocks of hosts may be behind
		NotAfter:     now.AddDate(years, 0, 0),
	}, nil
}

// sign makes a key and a certificate of template for it, signed by parent, or
// by itself if parent is nil.
func sign(template, parent *x509.Certificate, parentKey crypto.Signer) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return Pair{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: keyPEM}, nil
}

// encodeKey writes SEC 1, the form that every consumer here reads.
func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
