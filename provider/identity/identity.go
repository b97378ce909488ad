// Package identity gets and keeps the certificates of a node: the client
// certificate by which the agent is system:node:NAME to the API server, and
// the serving certificate of the kubelet API. Both come from the cluster's own
// signers, as a kubelet's do.
//
// It is no certificate authority and approves nothing: whoever runs the
// cluster decides that.
//
// Its one surprising rule: a serving certificate is always there. Until the
// cluster has signed one it is self-signed, which clients that verify refuse.
package identity

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/client-go/util/certificate"
	"k8s.io/client-go/util/keyutil"
)

// The prefixes of the files in the identity's directory. "-current.pem" is a
// link to the certificate and key in use.
const (
	clientPrefix  = "node-client"
	servingPrefix = "node-serving"
)

// ErrDirectory means that the directory of certificates is not private.
var ErrDirectory = errors.New("directory of certificates is not private")

// userName is who a node is to the API server, and groupName in which group.
func userName(node string) string { return "system:node:" + node }

const groupName = "system:nodes"

// subject is what certificates of a node are made out to.
func subject(node string) pkix.Name {
	return pkix.Name{CommonName: userName(node), Organization: []string{groupName}}
}

// ensureDir makes the directory that holds keys, with mode 0700. It refuses
// one that others can read: a key that was in there may be known.
func ensureDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("identity: %s: %w: want an absolute path", dir, ErrDirectory)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if !fi.IsDir() || fi.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("identity: %s has mode %v: %w: chmod 700 it, and make new keys if others may have read them", dir, fi.Mode(), ErrDirectory)
	}
	return nil
}

// loadKey returns the private key in a file, making it first if it is absent,
// so that a join that was interrupted goes on with the request it has made.
func loadKey(path string) (crypto.Signer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = keyutil.MakeEllipticPrivateKeyPEM(); err == nil {
			err = writeFile(path, b)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("identity: key: %w", err)
	}
	key, err := keyutil.ParsePrivateKeyPEM(b)
	if err != nil {
		return nil, fmt.Errorf("identity: key %s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("identity: key %s: a %T cannot sign", path, key)
	}
	return signer, nil
}

// writeFile replaces a file that only root reads, so that a crash leaves the
// old or the new one.
func writeFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// leaf returns the parsed certificate of a pair.
func leaf(pair *tls.Certificate) (*x509.Certificate, error) {
	if pair.Leaf != nil {
		return pair.Leaf, nil
	}
	if len(pair.Certificate) == 0 {
		return nil, errors.New("no certificate")
	}
	return x509.ParseCertificate(pair.Certificate[0])
}

// store returns where the library keeps the pairs of one prefix.
func store(dir, prefix string) (certificate.FileStore, error) {
	s, err := certificate.NewFileStore(prefix, dir, dir, "", "")
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return s, nil
}
