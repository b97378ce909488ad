package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// HostOptions says what kind of machine to simulate.
type HostOptions struct {
	Distro string // omnios, smartos or openindiana; empty means omnios
	CPUs   int    // 0 means 4
	Memory string // empty means 8G

	// AgentFlags are added to the agent's command line.
	AgentFlags []string

	// Join makes the host get its identity by `reddwarf join` with these
	// arguments, instead of being given one by the dev cluster.
	Join []string

	// Identity is one that somebody else has made. The zero value means none.
	Identity Identity

	// NoAgent leaves it to the caller to start the agent.
	NoAgent bool

	// Settings is the host's /etc/reddwarf/config.yaml, if it shall have one.
	Settings string

	// PoolSize is the size of its pool, such as 512M. Empty means the simulated
	// host's own choice.
	PoolSize string

	// NodeIP is the node's address, where it is not the host's own.
	NodeIP string
}

// Identity is what lets an agent be a node.
type Identity struct {
	Kubeconfig string
	ClientCA   string
	Dir        string // where the agent keeps the serving certificate that it asks for
}

// Host is a simulated illumos machine with an agent.
type Host struct {
	Name string
	IP   string

	bed    *Bed
	nodeIP string
	flags  []string
	agent  *process
}

// identityFlags are for a host whose identity the dev cluster has made.
func (h *Host) identityFlags() []string {
	return []string{
		"--kubeconfig", h.path("identity/kubeconfig"),
		"--client-ca-file", h.path("identity/ca.crt"),
		"--tls-cert-file", h.path("identity/kubelet.crt"),
		"--tls-private-key-file", h.path("identity/kubelet.key"),
	}
}

