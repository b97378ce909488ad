package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"reddwarf.io/reddwarf/provider/identity"
)

// joining is what `reddwarf join` takes, named as for kubeadm join.
type joining struct {
	discovery   identity.Discovery
	nodeName    string
	identityDir string
	timeout     time.Duration
}

func joinCommand() *cobra.Command {
	var j joining
	cmd := &cobra.Command{
		Use:   "join HOST:PORT --token ID.SECRET --discovery-token-ca-cert-hash sha256:…",
		Short: "Get this host an identity in a cluster, as kubeadm join does",
		Long: `Get this host an identity in a cluster: find the API server's CA by its hash, ask for a client certificate with the bootstrap token,
and write the kubeconfig and the CA that "reddwarf node" uses. It may be repeated; what is there and still good is kept.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j.discovery.Server = "https://" + strings.TrimPrefix(args[0], "https://")
			kubeconfig, err := j.run(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "This host is node %s now. Start the agent with\n  reddwarf node --kubeconfig %s --client-ca-file %s --node-name %s --node-ip ADDRESS\n",
				j.nodeName, kubeconfig, j.caFile(), j.nodeName)
			return err
		},
	}
	f := cmd.Flags()
	registerSettings(f)
	f.StringVar(&j.discovery.Token, "token", "", "bootstrap token, ID.SECRET (required)")
	f.StringSliceVar(&j.discovery.CAHashes, "discovery-token-ca-cert-hash", nil, "hash of the cluster's CA, sha256:HEX (required)")
	f.StringVar(&j.nodeName, "node-name", "", "name of the node (default: the host's name)")
	f.StringVar(&j.identityDir, "identity-dir", defaultIdentityDir, "where the kubeconfig, the certificates and their keys go")
	f.DurationVar(&j.timeout, "timeout", 5*time.Minute, "how long to wait for the cluster to sign the certificate")
	return cmd
}

func (j *joining) run(ctx context.Context) (kubeconfig string, err error) {
	if j.nodeName == "" {
		if j.nodeName, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("--node-name is not set and the host has no name: %w", err)
		}
		j.nodeName = strings.ToLower(j.nodeName)
	}
	if msgs := validation.IsDNS1123Subdomain(j.nodeName); len(msgs) > 0 {
		return "", fmt.Errorf("--node-name %q: %s", j.nodeName, strings.Join(msgs, ", "))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, j.timeout, errors.New("the cluster has not signed the node's certificate: see `kubectl get csr`"))
	defer cancel()
	bootstrap, err := identity.Discover(ctx, j.discovery)
	if err != nil {
		return "", err
	}
	kubeconfig, err = identity.Join(ctx, identity.Joining{NodeName: j.nodeName, Bootstrap: bootstrap, Dir: j.identityDir})
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return "", err
	}
	return kubeconfig, os.WriteFile(j.caFile(), bootstrap.CAData, 0o644)
}

func (j *joining) caFile() string { return filepath.Join(j.identityDir, "ca.crt") }
