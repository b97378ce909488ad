//go:build linux

package ipnat_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/hack/host/linux/links"
	"reddwarf.io/reddwarf/hack/host/linux/nat"
	"reddwarf.io/reddwarf/hack/host/linux/nstest"
	"reddwarf.io/reddwarf/hack/host/zones"
	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/zones/command"
)

// TestMain gives the tests a network of their own, where root can: one of them
// has real rules in it.
func TestMain(m *testing.M) {
	if !nstest.Main(m, nil) {
		os.Exit(m.Run())
	}
}

// network is a simulated host whose links and rules are real, with zones of
// pods, and one place outside.
type network struct {
	*machine
	pod, outside string // network namespaces
	open         []*connection
	echoes       int

	mortal bool // the next ipnat that loads is killed
	lives  int  // after so many lines
}

// Run has ipnat killed before, amid or after what it loads, and its caller with
// it.
func (n *network) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	if !n.mortal || c.Name != "ipnat" || c.Args[len(c.Args)-1] != "-" || slices.Contains(c.Args, "-nv") {
		return n.machine.Run(ctx, c)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(c.Stdin, "\n"), "\n")
	if n.lives > len(lines) {
		n.lives -= len(lines)
		return n.machine.Run(ctx, c)
	}
	n.mortal = false
	if n.lives > 0 {
		c.Stdin = strings.Join(lines[:n.lives], "")
		// Who is killed while it runs does not take back what the kernel has begun.
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Duration(n.lives)*time.Millisecond, cancel)
		if _, err := n.machine.Run(ctx, c); err != nil {
			n.t.Logf("the killed ipnat said %v", err)
		}
		cancel()
	}
	return nil, &command.Error{Cmd: c, ExitCode: -1, Err: errDied}
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("real rules need root, for network namespaces")
	}
	b, err := links.New()
	if err != nil {
		t.Fatal(err)
	}
	n := &network{machine: &machine{Model: host.NewModel(host.Uplinks(), host.WithBackends(host.Backends{Links: b, NAT: nat.New()})), t: t}}
	t.Cleanup(func() {
		n.Close()
		clearLinks(t)
	})
	for _, line := range []string{
		"dladm create-etherstub -t pods0", "dladm create-vnic -t -l pods0 rdwgw0", "ipadm create-addr -t -T static -a 10.244.1.1/24 rdwgw0/v4",
		"dladm create-etherstub -t lan0", "dladm create-vnic -t -l lan0 net0", "ipadm create-addr -t -T static -a 198.51.100.11/24 net0/v4",
		"ipadm set-prop -t -p forwarding=on ipv4", "ipadm set-prop -t -p _send_redirects=0 ipv4", "ipf -E",
	} {
		f := strings.Fields(line)
		n.must("", f[0], f[1:]...)
	}
	n.pod, n.outside = n.zone(9, "pods0", "10.244.1.9/24", "10.244.1.1"), n.zone(80, "lan0", "198.51.100.80/24", "")
	for _, id := range []int{5, 6} {
		ip := fmt.Sprintf("10.244.1.%d", id)
		netns := n.zone(id, "pods0", ip+"/24", "10.244.1.1")
		for port := 8000; port < 8005; port++ {
			n.serve(netns, fmt.Sprintf("%s:%d", ip, port))
		}
	}
	return n
}

// clearLinks leaves the tests' network as it was.
func clearLinks(t *testing.T) {
	t.Helper()
	all, err := netlink.LinkList()
	if err != nil {
		t.Error(err)
	}
	for _, l := range all {
		if l.Attrs().Name == "lo" {
			continue
		}
		// The other end of a pair may have gone with this one.
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, syscall.ENODEV) {
			t.Errorf("remove %s: %v", l.Attrs().Name, err)
		}
	}
}

// zone returns the network namespace of a zone with one link. It may have
// several addresses and routers, with spaces between them.
func (n *network) zone(id int, stub, addrs, routers string) string {
	n.t.Helper()
	link, name := fmt.Sprintf("rdw%d", id), fmt.Sprintf("z%d", id)
	n.must("", "dladm", "create-vnic", "-t", "-l", stub, link)
	netns, _ := nstest.New(n.t)
	c := zones.LinkConfig{Physical: link}
	for addr := range strings.FieldsSeq(addrs) {
		c.Addresses = append(c.Addresses, netip.MustParsePrefix(addr))
	}
	for router := range strings.FieldsSeq(routers) {
		c.Routers = append(c.Routers, netip.MustParseAddr(router))
	}
	c.Allowed = c.Addresses
	if err := errors.Join(n.Links.Assign(n.t.Context(), name, id, netns, c), n.Links.Plumb(n.t.Context(), name, id, netns, c)); err != nil {
		n.t.Fatal(err)
	}
	return netns
}

