package main

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"

	"reddwarf.io/reddwarf/provider"
	"reddwarf.io/reddwarf/provider/server"
)

// kubeletAPI prepares the kubelet API, so that a fault of its configuration is
// said at the start, and returns what serves it.
func (a *agent) kubeletAPI(ctx context.Context, p *provider.Provider) (func(context.Context) error, error) {
	ca, err := dynamiccertificates.NewDynamicCAContentFromFile("client-ca", a.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("--client-ca-file: %w", err)
	}
	auth, err := server.NewAuth(a.api.api, ca)
	if err != nil {
		return nil, err
	}
	cert, err := newServingCert(a.TLSCertFile, a.TLSKeyFile)
	if err != nil {
		return nil, err
	}
	s, err := server.New(server.Config{NodeName: a.NodeName, Pods: p, Auth: auth, Certificate: cert.get})
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
		group.Go(func() error { return s.Serve(ctx, l) })
		return group.Wait()
	}, nil
}
