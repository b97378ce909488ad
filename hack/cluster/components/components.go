// Package components runs the parts of a Kubernetes control plane inside this
// process: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.
//
// The commands of these programs can't be called, because each of them installs
// the process's signal handler and the second one to do so panics. So their
// exported options and Run functions are, in the order in which the commands
// call them.
package components

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // the metrics that the real programs have
	_ "k8s.io/component-base/metrics/prometheus/version"

	"reddwarf.io/reddwarf/hack/cluster/config"
	"reddwarf.io/reddwarf/hack/cluster/supervise"
)

// ControlPlane is the control plane of one cluster, with its listeners open.
type ControlPlane struct {
	config     config.Config
	log        string // file for etcd's log
	etcd       *etcd
	apiserver  net.Listener
	controller net.Listener
	scheduler  net.Listener
	client     *http.Client
}

// New opens the listeners, so that a port in use is found before anything runs.
// The log of the components goes to os.Stderr as it is now, etcd's to logFile.
// It changes settings of the process; there is one ControlPlane per process.
func New(c config.Config, logFile string) (*ControlPlane, error) {
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged // each component applies the same logging options
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	p := &ControlPlane{config: c, log: logFile, etcd: newEtcd(c, logFile)}
	for _, l := range []struct {
		listener *net.Listener
		host     string
		port     int
	}{
		{&p.apiserver, c.Bind.String(), c.Port},
		{&p.controller, "127.0.0.1", 0},
		{&p.scheduler, "127.0.0.1", 0},
	} {
		var err error
		if *l.listener, err = net.Listen("tcp", net.JoinHostPort(l.host, fmt.Sprint(l.port))); err != nil {
			p.Close()
			return nil, fmt.Errorf("control plane: %w", err)
		}
	}
	p.client = &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			// Only health checks go through it, to listeners of this very process.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // see above
		},
	}
	return p, nil
}

// Close closes the listeners of components that never ran.
func (p *ControlPlane) Close() {
	for _, l := range []net.Listener{p.apiserver, p.controller, p.scheduler} {
		if l != nil {
			l.Close() //nolint:errcheck // a component that ran has closed it already
		}
	}
}

// Health returns the URLs that say by status 200 that a component works.
func (p *ControlPlane) Health() map[string]string {
	return map[string]string{
		"kube-apiserver":         p.config.LocalURL() + "/readyz",
		config.ControllerManager: "https://" + p.controller.Addr().String() + "/healthz",
		config.Scheduler:         "https://" + p.scheduler.Addr().String() + "/readyz",
	}
}

// Stages returns the components in the order in which they need each other.
func (p *ControlPlane) Stages() [][]supervise.Part {
	health := p.Health()
	return [][]supervise.Part{
		{{Name: "etcd", Run: p.etcd.run, Check: p.etcd.check}},
		{{Name: "kube-apiserver", Run: p.runAPIServer, Check: p.checkURL(health["kube-apiserver"])}},
		{
			{Name: config.Scheduler, Run: p.runScheduler, Check: p.checkURL(health[config.Scheduler])},
			{Name: config.ControllerManager, Run: p.runControllerManager, Check: p.checkControllers},
		},
	}
}

// Client returns a client with all rights.
func (p *ControlPlane) Client() (kubernetes.Interface, error) {
	return NewClient(p.config.Kubeconfig(config.Admin))
}

// NewClient returns a client for the kubeconfig at path.
func NewClient(path string) (kubernetes.Interface, error) {
	rc, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	client, err := kubernetes.NewForConfig(rc)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return client, nil
}

func (p *ControlPlane) checkURL(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := p.client.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close() //nolint:errcheck // nothing is read from it
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	}
}

// parse reads args into the flag sets of a component.
func parse(name string, sets cliflag.NamedFlagSets, args []string) error {
	all := pflag.NewFlagSet(name, pflag.ContinueOnError)
	all.SetOutput(os.Stderr)
	for _, set := range sets.FlagSets {
		all.AddFlagSet(set)
	}
	all.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	if err := all.Parse(args); err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	return nil
}
