package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/component-base/metrics/legacyregistry"

	"reddwarf.io/reddwarf/provider"
	"reddwarf.io/reddwarf/provider/identity"
	"reddwarf.io/reddwarf/provider/server"
)

// keepIdentity renews the client certificate that `reddwarf join` got. Without
// one there, the kubeconfig came from somebody else, who renews it.
func (a *agent) keepIdentity(ctx context.Context) error {
	if filepath.Dir(a.Kubeconfig) != filepath.Clean(a.IdentityDir) {
		return nil
	}
	return identity.Rotate(ctx, a.api.api, a.NodeName, a.IdentityDir)
}

// kubeletAPI prepares the kubelet API, so that a fault of its configuration is
// said at the start, and returns what serves it.
func (a *agent) kubeletAPI(ctx context.Context, p *provider.Provider) (func(context.Context) error, error) {
	ca, err := dynamiccertificates.NewDynamicCAContentFromFile("client-ca", a.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("--client-ca-file: %w", err)
	}
	auth, err := server.NewAuth(a.api.api, ca.VerifyOptions)
	if err != nil {
		return nil, err
	}
	cert, err := identity.NewServing(identity.ServingConfig{
		NodeName: a.NodeName, CertFile: a.TLSCertFile, KeyFile: a.TLSKeyFile,
		Names:  func() identity.Names { return identity.Names{DNS: []string{a.NodeName}, IPs: a.addresses()} },
		Client: a.api.api, Dir: a.IdentityDir,
	})
	if err != nil {
		return nil, err
	}
	s, err := server.New(server.Config{
		NodeName: a.NodeName, Pods: p, Auth: auth, Certificate: cert.Certificate,
		// What the agent's libraries count, and its Go runtime and process: the
		// same registry as a kubelet's.
		Metrics: legacyregistry.Handler(),
	})
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", a.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: %w", a.Listen, err)
	}
	return func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { ca.Run(ctx, 1); return nil })
		group.Go(func() error { cert.Run(ctx); return nil })
		group.Go(func() error { return s.Serve(ctx, l) })
		return group.Wait()
	}, nil
}
