// Reddwarf is the program of an illumos host: the node agent and the tools
// around it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set at link time.
var version = "dev" //nolint:gochecknoglobals // the linker can set a package variable only

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "reddwarf:", err)
		os.Exit(exitStatus(err)) //nolint:gocritic // the context ends with the process
	}
}

// exitErrConfig is SMF_EXIT_ERR_CONFIG of smf_method(7): the service goes into
// maintenance instead of being started again each second.
const exitErrConfig = 96

func exitStatus(err error) int {
	if _, ok := errors.AsType[*settingsError](err); ok {
		return exitErrConfig
	}
	return 1
}

// run is main without the process: tests call it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{
		Use:           "reddwarf",
		Short:         "Run Kubernetes pods as illumos zones",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,

		PersistentPreRunE: readSettings,
	}
	root.AddCommand(nodeCommand(), joinCommand(), leaveCommand(), doctorCommand(), psCommand(), imageCommand(), approveCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}
