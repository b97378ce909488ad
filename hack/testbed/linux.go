package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// LinuxNode is a node of the cluster that runs Linux, as far as its network
// goes: a network namespace on the LAN that forwards, and one with an address
// of its podCIDR behind it. Its routes are those that flannel's host-gw backend
// makes of the other nodes' annotations; it has no kubelet.
type LinuxNode struct {
	Name, IP, PodIP string

	bed       *Bed
	node, pod *exec.Cmd
}

// namespace starts a process that keeps a network namespace, and returns when
// that is there: until then the process is in ours.
func (b *Bed) namespace(ctx context.Context, log string) (*exec.Cmd, error) {
	p, err := startProcess(log, b.path(log+".log"), "unshare", "--net", "sleep", "infinity")
	if err != nil {
		return nil, err
	}
	b.processes = append(b.processes, p)
	return p.cmd, b.Eventually(ctx, time.Minute, "the network of "+log, func(context.Context) error {
		ours, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			return err
		}
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.cmd.Process.Pid))
		if err == nil && its == ours {
			err = errors.New("it has none of its own yet")
		}
		return err
	})
}

// AddLinuxNode makes a Linux node with that address on the LAN. The cluster
// gives it its podCIDR.
func (b *Bed) AddLinuxNode(ctx context.Context, name, ip string) (*LinuxNode, error) {
	n := &LinuxNode{Name: name, IP: ip, bed: b}
	manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"Node","metadata":{"name":%q,"labels":{"kubernetes.io/os":"linux"}},"spec":{"unschedulable":true}}`, name)
	if _, err := b.KubectlIn(ctx, manifest, "create", "-f", "-"); err != nil {
		return nil, err
	}
	status := fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":%q}]}}`, ip)
	if _, err := b.Kubectl(ctx, "patch", "node", name, "--subresource=status", "--type=merge", "-p", status); err != nil {
		return nil, err
	}
	var cidr string
	err := b.Eventually(ctx, time.Minute, "a podCIDR of node "+name, func(ctx context.Context) error {
		out, err := b.Kubectl(ctx, "get", "node", name, "-o", "jsonpath={.spec.podCIDR}")
		if cidr = out; err == nil && cidr == "" {
			err = errors.New("it has none")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	base, ok := strings.CutSuffix(cidr, ".0/24")
	if !ok {
		return nil, fmt.Errorf("node %s: podCIDR %s is no /24", name, cidr)
	}
	n.PodIP = base + ".5"
	if n.node, err = b.namespace(ctx, name); err != nil {
		return nil, err
	}
	if n.pod, err = b.namespace(ctx, name+"-pod"); err != nil {
		return nil, err
	}
	node, pod := fmt.Sprint(n.node.Process.Pid), fmt.Sprint(n.pod.Process.Pid)
	for _, step := range []string{
		"ip link add lnx0 type veth peer name eth0 netns " + node,
		"ip link set lnx0 master lan0 up",
		"nsenter -n -t " + node + " ip link set lo up",
		"nsenter -n -t " + node + " ip addr add " + ip + "/24 dev eth0",
		"nsenter -n -t " + node + " ip link set eth0 up",
		"nsenter -n -t " + node + " sysctl -qw net.ipv4.ip_forward=1",
		"nsenter -n -t " + node + " ip link add cni0 type veth peer name eth0 netns " + pod,
		"nsenter -n -t " + node + " ip addr add " + base + ".1/24 dev cni0",
		"nsenter -n -t " + node + " ip link set cni0 up",
		"nsenter -n -t " + pod + " ip link set lo up",
		"nsenter -n -t " + pod + " ip addr add " + n.PodIP + "/24 dev eth0",
		"nsenter -n -t " + pod + " ip link set eth0 up",
		"nsenter -n -t " + pod + " ip route add default via " + base + ".1",
	} {
		if _, err := n.bed.command(ctx, strings.Fields(step)...); err != nil {
			return nil, err
		}
	}
	return n, n.SyncRoutes(ctx)
}

// command runs a program once the namespaces that it names are there.
func (b *Bed) command(ctx context.Context, argv ...string) (string, error) {
	return b.run(ctx, argv[0], argv[1:]...)
}

// SyncRoutes does what flannel does for nodes with the backend host-gw.
func (n *LinuxNode) SyncRoutes(ctx context.Context) error {
	out, err := n.bed.Kubectl(ctx, "get", "nodes", "-o",
		`jsonpath={range .items[?(@.metadata.annotations.flannel\.alpha\.coreos\.com/backend-type=="host-gw")]}{.spec.podCIDR}{" "}{.metadata.annotations.flannel\.alpha\.coreos\.com/public-ip}{"\n"}{end}`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if _, err := n.In(ctx, "ip", "route", "replace", f[0], "via", f[1]); err != nil {
			return err
		}
	}
	return nil
}

// In runs a program in the node's network.
func (n *LinuxNode) In(ctx context.Context, argv ...string) (string, error) {
	return n.bed.run(ctx, "nsenter", append([]string{"-n", "-t", fmt.Sprint(n.node.Process.Pid)}, argv...)...)
}

// InPod runs a program in the network of the node's pod.
func (n *LinuxNode) InPod(ctx context.Context, argv ...string) (string, error) {
	return n.bed.run(ctx, "nsenter", append([]string{"-n", "-t", fmt.Sprint(n.pod.Process.Pid)}, argv...)...)
}

// Serve makes the node's pod answer HTTP on a port as the image web does.
func (n *LinuxNode) Serve(port int) error {
	return n.bed.spawn(n.Name+"-web", "nsenter", "-n", "-t", fmt.Sprint(n.pod.Process.Pid), n.bed.Program("web"), "serve", "--port", fmt.Sprint(port))
}

// Remove takes the node out of the cluster; its namespaces end with the Bed.
func (n *LinuxNode) Remove(ctx context.Context) error {
	_, err := n.bed.Kubectl(ctx, "delete", "node", n.Name, "--ignore-not-found")
	return err
}
