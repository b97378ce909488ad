package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"reddwarf.io/reddwarf/provider/images"
)

func imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "List the images of this host, remove those that no pod uses",
		Long: `List the images of this host, remove those that no pod uses.

A running agent is asked to do it. Without one its records say which images pods use.`,
	}
	cmd.AddCommand(imageListCommand(), imagePruneCommand())
	return cmd
}

func imageListCommand() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List images with the pods that use them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []images.Listed
			err := c.withImages(cmd.Context(), http.MethodGet, "/images", &list, func(still *images.Collector) (err error) {
				list, err = still.List(cmd.Context())
				return err
			})
			if err != nil {
				return err
			}
			return printImages(cmd.OutOrStdout(), list, time.Now())
		},
	}
	c.registerHost(cmd.Flags())
	return cmd
}

func imagePruneCommand() *cobra.Command {
	var c config
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove all images that no pod uses",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/images/prune"
			if dryRun {
				path += "?dry-run"
			}
			var p images.Pruned
			err := c.withImages(cmd.Context(), http.MethodPost, path, &p, func(still *images.Collector) (err error) {
				p, err = still.Prune(cmd.Context(), dryRun)
				return err
			})
			if err != nil {
				return err
			}
			return printPruned(cmd.OutOrStdout(), p, dryRun)
		},
	}
	c.registerHost(cmd.Flags())
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be removed")
	return cmd
}

// silent drops what a command prints in its own way.
type silent struct{}

func (silent) Infof(string, ...any) {}
func (silent) Warnf(string, ...any) {}

// withImages asks the agent that runs, or keeps one from starting and does it
// without one.
func (c *config) withImages(ctx context.Context, method, path string, answer any, still func(*images.Collector) error) error {
	if err := c.fill(); err != nil {
		return err
	}
	unlock, err := lockHost(c.RunDir)
	if errors.Is(err, errAgentRuns) {
		return c.askAgent(ctx, method, path, answer)
	}
	if err != nil {
		return err
	}
	defer unlock()
	collector, err := c.stillImages(ctx, silent{})
	if err != nil {
		return err
	}
	return still(collector)
}

// shortDigest is how much of a digest tells images apart: sha256: and 12 digits.
const shortDigest = len("sha256:") + 12

func printImages(out io.Writer, list []images.Listed, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tDIGEST\tSIZE\tUSED BY\tLAST USED") //nolint:errcheck // Flush says it
	for _, l := range list {
		used, last := "-", duration.HumanDuration(now.Sub(l.LastUsed))+" ago"
		if len(l.UsedBy) > 0 {
			used, last = strings.Join(l.UsedBy, ","), "now"
		}
		digest := cmp.Or(l.Digest[:min(len(l.Digest), shortDigest)], "-")
		for _, name := range l.Names {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, digest, images.Size(l.Size), used, last) //nolint:errcheck // as above
		}
	}
	return w.Flush()
}

func printPruned(out io.Writer, p images.Pruned, dryRun bool) error {
	verb, space := "removed", "freed"
	if dryRun {
		verb, space = "would remove", "held by it alone"
	}
	freed := p.Leftovers
	for _, r := range p.Removed {
		freed += r.Freed
		if _, err := fmt.Fprintf(out, "%s %s (%s %s)\n", verb, r.Name, images.Size(r.Freed), space); err != nil {
			return err
		}
	}
	if p.Leftovers > 0 {
		if _, err := fmt.Fprintf(out, "%s leftovers of pulls (%s %s)\n", verb, images.Size(p.Leftovers), space); err != nil {
			return err
		}
	}
	if !dryRun {
		if _, err := fmt.Fprintf(out, "%d images removed, %s freed\n", len(p.Removed), images.Size(freed)); err != nil {
			return err
		}
	}
	if p.Failed != "" {
		return fmt.Errorf("not all could be removed: %s", p.Failed)
	}
	return nil
}
