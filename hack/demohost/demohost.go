// Demohost joins a simulated illumos host to a cluster that somebody already
// has: `KUBECONFIG=… make demo-host`. hack/demo-host.sh runs it, first outside
// the lab to find out where the API server is, and then in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"reddwarf.io/reddwarf/hack/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "demo-host:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("demohost", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig of an administrator of the cluster")
	where := flags.Bool("server", false, "only print HOST:PORT of the API server")
	relay := flags.String("relay", "", "address in the lab that leads to the API server")
	name := flags.String("node-name", "illumos1", "name of the node")
	ip := flags.String("node-ip", "", "address of this machine by which the API server reaches the node's port 10250")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return fmt.Errorf("KUBECONFIG: %w", err)
	}
	server, err := hostPort(config.Host)
	if err != nil {
		return err
	}
	if *where {
		fmt.Println(server)
		return nil
	}
	j := joining{node: *name, ip: *ip, config: through(config, server, *relay)}
	if j.api, err = kubernetes.NewForConfig(j.config); err != nil {
		return err
	}
	return j.run(ctx)
}

// hostPort returns where an API server's URL leads.
func hostPort(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("KUBECONFIG: server %q: want https://HOST[:PORT]", server)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// through returns config for reaching the same server by another address; the
// server's certificate is still checked for its own name.
func through(config *rest.Config, server, relay string) *rest.Config {
	c := rest.CopyConfig(config)
	if c.TLSClientConfig.ServerName == "" {
		c.TLSClientConfig.ServerName, _, _ = net.SplitHostPort(server)
	}
	c.Host = "https://" + relay
	return c
}

// joining is one host on its way into the cluster.
type joining struct {
	node, ip string
	config   *rest.Config
	api      kubernetes.Interface
}

func (j joining) run(ctx context.Context) (err error) {
	nodes := j.api.CoreV1().Nodes()
	if _, err := nodes.Get(ctx, j.node, metav1.GetOptions{}); err == nil {
		return fmt.Errorf("the cluster has a node %s already: choose another name by NODE=…", j.node)
	}
	fmt.Println("-- asking the cluster for the node's certificate")
	identity, err := j.identity(ctx)
	if err != nil {
		return err
	}
	bed, err := testbed.StartRegistry(ctx, testbed.Options{Progress: os.Stdout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	host, err := bed.NewHost(ctx, j.node, testbed.HostOptions{Identity: identity, NodeIP: j.ip})
	if err != nil {
		return err
	}
	approved := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { approved <- j.approveServing(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-approved, j.leave())
	}()
	if err := j.awaitReady(ctx, bed, host); err != nil {
		return err
	}
	fmt.Printf("\nThe node %s is ready. Try, with your own kubectl:\n    kubectl get node %s\n    kubectl apply -f hack/demo/web.yaml\n", j.node, j.node)
	fmt.Printf("Images %s/reddwarf/web:1 and %s/busybox:1 are there without internet. Agent's log: %s\nCtrl-C removes the host and its node.\n",
		testbed.Registry, testbed.Registry, host.AgentLog())
	<-ctx.Done()
	return nil
}
