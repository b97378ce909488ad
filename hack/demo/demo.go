// Demo shows the main job: a real cluster, a simulated illumos host that joins
// it, and a Deployment whose pods run as zones. hack/demo.sh runs it in a lab.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/hack/testbed"
)

//go:embed web.yaml
var web string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	once := flags.Bool("once", false, "end when everything was seen, instead of waiting for Ctrl-C")
	relay := flags.String("relay", "", "address outside the lab that leads to the API server")
	if err := flags.Parse(args); err != nil {
		return err
	}
	bed, err := testbed.Start(ctx, testbed.Options{Progress: os.Stdout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	host, err := bed.AddHost(ctx, "illumos1", testbed.HostOptions{})
	if err != nil {
		return err
	}
	s := show{ctx: ctx, bed: bed, host: host}
	s.tour()
	if s.err != nil {
		return s.err
	}
	if *once {
		say("Everything was seen.")
		return nil
	}
	return stay(ctx, bed, *relay)
}

// stay leaves the installation up for the user's own kubectl.
func stay(ctx context.Context, bed *testbed.Bed, relay string) error {
	file := filepath.Join(bed.Dir, "kubeconfig")
	if err := bed.UserKubeconfig(ctx, "https://"+relay, file); err != nil {
		return err
	}
	say("It stays up until Ctrl-C. From another terminal:")
	fmt.Printf("    export KUBECONFIG=%s\n", file)
	fmt.Printf("    kubectl get nodes,pods -o wide      # no kubectl? %s kubectl …\n", bed.DevclusterPath())
	<-ctx.Done()
	return nil
}

// show runs the steps of the tour; after the first failure the rest do nothing.
type show struct {
	ctx  context.Context
	bed  *testbed.Bed
	host *testbed.Host
	err  error
}

func (s *show) tour() {
	say("A Deployment with three replicas")
	s.do("apply", func() error {
		out, err := s.bed.KubectlIn(s.ctx, web, "apply", "-f", "-")
		fmt.Print(out)
		return err
	})
	s.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
	s.kubectl("get", "nodes,pods", "-o", "wide")

	say("On the host they are zones")
	s.command("zoneadm", "list", "-cv")
	s.command("dladm", "show-vnic")

	pod := s.firstPod()
	say("Logs and exec work as usual")
	s.kubectl("logs", pod)
	s.kubectl("exec", pod, "--", "/web", "env")
	s.exitCode(pod, 7)

	say("A deleted pod is replaced, and nothing of it is left")
	s.kubectl("delete", pod, "--wait=true", "--timeout=60s")
	s.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
	s.kubectl("get", "pods", "-o", "wide")
	s.command("zoneadm", "list", "-cv")
}

func (s *show) do(what string, f func() error) {
	if s.err != nil {
		return
	}
	if err := f(); err != nil {
		s.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (s *show) kubectl(args ...string) {
	s.do("kubectl "+strings.Join(args, " "), func() error {
		fmt.Printf("\n$ kubectl %s\n", strings.Join(args, " "))
		out, err := s.bed.Kubectl(s.ctx, args...)
		fmt.Print(out)
		return err
	})
}

func (s *show) command(args ...string) {
	s.do(strings.Join(args, " "), func() error {
		fmt.Printf("\nillumos1# %s\n", strings.Join(args, " "))
		out, err := s.host.Run(s.ctx, args...)
		fmt.Print(out)
		return err
	})
}

func (s *show) firstPod() string {
	var name string
	s.do("find a pod", func() (err error) {
		name, err = s.bed.Kubectl(s.ctx, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
		name = "pod/" + name
		return err
	})
	return name
}

// exitCode shows that a command's exit code comes all the way back.
func (s *show) exitCode(pod string, want int) {
	s.do("exec with an exit code", func() error {
		fmt.Printf("\n$ kubectl exec %s -- /web exit %d; echo $?\n", pod, want)
		ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
		defer cancel()
		cmd := s.bed.KubectlCommand(ctx, "exec", pod, "--", "/web", "exit", fmt.Sprint(want))
		cmd.Run() //nolint:errcheck // it is to fail: the exit code is what we look at
		if cmd.ProcessState == nil {
			return errors.New("kubectl did not start")
		}
		fmt.Println(cmd.ProcessState.ExitCode())
		if got := cmd.ProcessState.ExitCode(); got != want {
			return fmt.Errorf("exit code %d, want %d", got, want)
		}
		return nil
	})
}

func say(text string) { fmt.Printf("\n\033[1m%s\033[0m\n", text) }
