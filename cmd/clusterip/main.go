// Clusterip makes the cluster's Services work on an illumos host: it keeps the
// rules of ipnat(8) in step with Services and EndpointSlices. It runs in the
// global zone, one on each host. network/ipnat/README.md follows a packet
// through what it makes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/network/services"
	"reddwarf.io/reddwarf/zones/command"
)

// version is set at link time.
var version = "dev" //nolint:gochecknoglobals // the linker can set a package variable only

// heapGrowth is how much the heap may grow between two garbage collections, in
// percent. Most of it is the cluster's Services, which seldom change.
const heapGrowth = 25

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "clusterip:", err)
		os.Exit(1) //nolint:gocritic // the context ends with the process
	}
}

// run is main without the process: tests call it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var c config
	root := &cobra.Command{
		Use:   "clusterip",
		Short: "Make the cluster's Services work on this host",
		Long: `Make the cluster's Services work on this host, by rules of ipnat(8).

Stopping it changes nothing: the rules stay, and the next one takes them over.`,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.validate(); err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(heapGrowth)
			}
			return (&controller{config: c, log: c.logger(cmd.ErrOrStderr()), host: command.Local{}}).run(cmd.Context())
		},
	}
	c.register(root.Flags())
	root.AddCommand(cleanupCommand(command.Local{}), retireCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// logger also takes what the libraries log through package variables; this is
// the one place that sets them.
func (c *config) logger(to io.Writer) *slog.Logger {
	level, _ := c.level() // validate has seen it
	h := slog.NewTextHandler(to, &slog.HandlerOptions{Level: level})
	log.SetLogger(logr.FromSlogHandler(h))
	klog.SetSlogLogger(slog.New(h))
	return slog.New(h)
}

// cleanupCommand removes what the controller made on a host that it leaves.
func cleanupCommand(host command.Host) *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove all rules and routes that the controller made on this host",
		Long: `Remove all rules that the controller made on this host, and the routes that refuse the given networks of cluster
addresses. Rules of others and open connections stay. End the controller first: it would make them again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			refusals, err := c.refusals()
			if err != nil {
				return err
			}
			report, err := ipnat.NewLoader(host).Clear(cmd.Context(), refusals)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %d rules and %d routes; %d rules of others stay\n", report.Removed, len(refusals), report.Foreign)
			return err
		},
	}
	cmd.Flags().StringSliceVar(&c.ServiceCIDR, "service-cidr", nil, "networks of cluster addresses that are no longer refused")
	cmd.Flags().StringVar(&c.Gateway, "gateway", "rdwgw0", "interface of this host's pods")
	cmd.Flags().StringSliceVar(&c.PodCIDR, "pod-cidr", nil, "addresses of this host's pods, of whose gateway the routes are; needed with --service-cidr")
	return cmd
}

// refusals are the routes that cleanup removes.
func (c *config) refusals() ([]ipnat.Refusal, error) {
	c.NodeName, c.Delay, c.Period, c.LogLevel = "any", 1, 1, "info" // what cleanup has no flags for
	if err := c.validate(); err != nil || len(c.ServiceCIDR) == 0 {
		return nil, err
	}
	if len(c.PodCIDR) == 0 {
		return nil, errors.New("--service-cidr needs --pod-cidr")
	}
	var node corev1.Node
	n, err := services.TranslateNode(&node, c.settings())
	return n.Refuse, err
}
