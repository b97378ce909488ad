// Package testbed puts a whole installation together inside a lab: a dev
// cluster, an image registry, simulated illumos hosts and an agent on each. The
// demo, the end-to-end tests and the benchmarks stand on it, and reach what they
// look at only as a user would: kubectl, the API, and commands on the host.
//
// It expects to run inside a lab (see hack/host/cmd/host) and finds the
// programs through the environment: REDDWARF_BIN, REDDWARF_DEVCLUSTER,
// REDDWARF_BED.
package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// APIServer is the address of the API server on the lab's LAN.
	APIServer = "198.51.100.1"
	// Registry serves the images of hack/images without a password.
	Registry = APIServer + ":5000"
	// PrivateRegistry serves the same images to RegistryUser only.
	PrivateRegistry = APIServer + ":5001"
	// RegistryUser and RegistryPassword open PrivateRegistry.
	RegistryUser     = "demo"
	RegistryPassword = "lister"
)

// Options says how to start a Bed.
type Options struct {
	// Progress gets a line for each step, for people.
	Progress io.Writer

	// FeatureGates are the cluster's, such as A=true,B=false, where they are not
	// the defaults.
	FeatureGates string

	// RegistryFlags are added to the command line of `images serve`.
	RegistryFlags []string
}

// Bed is a running installation. Close ends all that it started.
type Bed struct {
	// Dir holds the data and the logs.
	Dir string

	bin, devcluster string
	progress        io.Writer
	processes       []*process
	hosts           []*Host
	names           *nameServer
}

// Start brings up the cluster and the registries.
func Start(ctx context.Context, o Options) (*Bed, error) {
	b, err := newBed(o)
	if err != nil {
		return nil, err
	}
	if b.devcluster == "" {
		return nil, errors.New("testbed: REDDWARF_DEVCLUSTER must be set: run this through hack/demo.sh, hack/e2e.sh or hack/bench.sh")
	}
	if err := b.start(ctx, o); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// StartRegistry brings up the open registry only, for hosts that join a cluster
// which is there already.
func StartRegistry(_ context.Context, o Options) (*Bed, error) {
	b, err := newBed(o)
	if err != nil {
		return nil, err
	}
	if err := b.startRegistry(o); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func newBed(o Options) (*Bed, error) {
	b := &Bed{
		Dir:        os.Getenv("REDDWARF_BED"),
		bin:        os.Getenv("REDDWARF_BIN"),
		devcluster: os.Getenv("REDDWARF_DEVCLUSTER"),
		progress:   o.Progress,
	}
	if b.progress == nil {
		b.progress = io.Discard
	}
	if b.Dir == "" || b.bin == "" {
		return nil, errors.New("testbed: REDDWARF_BED and REDDWARF_BIN must be set: run this through the scripts of hack/")
	}
	return b, nil
}

func (b *Bed) startRegistry(o Options) error {
	serve := []string{"serve", "--web", filepath.Join(b.bin, "web"), "--listen", Registry}
	serve = append(serve, corednsFlags()...)
	return b.spawn("registry", filepath.Join(b.bin, "images"), append(serve, o.RegistryFlags...)...)
}

func (b *Bed) start(ctx context.Context, o Options) error {
	b.say("starting etcd, kube-apiserver, kube-controller-manager and kube-scheduler (log: %s)", b.path("cluster.log"))
	err := b.spawn("cluster", b.devcluster, "up", "--dir", b.path("cluster"), "--bind", APIServer, "--advertise", APIServer, "--feature-gates", o.FeatureGates)
	if err != nil {
		return err
	}
	if b.names, err = startNameServer(ctx); err != nil {
		return err
	}
	if err := b.startRegistry(o); err != nil {
		return err
	}
	err = b.spawn("private-registry", filepath.Join(b.bin, "images"), "serve", "--web", filepath.Join(b.bin, "web"), "--listen", PrivateRegistry, "--user", RegistryUser, "--password", RegistryPassword)
	if err != nil {
		return err
	}
	err = b.Eventually(ctx, 2*time.Minute, "the cluster to be ready", func(context.Context) error {
		_, err := os.Stat(b.path("cluster/ready"))
		return err
	})
	if err != nil {
		return err
	}
	config, err := b.run(ctx, b.devcluster, "kubeconfig", "--dir", b.path("cluster"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.Kubeconfig(), []byte(config), 0o600); err != nil {
		return err
	}
	// What an administrator has to grant to nodes, beside their own rights.
	if _, err := b.Kubectl(ctx, "create", "clusterrole", "reddwarf:peers", "--verb=get,list,watch", "--resource=nodes"); err != nil {
		return err
	}
	_, err = b.Kubectl(ctx, "create", "clusterrolebinding", "reddwarf:peers", "--clusterrole=reddwarf:peers", "--group=system:nodes")
	return err
}

// Kubeconfig is the path of the cluster administrator's kubeconfig.
func (b *Bed) Kubeconfig() string { return b.path("admin.kubeconfig") }

// UserKubeconfig writes a kubeconfig for somebody outside the lab, who reaches
// the API server through a relay.
func (b *Bed) UserKubeconfig(ctx context.Context, server, file string) error {
	config, err := b.run(ctx, b.devcluster, "kubeconfig", "--dir", b.path("cluster"), "--server", server)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(config), 0o600)
}

// Kubectl runs kubectl as the administrator and returns its standard output.
func (b *Bed) Kubectl(ctx context.Context, args ...string) (string, error) {
	return b.KubectlIn(ctx, "", args...)
}

// KubectlIn is Kubectl with a standard input, such as a manifest for `apply -f -`.
func (b *Bed) KubectlIn(ctx context.Context, stdin string, args ...string) (string, error) {
	return b.runIn(ctx, stdin, b.devcluster, append([]string{"kubectl", "--kubeconfig", b.Kubeconfig()}, args...)...)
}

// KubectlCommand returns a kubectl that the caller runs itself.
func (b *Bed) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, b.devcluster, append([]string{"kubectl", "--kubeconfig", b.Kubeconfig()}, args...)...)
}

