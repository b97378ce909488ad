package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"reddwarf.io/reddwarf/provider"
	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
	"reddwarf.io/reddwarf/zones/hostpods"
)

func psCommand() *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the pods of this host with their zones, without asking the cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.fill(); err != nil {
				return err
			}
			host := command.Local{}
			dir := storage.New(host, storage.Config{Pool: c.Pool}).PodsDir()
			return listPods(cmd.Context(), cmd.OutOrStdout(),
				provider.WithHostPods(zones.New(host, zones.Features{}), hostpods.New(host, dir, translate.ZonePrefix, "")))
		},
	}
	c.registerHost(cmd.Flags())
	return cmd
}

// podZones is what `reddwarf ps` needs of the host.
type podZones interface {
	List(ctx context.Context) ([]zones.Zone, error)
	Attrs(ctx context.Context, zone string) (map[string]string, error)
}

// listPods prints a line for each zone that carries the agent's mark, and for
// each pod of the global zone, which has none. One that goes away meanwhile is
// left out.
func listPods(ctx context.Context, out io.Writer, host podZones) error {
	all, err := host.List(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tPOD\tSTATE\tID\tBRAND\tZONE")
	for _, z := range all {
		if !strings.HasPrefix(z.Name, translate.ZonePrefix) {
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
		zone := z.Name
		if z.Brand == hostpods.Brand {
			zone = "global"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", attrs["reddwarf-namespace"], attrs["reddwarf-name"], z.State, id, z.Brand, zone)
	}
	return w.Flush()
}