// serve says where it is to whoever connects, and then echoes.
func (n *network) serve(netns, at string) {
	n.t.Helper()
	var l net.Listener
	err := nstest.In(netns, func() (err error) {
		l, err = net.Listen("tcp", at) //nolint:noctx // closed at the test's end
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()                //nolint:errcheck // all is said
				io.WriteString(c, at+"\n")     //nolint:errcheck // the client notices
				io.Copy(c, bufio.NewReader(c)) //nolint:errcheck // as above
			}()
		}
	}()
}

// connection is an open one to an endpoint of a Service.
type connection struct {
	net.Conn
	in      *bufio.Reader
	service string
	server  string // who has answered
}

// dial opens a connection to a Service and reads who answers.
func (n *network) dial(netns, to, service string) (*connection, error) {
	c := &connection{service: service}
	err := nstest.In(netns, func() (err error) {
		c.Conn, err = (&net.Dialer{Timeout: 20 * time.Second}).DialContext(n.t.Context(), "tcp", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	n.t.Cleanup(func() { c.Close() })
	c.in = bufio.NewReader(c)
	c.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // the read fails instead
	line, err := c.in.ReadString('\n')
	c.server = strings.TrimSpace(line)
	return c, err
}

// echo says whether the connection still leads to its server and back.
func (c *connection) echo(i int) error {
	c.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // the read fails instead
	if _, err := fmt.Fprintf(c, "event %d\n", i); err != nil {
		return err
	}
	line, err := c.in.ReadString('\n')
	if err == nil && line != fmt.Sprintf("event %d\n", i) {
		err = fmt.Errorf("the echo is %q", line)
	}
	return err
}

// liveCluster is what the test wants of the Services.
type liveCluster struct {
	*rand.Rand
	table *ipnat.Table
	have  map[string]ipnat.Service
}

// change changes a Service, or takes it away.
func (c *liveCluster) change() ipnat.Delta {
	k := c.IntN(4)
	s := ipnat.Service{Name: fmt.Sprintf("default/s%d", k), ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(1 + k)})}, Affinity: k == 3}
	if c.IntN(8) == 0 {
		delete(c.have, s.Name)
		return c.table.Delete(s.Name)
	}
	p := ipnat.Port{Protocol: ipnat.TCP, Port: 80, NodePort: uint16(30080 + k)}
	for _, e := range c.Perm(10)[:c.IntN(6)] {
		p.Endpoints = append(p.Endpoints, ipnat.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, 1, byte(5 + e%2)}), Port: uint16(8000 + e/2), Node: "n1", Ready: true, Serving: true})
	}
	// Mostly one endpoint comes or goes, and the others are as they were.
	if before, ok := c.have[s.Name]; ok && c.IntN(4) > 0 {
		kept := slices.Clone(before.Ports[0].Endpoints)
		if len(kept) > 0 && c.IntN(2) == 0 {
			kept = slices.Delete(kept, 0, 1)
		}
		p.Endpoints = append(kept, p.Endpoints[:min(1, len(p.Endpoints))]...)
	}
	s.Ports = []ipnat.Port{p}
	c.have[s.Name] = s
	return c.table.Set(s)
}

// serves says whether an address is an endpoint of a Service.
func (c *liveCluster) serves(service, at string) bool {
	s, ok := c.have[service]
	return ok && slices.ContainsFunc(s.Ports[0].Endpoints, func(e ipnat.Endpoint) bool {
		return netip.AddrPortFrom(e.Addr, e.Port).String() == at
	})
}

// connect opens a connection to a Service that has endpoints: from a pod to its
// cluster address, or from outside to its node port.
func (n *network) connect(c *liveCluster, when string) {
	n.t.Helper()
	for _, k := range c.Perm(4) {
		name := fmt.Sprintf("default/s%d", k)
		if s, ok := c.have[name]; !ok || len(s.Ports[0].Endpoints) == 0 {
			continue
		}
		netns, to := n.pod, fmt.Sprintf("10.96.0.%d:80", 1+k)
		if c.IntN(3) == 0 {
			netns, to = n.outside, fmt.Sprintf("198.51.100.11:%d", 30080+k)
		}
		made, err := n.dial(netns, to, name)
		if err != nil || !c.serves(name, made.server) {
			n.t.Fatalf("%s: %s answers %+v, %v", when, to, made, err)
		}
		n.open = append(n.open, made)
		return
	}
}

