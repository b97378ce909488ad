package probes

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// TCP passes when a connection to Address (host:port) is accepted. Nothing is
// sent.
type TCP struct{ Address string }

// Check implements Checker.
func (t TCP) Check(ctx context.Context) (Result, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return failed(err)
	}
	conn.Close() //nolint:errcheck // nothing was sent that could be lost
	return Result{Passed: true}, nil
}

// failed tells the service's failures from this process's own, which say
// nothing about the service.
func failed(err error) (Result, error) {
	if ownFault(err) {
		return Result{}, err
	}
	return Result{Message: err.Error()}, nil
}

// ownFault reports whether a connection failed because this process has too
// many files open, too little memory or no free port.
func ownFault(err error) bool {
	for _, own := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}
