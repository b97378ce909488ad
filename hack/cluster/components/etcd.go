package components

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"reddwarf.io/reddwarf/hack/cluster/config"
)

// etcd is the store: one member, on loopback ports that the system chooses, open
// only to holders of a certificate of its own authority.
type etcd struct {
	config *embed.Config

	mu     sync.Mutex
	server *embed.Etcd // nil until it listens
}

var errNotReady = errors.New("not ready yet")

func newEtcd(c config.Config, logFile string) *etcd {
	cfg := embed.NewConfig()
	cfg.Dir = c.File("etcd")
	loopback := []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = loopback, loopback
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = loopback, loopback
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	own := transport.TLSInfo{
		CertFile: c.PKI("etcd.crt"), KeyFile: c.PKI("etcd.key"),
		TrustedCAFile: c.PKI("etcd-ca.crt"), ClientCertAuth: true,
	}
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = own, own
	cfg.EnableGRPCGateway = false
	cfg.LogLevel = "warn"
	cfg.LogOutputs = []string{logFile}
	cfg.UnsafeNoFsync = true // a power failure may cost a dev cluster its data
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "1h"
	cfg.SnapshotCount = 10000 // entries kept in memory; the default is for big clusters
	return &etcd{config: cfg}
}

func (e *etcd) run(ctx context.Context) error {
	server, err := embed.StartEtcd(e.config)
	if err != nil {
		return err
	}
	defer server.Close()
	e.mu.Lock()
	e.server = server
	e.mu.Unlock()
	select {
	case err := <-server.Err():
		return err
	case <-server.Server.StopNotify():
		return errors.New("server stopped")
	case <-ctx.Done():
		return nil
	}
}

func (e *etcd) check(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server == nil {
		return errNotReady
	}
	select {
	case <-e.server.Server.ReadyNotify():
		return nil
	default:
		return errNotReady
	}
}

// url returns where clients find the store, once check has returned nil.
func (e *etcd) url() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("https://%s", e.server.Clients[0].Addr())
}