// AddHost makes a simulated machine, gives it the identity of a node, starts
// the agent on it and waits until the node is ready.
func (b *Bed) AddHost(ctx context.Context, name string, o HostOptions) (*Host, error) {
	h, err := b.NewHost(ctx, name, o)
	if err != nil {
		return nil, err
	}
	b.say("waiting for the node %s", name)
	return h, b.Eventually(ctx, time.Minute, "the node "+name+" to be ready", func(ctx context.Context) error {
		out, err := b.Kubectl(ctx, "get", "node", name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err != nil {
			return err
		}
		if out != "True" {
			return fmt.Errorf("its Ready condition is %q; see %s", out, h.AgentLog())
		}
		return nil
	})
}

// NewHost is AddHost without the wait.
func (b *Bed) NewHost(ctx context.Context, name string, o HostOptions) (*Host, error) {
	h := &Host{Name: name, IP: fmt.Sprintf("198.51.100.%d", 11+len(b.hosts)), bed: b, flags: o.AgentFlags}
	if h.nodeIP = o.NodeIP; h.nodeIP == "" {
		h.nodeIP = h.IP
	}
	b.hosts = append(b.hosts, h)
	b.say("starting the simulated illumos host %s (log: %s)", name, h.path("host.log"))
	if err := os.MkdirAll(h.path(""), 0o700); err != nil {
		return nil, err
	}
	if o.Distro == "" {
		o.Distro = "omnios"
	}
	if o.CPUs == 0 {
		o.CPUs = 4
	}
	if o.Memory == "" {
		o.Memory = "8G"
	}
	switch {
	case o.Identity != Identity{}:
		h.flags = append([]string{"--kubeconfig", o.Identity.Kubeconfig, "--client-ca-file", o.Identity.ClientCA, "--identity-dir", o.Identity.Dir}, h.flags...)
	case o.Join == nil:
		// The host sees the files that are there when it starts.
		_, err := b.run(ctx, b.devcluster, "node-kubeconfig", "--dir", b.path("cluster"), "--node", name, "--ip", h.IP, "--out", h.path("identity"))
		if err != nil {
			return nil, err
		}
		h.flags = append(h.identityFlags(), h.flags...)
	}
	up := []string{"up", name, "--distro", o.Distro, "--cpus", fmt.Sprint(o.CPUs), "--memory", o.Memory, "--ip", h.IP, "--trace", h.TraceFile()}
	if o.PoolSize != "" {
		up = append(up, "--pool-size", o.PoolSize)
	}
	out, err := b.run(ctx, b.host(), up...)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "note: ") {
			b.say("%s", strings.TrimSpace(line))
		}
	}
	if err := h.installBrand(ctx); err != nil {
		return nil, err
	}
	if err := h.installSettings(ctx, o.Settings); err != nil {
		return nil, err
	}
	if b.names != nil {
		// It may be a link, and to what is another machine's.
		if _, err := h.Run(ctx, "sh", "-c", "rm -f /etc/resolv.conf && echo nameserver "+APIServer+" >/etc/resolv.conf"); err != nil {
			return nil, err
		}
	}
	brands := "lx,reddwarf"
	if o.Distro == "openindiana" { // which has no lx
		brands = "reddwarf"
	}
	h.flags = append([]string{"--brands", brands}, h.flags...)
	if o.Join != nil {
		b.say("joining %s to the cluster", name)
		join := append([]string{filepath.Join(b.bin, "reddwarf"), "join", APIServer + ":6443", "--node-name", name}, o.Join...)
		if _, err := h.Run(ctx, join...); err != nil {
			return nil, err
		}
	}
	if o.NoAgent {
		return h, nil
	}
	if err := h.StartAgent(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// installBrand puts our brand where zoneadm looks for it.
func (h *Host) installBrand(ctx context.Context) error {
	_, err := h.Run(ctx, "cp", "-r", filepath.Join(h.bed.bin, "brand", "reddwarf"), "/usr/lib/brand/")
	return err
}

// installSettings puts a file of settings where the agent looks for it.
func (h *Host) installSettings(ctx context.Context, text string) error {
	if text == "" {
		return nil
	}
	file := h.path("config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	if _, err := h.Run(ctx, "mkdir", "-m", "700", "/etc/reddwarf"); err != nil {
		return err
	}
	_, err := h.Run(ctx, "cp", file, "/etc/reddwarf/config.yaml")
	return err
}

// Path is where the Bed keeps a file of the host; it is the same on the host.
func (h *Host) Path(name string) string { return h.path(name) }

// AgentLog is the file that the agent logs to.
func (h *Host) AgentLog() string { return h.path("agent.log") }

// TraceFile gets every host command as a line of JSON.
func (h *Host) TraceFile() string { return h.path("trace.jsonl") }

// StartAgent starts the agent.
func (h *Host) StartAgent(context.Context) error {
	args := []string{"run", h.Name, "--", filepath.Join(h.bed.bin, "reddwarf"), "node",
		"--node-name", h.Name,
		"--node-ip", h.nodeIP,
		"--podinit-lx", filepath.Join(h.bed.bin, "podinit-linux"),
		// Native programs do not run on the simulated host.
		"--podinit-native", filepath.Join(h.bed.bin, "podinit-linux"),
		"--insecure-registry", Registry,
		"--insecure-registry", PrivateRegistry,
	}
	p, err := startProcess("agent "+h.Name, h.AgentLog(), h.bed.host(), append(args, h.flags...)...)
	if err != nil {
		return err
	}
	h.agent = p
	return nil
}

// StartProgram runs one of our programs on the host, in its global zone. What
// it returns ends the program with SIGTERM; its log is NAME.log beside the
// agent's.
func (h *Host) StartProgram(name string, args ...string) (stop func() error, err error) {
	p, err := startProcess(name+" on "+h.Name, h.path(name+".log"), h.bed.host(), append([]string{"run", h.Name, "--", filepath.Join(h.bed.bin, name)}, args...)...)
	if err != nil {
		return nil, err
	}
	return p.stop, nil
}

// StopAgent ends the agent with SIGTERM.
func (h *Host) StopAgent() error {
	if h.agent == nil {
		return nil
	}
	p := h.agent
	h.agent = nil
	return p.stop()
}

// KillAgent ends the agent with SIGKILL, as a crash would.
func (h *Host) KillAgent(ctx context.Context) error {
	if h.agent == nil {
		return errors.New("the agent does not run")
	}
	if _, err := h.Run(ctx, "pkill", "-9", "-x", "reddwarf"); err != nil {
		return err
	}
	select {
	case <-h.agent.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	h.agent = nil
	return nil
}

// AgentPID is the agent's process id as the host sees it.
func (h *Host) AgentPID(ctx context.Context) (string, error) {
	out, err := h.Run(ctx, "pgrep", "-x", "reddwarf")
	return strings.TrimSpace(out), err
}

// RunIn is Run with a standard input.
func (h *Host) RunIn(ctx context.Context, stdin string, args ...string) (string, error) {
	return h.bed.runIn(ctx, stdin, h.bed.host(), append([]string{"run", h.Name, "--"}, args...)...)
}

// Run runs a command on the host and returns its standard output.
func (h *Host) Run(ctx context.Context, args ...string) (string, error) {
	return h.bed.run(ctx, h.bed.host(), append([]string{"run", h.Name, "--"}, args...)...)
}

// Fault sets a fault for the host's commands; see `host fault --help`.
func (h *Host) Fault(ctx context.Context, args ...string) error {
	_, err := h.bed.run(ctx, h.bed.host(), append([]string{"fault", h.Name}, args...)...)
	return err
}

func (h *Host) close() error {
	err := h.StopAgent()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, down := h.bed.run(ctx, h.bed.host(), "down", h.Name)
	return errors.Join(err, down)
}

func (h *Host) path(name string) string { return filepath.Join(h.bed.Dir, "nodes", h.Name, name) }

func (b *Bed) host() string { return filepath.Join(b.bin, "host") }

// AwaitAgentEnd waits until the agent has ended by itself, as under a fault
// that kills it.
func (h *Host) AwaitAgentEnd(ctx context.Context) error {
	if h.agent == nil {
		return errors.New("the agent does not run")
	}
	select {
	case <-h.agent.done:
		h.agent = nil
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
