package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
)

func psCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the pods of this host with their zones, without asking the cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listPods(cmd.Context(), cmd.OutOrStdout(), zones.New(command.Local{}, zones.Features{}))
		},
	}
	registerSettings(cmd.Flags())
	return cmd
}

// podZones is what `reddwarf ps` needs of the host.
type podZones interface {
	List(ctx context.Context) ([]zones.Zone, error)
	Attrs(ctx context.Context, zone string) (map[string]string, error)
}

// listPods prints a line for each zone that carries the agent's mark. A zone
// that goes away meanwhile is left out.
func listPods(ctx context.Context, out io.Writer, host podZones) error {
	all, err := host.List(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tPOD\tSTATE\tID\tBRAND\tZONE")
	for _, z := range all {
		if !strings.HasPrefix(z.Name, "rdw-") {
			continue
		}
		attrs, err := host.Attrs(ctx, z.Name)
		if errors.Is(err, zones.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if attrs["reddwarf-uid"] == "" {
			continue // somebody else's, whatever its name
		}
		id := "-"
		if z.ID >= 0 {
			id = fmt.Sprint(z.ID)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", attrs["reddwarf-namespace"], attrs["reddwarf-name"], z.State, id, z.Brand, z.Name)
	}
	return w.Flush()
}