// check asks over every connection, and forgets those whose endpoint has gone.
func (n *network) check(c *liveCluster, i int, when string) {
	n.t.Helper()
	n.open = slices.DeleteFunc(n.open, func(o *connection) bool {
		if !c.serves(o.service, o.server) {
			o.Close()
			return true
		}
		if err := o.echo(i); err != nil {
			n.t.Fatalf("%s: the connection to %s of %s broke: %v", when, o.server, o.service, err)
		}
		n.echoes++
		return false
	})
	if len(n.open) > 12 {
		n.open[0].Close()
		n.open = n.open[1:]
	}
}

// TestConnectionsOutliveEvents has real rules and real connections: whatever
// happens to the loader, to ipnat while it runs, and to the rules, all is in
// line again afterwards, and no connection through an endpoint that stays has
// noticed.
func TestConnectionsOutliveEvents(t *testing.T) {
	n := newNetwork(t)
	table, err := ipnat.NewTable(v4Node())
	if err != nil {
		t.Fatal(err)
	}
	c := &liveCluster{rand.New(rand.NewPCG(11, 4)), table, map[string]ipnat.Service{}} //nolint:gosec // a test's dice
	l := ipnat.NewLoader(n)
	if _, err := l.Sync(t.Context(), table.Rules()); err != nil {
		t.Fatal(err)
	}
	var foreign []string
	for i := range 1000 {
		d, event := n.event(c, &foreign)
		when := fmt.Sprintf("event %d, %s", i, event)
		_, err := l.Apply(t.Context(), d)
		n.mortal = false
		for range 3 {
			if errors.Is(err, errDied) {
				l = ipnat.NewLoader(n)
			}
			if errors.Is(err, ipnat.ErrOff) {
				if err := l.Enable(t.Context()); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
			}
			if err == nil && event == "service" {
				break
			}
			if _, err = l.Sync(t.Context(), table.Rules()); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		n.equals(t, when, table.Rules(), foreign)
		n.check(c, i, when)
		n.connect(c, when)
	}
	t.Logf("%d echoes over connections that were open before an event", n.echoes)
	if n.echoes < 4000 {
		t.Errorf("only %d echoes", n.echoes)
	}
	// What keeps connections is the sessions: without them the test would fail.
	n.must("", "ipnat", "-F")
	broken := 0
	for i, o := range n.open {
		o.SetDeadline(time.Now().Add(2 * time.Second)) //nolint:errcheck // the read fails instead
		if _, err := fmt.Fprintf(o, "%d\n", i); err != nil {
			broken++
		} else if _, err := o.in.ReadString('\n'); err != nil {
			broken++
		}
	}
	if broken == 0 {
		t.Errorf("all of %d connections outlive their sessions", len(n.open))
	}
}

// event makes something happen, and returns what the loader is to change.
func (n *network) event(c *liveCluster, foreign *[]string) (ipnat.Delta, string) {
	n.t.Helper()
	switch c.IntN(16) {
	case 0:
		n.must("", "ipnat", "-C")
		*foreign = nil
		return ipnat.Delta{}, "flush"
	case 1:
		rules := c.table.Rules()
		n.must(rules[c.IntN(len(rules))].String()+"\n", "ipnat", "-r", "-f", "-")
		return ipnat.Delta{}, "rule of ours removed"
	case 2, 3:
		r := fmt.Sprintf("rdr net0 198.51.100.11/32 port %d -> 10.1.1.1 port 443 tcp", 9000+c.IntN(5))
		if i := slices.Index(*foreign, r); i >= 0 {
			n.must(r+"\n", "ipnat", "-r", "-f", "-")
			*foreign = slices.Delete(*foreign, i, i+1)
		} else {
			n.must(r+"\n", "ipnat", "-f", "-")
			*foreign = append(*foreign, r)
		}
		return ipnat.Delta{}, "foreign rule"
	case 4, 5, 6:
		// It has done nothing, some lines, or all when it is killed, and so has the
		// program that ran it.
		n.mortal, n.lives = true, c.IntN(4)
		return c.change(), "crash"
	case 7:
		if c.IntN(5) > 0 {
			return c.change(), "service"
		}
		n.must("", "ipf", "-D") // ends all sessions, whoever does it
		*foreign = nil
		for _, o := range n.open {
			o.Close()
		}
		n.open = nil
		return ipnat.Delta{}, "filter off"
	default:
		return c.change(), "service"
	}
}
