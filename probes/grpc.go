package probes

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// GRPC passes when the health service at Address (host:port) says that Service
// is serving; "" is the server as a whole.
type GRPC struct {
	Address string
	Service string
	TLS     bool // without verification of the certificate
}

// Check implements Checker.
func (g GRPC) Check(ctx context.Context) (Result, error) {
	limit := allowed(ctx)
	creds := insecure.NewCredentials()
	if g.TLS {
		creds = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) //nolint:gosec // as a kubelet: the check is about life, not identity
	}
	// passthrough: the address is one already, and no proxy stands between.
	var d dialer
	conn, err := grpc.NewClient("passthrough:///"+g.Address, grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(d.dial), grpc.WithUserAgent(UserAgent), grpc.WithDisableServiceConfig())
	if err != nil {
		return Result{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing is sent any more
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx,
		&grpc_health_v1.HealthCheckRequest{Service: g.Service}, grpc.WaitForReady(true))
	if own := d.fault(); err != nil && own != nil {
		return Result{}, own
	}
	if err != nil {
		return Result{Message: fmt.Sprintf("%s: %v", g.reason(conn, err, limit), err)}, nil
	}
	if s := answer.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return Result{Message: fmt.Sprintf("service unhealthy (responded with %q)", s)}, nil
	}
	return Result{Passed: true}, nil
}

// reason classes what went wrong.
func (g GRPC) reason(conn *grpc.ClientConn, err error, limit time.Duration) string {
	switch code := status.Code(err); {
	case code == codes.Unimplemented:
		return "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
	case code == codes.DeadlineExceeded && conn.GetState() != connectivity.Ready:
		return fmt.Sprintf("timeout: failed to connect service %q within %v", g.Address, limit)
	case code == codes.DeadlineExceeded:
		return fmt.Sprintf("timeout: health rpc did not complete within %v", limit)
	}
	return "error: health rpc probe failed"
}

// dialer connects without a proxy, and remembers why it could not if the fault
// was this process's: gRPC hides that and tries on.
type dialer struct {
	mu  sync.Mutex
	own error
}

func (d *dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.own = nil; err != nil && ownFault(err) {
		d.own = err
	}
	return conn, err
}

// fault returns the newest attempt's error if it was this process's.
func (d *dialer) fault() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.own
}
