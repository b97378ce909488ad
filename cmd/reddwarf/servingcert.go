package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// servingCert is a certificate in two files, which somebody else renews.
type servingCert struct {
	certFile, keyFile string

	mu      sync.Mutex
	cert    *tls.Certificate
	changed time.Time // of the newer file, when cert was read
}

// newServingCert fails if the files hold no certificate now.
func newServingCert(certFile, keyFile string) (*servingCert, error) {
	if certFile == "" {
		return nil, errors.New("--tls-cert-file and --tls-private-key-file are required")
	}
	s := &servingCert{certFile: certFile, keyFile: keyFile}
	_, err := s.get()
	return s, err
}

// get returns the certificate, read again if a file has changed. While a new
// pair is only half written, the old one goes on being used.
func (s *servingCert) get() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed, err := newest(s.certFile, s.keyFile)
	if err == nil && s.cert != nil && changed.Equal(s.changed) {
		return s.cert, nil
	}
	if err == nil {
		var cert tls.Certificate
		if cert, err = tls.LoadX509KeyPair(s.certFile, s.keyFile); err == nil {
			s.cert, s.changed = &cert, changed
			return s.cert, nil
		}
	}
	if s.cert != nil {
		return s.cert, nil
	}
	return nil, fmt.Errorf("serving certificate: %w", err)
}

func newest(files ...string) (time.Time, error) {
	var t time.Time
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return t, err
		}
		if info.ModTime().After(t) {
			t = info.ModTime()
		}
	}
	return t, nil
}
