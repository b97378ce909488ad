// Devcluster is a Kubernetes control plane for development and tests: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler in one process, with
// kubectl from the same build. It has no nodes of its own.
//
// All that it keeps is in one folder. See usage for the subcommands.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	_ "time/tzdata" // CronJobs with time zones, on machines without the data
)

const usage = `usage:
  devcluster up --dir D --bind IP [--advertise IP] [--port N] [--service-cidr P] [--pod-cidr P] [--die-with-parent]
        run a cluster in the foreground until SIGTERM; D/ready is there while it is ready
  devcluster down --dir D
        stop the cluster of D
  devcluster status --dir D
        say how the cluster of D is; exit 0 if all of it is ready
  devcluster kubeconfig --dir D [--server URL]
        print the administrator's kubeconfig
  devcluster node-kubeconfig --dir D --node NAME --ip IP --out DIR [--server URL]
        write kubeconfig, ca.crt, kubelet.crt and kubelet.key for a node into DIR
  devcluster kubectl ...
        kubectl, also when started by that name
`

// errUsage means that the arguments are wrong and that the user was told how.
var errUsage = errors.New("wrong arguments")

func main() {
	os.Exit(start(os.Args))
}

func start(argv []string) int {
	if name := filepath.Base(argv[0]); name == "kubectl" {
		return kubectl(argv[1:])
	}
	if len(argv) > 1 && argv[1] == "kubectl" {
		return kubectl(argv[2:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := run(ctx, argv[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		fmt.Fprintln(os.Stderr, "devcluster:", err) //nolint:errcheck // nowhere else to say it
		return 1
	}
}

// run is main without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage) //nolint:errcheck // as in start
		return errUsage
	}
	commands := map[string]func(ctx context.Context, args []string, stdout, stderr io.Writer) error{
		"up":              up,
		"down":            down,
		"status":          status,
		"kubeconfig":      kubeconfig,
		"node-kubeconfig": nodeKubeconfig,
	}
	if strings.TrimLeft(args[0], "-") == "help" || args[0] == "-h" {
		_, err := fmt.Fprint(stdout, usage)
		return err
	}
	command, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "devcluster: no subcommand %q\n%s", args[0], usage) //nolint:errcheck // as in start
		return errUsage
	}
	return command(ctx, args[1:], stdout, stderr)
}

// parse reads the flags of a subcommand. It takes no other arguments.
func parse(fs *flag.FlagSet, args []string, stderr io.Writer) error {
	fs.SetOutput(stderr)
	if err := fs.Parse(args); err != nil {
		return errUsage // the flag package has said what is wrong
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "devcluster %s: unexpected argument %q\n", fs.Name(), fs.Arg(0)) //nolint:errcheck // as in start
		return errUsage
	}
	return nil
}

// dirFlag registers --dir; the result is valid after parse.
func dirFlag(fs *flag.FlagSet) func() (string, error) {
	dir := fs.String("dir", "", "folder of the cluster (required)")
	return func() (string, error) {
		if *dir == "" {
			return "", errors.New("--dir: the folder of the cluster is needed")
		}
		return filepath.Abs(*dir)
	}
}