// Program is the path of one of our programs.
func (b *Bed) Program(name string) string { return filepath.Join(b.bin, name) }

// DevclusterPath is the program that is kubectl, among others.
func (b *Bed) DevclusterPath() string { return b.devcluster }

// Eventually calls try until it returns nil or the time is over; then it
// returns what try said last.
func (b *Bed) Eventually(ctx context.Context, limit time.Duration, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if dead := b.deadProcess(); dead != nil {
			return fmt.Errorf("waiting for %s: %w", what, dead)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %s: %w", limit, what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Close ends the agents, the hosts and the cluster, newest first.
func (b *Bed) Close() error {
	var errs []error
	for i := len(b.hosts) - 1; i >= 0; i-- {
		errs = append(errs, b.hosts[i].close())
	}
	for i := len(b.processes) - 1; i >= 0; i-- {
		errs = append(errs, b.processes[i].stop())
	}
	if b.names != nil {
		errs = append(errs, b.names.close())
	}
	b.hosts, b.processes, b.names = nil, nil, nil
	return errors.Join(errs...)
}

func (b *Bed) path(name string) string { return filepath.Join(b.Dir, name) }

func (b *Bed) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "-- "+format+"\n", args...)
}

func (b *Bed) run(ctx context.Context, name string, args ...string) (string, error) {
	return b.runIn(ctx, "", name, args...)
}

func (b *Bed) runIn(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), &RunError{Args: append([]string{filepath.Base(name)}, args...), Stderr: errOut.String(), Err: err}
	}
	return out.String(), nil
}

// RunError says how a program that a Bed ran has failed.
type RunError struct {
	Args   []string
	Stderr string
	Err    error
}

func (e *RunError) Error() string {
	return fmt.Sprintf("%s: %v: %s", strings.Join(e.Args, " "), e.Err, strings.TrimSpace(e.Stderr))
}

// Unwrap returns the cause, an *exec.ExitError where the program ran.
func (e *RunError) Unwrap() error { return e.Err }

// process is a program that runs as long as the Bed does.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}

	mu      sync.Mutex
	err     error
	stopped bool
}

func (b *Bed) spawn(name, program string, args ...string) error {
	p, err := startProcess(name, b.path(name+".log"), program, args...)
	if err != nil {
		return err
	}
	b.processes = append(b.processes, p)
	return nil
}

func startProcess(name, log, program string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer file.Close()
	p := &process{name: name, log: log, done: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		err := p.cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err
	}()
	return p, nil
}

// stop asks the program to end and kills it if it has not after a while.
func (p *process) stop() error {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended already, which is what we want
	select {
	case <-p.done:
		return nil
	case <-time.After(20 * time.Second):
	}
	p.cmd.Process.Kill() //nolint:errcheck // as above
	<-p.done
	return fmt.Errorf("%s did not end within 20 s of SIGTERM; see %s", p.name, p.log)
}

// deadProcess says which program ended by itself, and its last words.
func (b *Bed) deadProcess() error {
	for _, p := range b.processes {
		select {
		case <-p.done:
		default:
			continue
		}
		p.mu.Lock()
		err, stopped := p.err, p.stopped
		p.mu.Unlock()
		if !stopped {
			return fmt.Errorf("%s ended: %w: %s", p.name, errors.Join(err), lastLines(p.log, 5))
		}
	}
	return nil
}

func lastLines(file string, n int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
