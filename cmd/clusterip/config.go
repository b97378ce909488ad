package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"reddwarf.io/reddwarf/network/services"
)

// config is what an operator sets. Nothing else here reads flags or the
// environment.
type config struct {
	Kubeconfig     string
	Server         string
	ServiceAccount string
	NodeName       string

	Gateway     string
	Uplink      string
	PodCIDR     []string
	ClusterCIDR []string
	ServiceCIDR []string
	Egress      bool

	DaemonSet string

	Listen   string
	Delay    time.Duration
	Period   time.Duration
	LogLevel string
}

func (c *config) register(f *pflag.FlagSet) {
	f.StringVar(&c.Kubeconfig, "kubeconfig", "", "how to reach the API server (default: as the service account of this pod)")
	f.StringVar(&c.Server, "server", "", "URL of the API server, instead of the kubeconfig's or the pod's; programs of the global zone cannot use the cluster address of kubernetes.default")
	f.StringVar(&c.ServiceAccount, "service-account-dir", os.Getenv("CONTAINER_SANDBOX_MOUNT_POINT")+"/var/run/secrets/kubernetes.io/serviceaccount", "token and ca.crt of the pod's service account, where there is no kubeconfig")
	f.StringVar(&c.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of this host's node (default: $NODE_NAME, else the host's name)")

	f.StringVar(&c.Gateway, "gateway", "rdwgw0", "interface on which packets of this host's pods arrive")
	f.StringVar(&c.Uplink, "uplink", "", "interface to everybody else: NodePorts, external and load balancers' addresses are served there (default: the interface of the IPv4 default route)")
	f.StringSliceVar(&c.PodCIDR, "pod-cidr", nil, "addresses of this host's pods, one network for each family (default: node.spec.podCIDRs)")
	f.StringSliceVar(&c.ClusterCIDR, "cluster-cidr", nil, "addresses of all pods of the cluster, one network for each family; needed for endpoints on other nodes")
	f.StringSliceVar(&c.ServiceCIDR, "service-cidr", nil, "networks of cluster addresses (default: the cluster's ServiceCIDRs)")
	f.BoolVar(&c.Egress, "egress", false, "also give pods' packets that leave the cluster the host's address; leave it off where the agent does")

	f.StringVar(&c.DaemonSet, "daemonset", "", "NAMESPACE/NAME of the DaemonSet that runs this controller: when it is being deleted at the controller's end, the rules go too")

	f.StringVar(&c.Listen, "listen", "127.0.0.1:10249", "address for /metrics, /healthz and /readyz, which ask for no credentials; empty is none")
	f.DurationVar(&c.Delay, "min-sync-period", 200*time.Millisecond, "shortest time between two changes of rules; the first of a burst is made at once")
	f.DurationVar(&c.Period, "sync-period", 30*time.Second, "how often all rules are read and repaired")
	f.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
}

// validate lists every fault with what to do about it, and fills in what
// depends on the machine.
func (c *config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			fault("--node-name is not set and the host has no name: %w", err)
		}
		c.NodeName = strings.ToLower(name)
	}
	if msgs := validation.IsDNS1123Subdomain(c.NodeName); len(msgs) > 0 {
		fault("--node-name %q: %s", c.NodeName, strings.Join(msgs, ", "))
	}
	if c.DaemonSet != "" {
		if _, _, err := splitName(c.DaemonSet); err != nil {
			fault("--daemonset: %w", err)
		}
	}
	for flag, values := range map[string][]string{"--pod-cidr": c.PodCIDR, "--cluster-cidr": c.ClusterCIDR, "--service-cidr": c.ServiceCIDR} {
		families := map[bool]int{}
		for _, s := range values {
			p, err := netip.ParsePrefix(s)
			if err != nil || p.Masked() != p {
				fault("%s %q is not a network such as 10.244.0.0/16", flag, s)
			}
			families[p.Addr().Is4()]++
		}
		if flag != "--service-cidr" && (families[true] > 1 || families[false] > 1) {
			fault("%s %s: want one network for each family", flag, strings.Join(values, ","))
		}
	}
	if c.Egress && len(c.ClusterCIDR) == 0 {
		fault("--egress needs --cluster-cidr: packets to there keep their source")
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil && c.Listen != "" {
		fault("--listen %q is not ADDRESS:PORT", c.Listen)
	}
	if c.Delay <= 0 || c.Period < c.Delay {
		fault("--min-sync-period %v and --sync-period %v: want more than nothing, and the second no shorter than the first", c.Delay, c.Period)
	}
	if _, err := c.level(); err != nil {
		fault("--log-level %q: want debug, info, warn or error", c.LogLevel)
	}
	return errors.Join(faults...)
}

func (c *config) level() (slog.Level, error) {
	var l slog.Level
	err := l.UnmarshalText([]byte(c.LogLevel))
	return l, err
}

// prefixes reads values that validate has seen.
func prefixes(values []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range values {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// settings are what the cluster does not tell.
func (c *config) settings() services.Settings {
	return services.Settings{Gateway: c.Gateway, Uplink: c.Uplink, Pods: prefixes(c.PodCIDR), Cluster: prefixes(c.ClusterCIDR), Services: prefixes(c.ServiceCIDR), Egress: c.Egress}
}

// rest says how to reach the API server: by a kubeconfig, else as the pod's
// service account. It does not use rest.InClusterConfig, which knows one place
// for the account's files: a host pod has the host's file system.
func (c *config) rest() (*rest.Config, error) {
	if c.Kubeconfig != "" {
		r, err := clientcmd.BuildConfigFromFlags(c.Server, c.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig %s: %w", c.Kubeconfig, err)
		}
		return r, nil
	}
	server := c.Server
	if server == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return nil, errors.New("no way to the API server: set --kubeconfig, or --server, or run as a pod, which has KUBERNETES_SERVICE_HOST")
		}
		server = "https://" + net.JoinHostPort(host, port)
	}
	token, ca := c.ServiceAccount+"/token", c.ServiceAccount+"/ca.crt"
	for _, file := range []string{token, ca} {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("--service-account-dir %s: %w", c.ServiceAccount, err)
		}
	}
	return &rest.Config{Host: server, BearerTokenFile: token, TLSClientConfig: rest.TLSClientConfig{CAFile: ca}}, nil
}
