package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"reddwarf.io/reddwarf/provider/approval"
)

func approveCommand() *cobra.Command {
	var kubeconfig, level string
	var networks []string
	cmd := &cobra.Command{
		Use:   "approve-serving",
		Short: "Approve the serving certificates that nodes of ours ask for",
		Long: `Approve the serving certificates that Reddwarf's nodes ask for, each for its own addresses only.

One of them is enough for a cluster, and none is needed where somebody else approves. It runs as a pod (see the Helm chart) or
anywhere else with a kubeconfig.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			allowed, err := parseNetworks(networks)
			if err != nil {
				return err
			}
			log, err := newLog(level)
			if err != nil {
				return err
			}
			log.Out = cmd.ErrOrStderr()
			config, err := clusterConfig(kubeconfig)
			if err != nil {
				return err
			}
			config.UserAgent = "reddwarf-approver/" + version
			c := approval.Config{Allowed: allowed, Log: logrus.NewEntry(log)}
			requests, err := certificatesclient.NewForConfig(config)
			if err != nil {
				return err
			}
			nodes, err := corev1client.NewForConfig(config)
			if err != nil {
				return err
			}
			c.Requests, c.Nodes = requests.CertificateSigningRequests(), nodes.Nodes()
			if len(allowed) == 0 {
				log.Warn("--node-network is not set: a node gets a certificate for every address that it says is its own")
			}
			return approval.Run(cmd.Context(), c)
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server (default: as the service account of this pod)")
	cmd.Flags().StringSliceVar(&networks, "node-network", nil, "network in which the addresses of nodes lie, such as 192.0.2.0/24; may be repeated")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func parseNetworks(texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	var faults []error
	for _, s := range texts {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Masked() != p {
			faults = append(faults, fmt.Errorf("--node-network %q is not a network such as 192.0.2.0/24", s))
			continue
		}
		all = append(all, p)
	}
	return all, errors.Join(faults...)
}

func clusterConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		c, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("there is no service account of a pod here, and --kubeconfig is not set: %w", err)
		}
		return c, nil
	}
	c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %s: %w", kubeconfig, err)
	}
	return c, nil
}
