// Bench measures our Services beside kube-proxy's nftables proxier, with the
// same objects in the same run: kube-proxy's rules go to this machine's kernel,
// in a network namespace of their own, ours to the simulated host.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/hack/kubeproxy"
	"reddwarf.io/reddwarf/hack/testapi"
	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/network/services"
	"reddwarf.io/reddwarf/zones/command"
)

const insideEnv = "KUBEPROXY_BENCH_INSIDE"

func main() {
	if name := filepath.Base(os.Args[0]); slices.Contains(commands, name) {
		os.Exit(beCommand(name))
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	n := flag.Int("services", 10000, "how many Services, with 5 endpoints each")
	changes := flag.Int("changes", 50, "how many changes of one endpoint are measured")
	clusterip := flag.String("clusterip", "", "program of the controller, whose memory is measured")
	flag.Parse()
	if os.Getenv(insideEnv) == "" {
		return again()
	}
	klog.SetLogger(klog.Logger{})
	if err := isNode(); err != nil {
		return err
	}
	ctx := context.Background()
	objects := kubeproxy.Large(*n, 5)
	fmt.Printf("%d Services with 5 endpoints each; medians of %d changes\n\n", *n, *changes)
	theirs, err := measureKubeProxy(ctx, objects, *changes)
	if err != nil {
		return err
	}
	ours, err := measureOurs(ctx, objects, *changes)
	if err != nil {
		return err
	}
	fmt.Printf("%-52s %14s %14s %8s\n", "", "kube-proxy", "ours", "ratio")
	row := func(what string, a, b time.Duration) {
		fmt.Printf("%-52s %14v %14v %8.4f\n", what, a.Round(time.Microsecond), b.Round(time.Microsecond), float64(b)/float64(a))
	}
	row("everything: objects to rules given to the host", theirs.full, ours.full)
	row("  of that compiling, ours without the host", theirs.full, ours.compile)
	row("one endpoint: object to rules given to the host", theirs.change, ours.change)
	row("  of that compiling, ours without the host", theirs.change, ours.changeCompile)
	fmt.Printf("%-52s %14d %14d\n%-52s %14d %14d\n", "commands to the kernel, everything", theirs.fullCommands, ours.fullCommands, "bytes to the kernel, everything", theirs.fullBytes, ours.fullBytes)
	fmt.Printf("%-52s %14d %14d\n%-52s %14d %14d\n", "commands to the kernel, one endpoint", theirs.commands, ours.commands, "bytes to the kernel, one endpoint", theirs.bytes, ours.bytes)
	if *clusterip == "" {
		return nil
	}
	return measureMemory(ctx, *clusterip, objects)
}

// again runs this program in a network namespace of its own.
func again() error {
	cmd := exec.Command(os.Args[0], os.Args[1:]...) //nolint:noctx // it ends with this one
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death signal follows the thread
	return cmd.Run()
}

func isNode() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("198.51.100.11/32")
	return errors.Join(err, netlink.LinkSetUp(lo), netlink.AddrAdd(lo, addr))
}

func proxyNode() kubeproxy.Node {
	return kubeproxy.Node{Name: "n1", Zone: "z1", Host: netip.MustParseAddr("198.51.100.11"), Pods: netip.MustParsePrefix("10.244.1.0/24")}
}

type figures struct {
	full, compile           time.Duration
	change, changeCompile   time.Duration
	fullCommands, fullBytes int
	commands, bytes         int
}

