package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"sync"
	"syscall"
	"time"
)

// selfSignedLife is how long a certificate is good that we sign ourselves. A
// new one is made when half of it is over.
const selfSignedLife = 365 * 24 * time.Hour

// pairFiles is a certificate and its key in files that somebody else renews.
type pairFiles struct {
	certFile, keyFile string

	mu   sync.Mutex
	seen [2]stamp // of the files when they were last read
	good *tls.Certificate
}

// stamp changes when a file is replaced or written. A file that was renamed
// into place may have the same size and, on a coarse clock, the same time.
type stamp struct {
	modified int64 // nanoseconds
	size     int64
	inode    uint64
}

func stampOf(fi fs.FileInfo) stamp {
	s := stamp{modified: fi.ModTime().UnixNano(), size: fi.Size()}
	if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

func newPairFiles(certFile, keyFile string) (*pairFiles, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("identity: serving certificate: certificate and key file go together")
	}
	f := &pairFiles{certFile: certFile, keyFile: keyFile}
	if _, err := f.pair(); err != nil {
		return nil, err
	}
	return f, nil
}

// pair returns what is in the files. While they are being replaced, and do not
// fit each other, it is what was in them before.
func (f *pairFiles) pair() (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := f.stamps()
	if err == nil && f.good != nil && now == f.seen {
		return f.good, nil
	}
	if err == nil {
		var c tls.Certificate
		if c, err = tls.LoadX509KeyPair(f.certFile, f.keyFile); err == nil {
			f.good, f.seen = &c, now
		}
	}
	if f.good != nil {
		return f.good, nil
	}
	return nil, fmt.Errorf("identity: serving certificate: %w", err)
}

func (f *pairFiles) stamps() (s [2]stamp, err error) {
	for i, path := range []string{f.certFile, f.keyFile} {
		fi, err := os.Stat(path)
		if err != nil {
			return s, err
		}
		s[i] = stampOf(fi)
	}
	return s, nil
}

// selfSigned is a certificate of our own making, for the names of the moment.
type selfSigned struct {
	node  string
	names func() Names

	mu   sync.Mutex
	made *tls.Certificate
	raw  []byte // the request that it was made for, to see a change
}

func (s *selfSigned) pair() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names()
	raw := fmt.Appendf(nil, "%q %v", n.DNS, n.IPs)
	if s.made != nil && bytes.Equal(raw, s.raw) && time.Until(s.made.Leaf.NotAfter) > selfSignedLife/2 {
		return s.made, nil
	}
	c, err := signSelf(s.node, n)
	if err != nil {
		return nil, fmt.Errorf("identity: self-signed certificate: %w", err)
	}
	s.made, s.raw = c, raw
	return c, nil
}

func signSelf(node string, n Names) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject(node),
		DNSNames:     n.DNS,
		IPAddresses:  n.ips(),
		NotBefore:    time.Now().Add(-time.Hour), // clocks differ
		NotAfter:     time.Now().Add(selfSignedLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, nil
}