// timed runs f after a garbage collection, and returns the time it took.
func timed(f func()) time.Duration {
	runtime.GC()
	began := time.Now()
	f()
	return time.Since(began)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func measureKubeProxy(ctx context.Context, o kubeproxy.Objects, changes int) (figures, error) {
	var f figures
	p, err := kubeproxy.NewProxier(ctx, proxyNode())
	if err != nil {
		return f, err
	}
	f.full = timed(func() { p.Add(o); p.Sync() })
	if err := loaded(ctx, len(o.Services)); err != nil {
		return f, err
	}
	var walls []time.Duration
	for i := range changes {
		at := (i * 97) % len(o.Slices)
		after := kubeproxy.Moved(o.Slices[at], i)
		walls = append(walls, timed(func() { p.Change(o.Slices[at], after); p.Sync() }))
	}
	f.change = median(walls)

	// What it says is counted on a smaller cluster: the fake looks through all
	// that it has for each command. It is the same for each Service.
	if p, err = kubeproxy.NewProxier(ctx, proxyNode()); err != nil {
		return f, err
	}
	few := min(len(o.Services), 500)
	p.Fake()
	p.Add(kubeproxy.Objects{Services: o.Services[:few], Slices: o.Slices[:few]})
	p.Sync()
	bytes, commands := p.Given()
	f.fullBytes, f.fullCommands = bytes*len(o.Services)/few, commands*len(o.Services)/few
	p.Change(o.Slices[0], kubeproxy.Moved(o.Slices[0], 1))
	p.Sync()
	f.bytes, f.commands = p.Given()
	return f, nil
}

// loaded makes sure that kube-proxy's rules are in the kernel: it only logs
// what fails.
func loaded(ctx context.Context, n int) error {
	out, err := exec.CommandContext(ctx, "nft", "list", "map", "ip", "kube-proxy", "service-ips").Output()
	if err != nil {
		return err
	}
	if got := strings.Count(string(out), "goto service-"); got != n {
		return fmt.Errorf("kube-proxy has loaded %d services of %d", got, n)
	}
	return nil
}

// counting counts what the host's ipnat is given.
type counting struct {
	*host.Model
	commands, bytes int
}

func (c *counting) Run(ctx context.Context, cmd command.Cmd) ([]byte, error) {
	if cmd.Name == "ipnat" && cmd.Stdin != "" && !slices.Contains(cmd.Args, "-nv") {
		c.commands += strings.Count(cmd.Stdin, "\n")
		c.bytes += len(cmd.Stdin)
	}
	return c.Model.Run(ctx, cmd)
}

func node() ipnat.Node {
	p := proxyNode()
	return ipnat.Node{Name: p.Name, Zone: p.Zone, Gateway: "rdwgw0", Uplink: "net0", IPv4: &ipnat.Networks{Pods: p.Pods, Cluster: netip.MustParsePrefix("10.244.0.0/16"),
		Gateway: netip.MustParseAddr("10.244.1.1"), Host: p.Host}}
}

func measureOurs(ctx context.Context, o kubeproxy.Objects, changes int) (figures, error) {
	var f figures
	h := &counting{Model: host.NewModel()}
	defer h.Close()
	if _, err := h.Run(ctx, command.New("ipf", "-E")); err != nil {
		return f, err
	}
	table, err := ipnat.NewTable(node())
	if err != nil {
		return f, err
	}
	loader := ipnat.NewLoader(h)
	// The objects lie in the controller's order: a Service and its slices.
	compile := func(i int, s *discoveryv1.EndpointSlice) ipnat.Delta {
		svc, ok := services.Translate(o.Services[i], []discoveryv1.EndpointSlice{*s})
		if !ok {
			panic("a service without rules")
		}
		return table.Set(svc)
	}
	began := time.Now()
	f.full = timed(func() {
		began = time.Now()
		for i := range o.Services {
			compile(i, o.Slices[i])
		}
		rules := table.Rules()
		f.compile = time.Since(began)
		_, err = loader.Sync(ctx, rules)
	})
	if err != nil {
		return f, err
	}
	f.fullCommands, f.fullBytes = h.commands, h.bytes
	var walls, compiles []time.Duration
	for i := range changes {
		at := (i * 97) % len(o.Slices)
		after := kubeproxy.Moved(o.Slices[at], i)
		var once time.Duration
		h.commands, h.bytes = 0, 0
		wall := timed(func() {
			began := time.Now()
			d := compile(at, after)
			once = time.Since(began)
			_, err = loader.Apply(ctx, d)
		})
		if err != nil {
			return f, err
		}
		walls, compiles = append(walls, wall), append(compiles, once)
		f.commands, f.bytes = h.commands, h.bytes
	}
	f.change, f.changeCompile = median(walls), median(compiles)
	return f, nil
}

// measureMemory runs the controller itself, with an API server that has the
// objects, and looks at it when the rules are in line and after some more looks
// at all of them.
func measureMemory(ctx context.Context, program string, o kubeproxy.Objects) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "clusterip-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // in /tmp
	m := host.NewModel()
	defer m.Close()
	for _, line := range []string{"dladm create-etherstub -t reddwarf0", "dladm create-vnic -t -l reddwarf0 rdwgw0", "ipadm create-addr -t -T static -a 10.244.1.1/24 rdwgw0/v4"} {
		w := strings.Fields(line)
		if _, err := m.Run(ctx, command.New(w[0], w[1:]...)); err != nil {
			return err
		}
	}
	if err := relay(ctx, m, dir); err != nil {
		return err
	}
	api := testapi.New(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}}},
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}})
	defer api.Close()
	for i := range o.Services {
		api.Set(o.Services[i])
		api.Set(o.Slices[i])
	}
	config := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", api.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "--kubeconfig", config, "--node-name", "n1", "--uplink", "net0", "--cluster-cidr", "10.244.0.0/16", "--sync-period", "10s", "--log-level", "warn", "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "PATH="+dir, socketEnv+"="+filepath.Join(dir, "socket"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait() //nolint:errcheck // it is killed
	defer cancel()
	want := 5 * len(o.Services)
	began := time.Now()
	for {
		out, err := m.Run(ctx, command.New("ipnat", "-s"))
		if err == nil && rules(string(out)) >= want {
			break
		}
		if time.Since(began) > 5*time.Minute {
			return fmt.Errorf("the controller has not loaded its rules: %s %w", out, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	fmt.Printf("\nthe controller itself: rules in line %.1f s after its start\n", time.Since(began).Seconds())
	for _, after := range []time.Duration{5 * time.Second, 25 * time.Second, 60 * time.Second} {
		time.Sleep(after)
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			return err
		}
		fmt.Printf("%6.0f s  resident %s, at most %s\n", time.Since(began).Seconds(), field(string(status), "VmRSS:"), field(string(status), "VmHWM:"))
	}
	return nil
}

func rules(out string) int {
	for line := range strings.Lines(out) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "rules\t"); ok {
			i, err := strconv.Atoi(n)
			if err == nil {
				return i
			}
		}
	}
	return 0
}

func field(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name); ok {
			kib, _ := strconv.Atoi(strings.Fields(v)[0])
			return fmt.Sprintf("%.1f MiB", float64(kib)/1024)
		}
	}
	return "?"
}
