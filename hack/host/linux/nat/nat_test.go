package nat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/datalink"
	"reddwarf.io/reddwarf/hack/host/ipf"
	"reddwarf.io/reddwarf/hack/host/linux/links"
	"reddwarf.io/reddwarf/hack/host/linux/nat"
	"reddwarf.io/reddwarf/hack/host/linux/nstest"
	"reddwarf.io/reddwarf/hack/host/program"
	"reddwarf.io/reddwarf/hack/host/zones"
)

// TestMain runs the tests in a network namespace of their own, which is the
// simulated host's.
func TestMain(m *testing.M) {
	if !nstest.Main(m, nil) {
		fmt.Println("SKIP: the Linux backend of ipnat needs root for network namespaces")
	}
}

// host is a simulated host with a gateway gw0 on an etherstub for pods, and
// another etherstub with a link up0 towards the outside.
type host struct {
	t        *testing.T
	links    *datalink.Model
	filter   *ipf.Model
	commands map[string]program.Command
}

func newHost(t *testing.T) *host {
	t.Helper()
	b, err := links.New()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, links: datalink.New(datalink.Config{Backend: b}), filter: ipf.New(ipf.Config{Backend: nat.New(), Enabled: true})}
	h.commands = h.links.Commands()
	for name, c := range h.filter.Commands() {
		h.commands[name] = c
	}
	for _, c := range []string{
		"dladm create-etherstub -t pods0", "dladm create-vnic -t -l pods0 gw0", "ipadm create-addr -t -T static -a 10.244.0.1/24 gw0/v4",
		"dladm create-etherstub -t lan0", "dladm create-vnic -t -l lan0 up0", "ipadm create-addr -t -T static -a 198.51.100.11/24 up0/v4",
		"ipadm set-prop -t -p forwarding=on ipv4", "ipadm set-prop -t -p _send_redirects=0 ipv4",
	} {
		h.run(c, "")
	}
	t.Cleanup(func() {
		h.run("ipnat -CF", "")
		h.run("ipf -D", "")
		for _, c := range []string{"ipadm delete-if gw0", "ipadm delete-if up0", "dladm delete-vnic gw0", "dladm delete-vnic up0",
			"dladm delete-etherstub pods0", "dladm delete-etherstub lan0"} {
			h.run(c, "")
		}
		if out, _ := exec.Command("nft", "list", "table", "ip", "ipfilter").Output(); strings.Contains(string(out), "nat to") || strings.Contains(string(out), "vip_") {
			t.Errorf("rules are left behind:\n%s", out)
		}
	})
	return h
}

// run runs a command that has to succeed without a complaint.
func (h *host) run(line, stdin string) string {
	h.t.Helper()
	var out, errOut bytes.Buffer
	argv := strings.Fields(line)
	code := h.commands[argv[0]](context.Background(), &program.Invocation{Argv: argv, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errOut})
	if code != 0 || errOut.Len() > 0 {
		h.t.Fatalf("%s: exit %d\n%s%s", line, code, out.String(), errOut.String())
	}
	return out.String()
}

func (h *host) rules(lines ...string) {
	h.t.Helper()
	h.run("ipnat -f -", strings.Join(lines, "\n")+"\n")
}

// zone is a network namespace with one VNIC.
type zone struct {
	t     *testing.T
	netns string
	addr  string
}

// zone boots a zone on a stub; it is halted at the end of the test.
func (h *host) zone(id int, stub, addr, router string) *zone {
	h.t.Helper()
	link := fmt.Sprintf("rdw%d", id)
	h.run("dladm create-vnic -t -l "+stub+" "+link, "")
	netns, end := nstest.New(h.t)
	z := &zone{h.t, netns, strings.Split(addr, "/")[0]}
	c := zones.LinkConfig{Physical: link, Addresses: []netip.Prefix{netip.MustParsePrefix(addr)}}
	if router != "" {
		c.Routers = []netip.Addr{netip.MustParseAddr(router)}
	}
	c.Allowed = c.Addresses
	ctx := context.Background()
	name := fmt.Sprintf("z%d", id)
	if err := errors.Join(h.links.Assign(ctx, name, id, z.netns, c), h.links.Plumb(ctx, name, id, z.netns, c)); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		end()
		if err := h.links.Return(ctx, name, id); err != nil {
			h.t.Error(err)
		}
		h.run("dladm delete-vnic -t "+link, "")
	})
	return z
}

// in runs f on a thread in the zone's network namespace.
func (z *zone) in(f func() error) error { return nstest.In(z.netns, f) }

// serve answers every connection with the server's name and the client's
// address, over TCP and UDP.
func (z *zone) serve(name string, port int) {
	z.t.Helper()
	var ln net.Listener
	var pc net.PacketConn
	err := z.in(func() (err error) {
		at := net.JoinHostPort(z.addr, fmt.Sprint(port))
		if ln, err = net.Listen("tcp", at); err == nil {
			pc, err = net.ListenPacket("udp", at)
		}
		return err
	})
	if err != nil {
		z.t.Fatal(err)
	}
	z.t.Cleanup(func() { ln.Close(); pc.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
	go func() {
		buf := make([]byte, 1500)
		for {
			_, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo([]byte(name), from) //nolint:errcheck // the client notices
		}
	}()
}

func (z *zone) dial(to string) (string, error) {
	var answer string
	err := z.in(func() (err error) {
		answer, err = dial(to)
		return err
	})
	return answer, err
}

func dial(to string) (string, error) {
	c, err := (&net.Dialer{Timeout: 1500 * time.Millisecond}).Dial("tcp", to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(1500 * time.Millisecond)) //nolint:errcheck // a read fails instead
	out, err := io.ReadAll(c)
	return string(out), err
}

const hairpin = "map gw0 from 10.244.0.0/16 to 10.244.0.0/16 -> 10.244.0.1/32 portmap tcp/udp 20000:40000"

func TestHairpinNeedsTheMapRule(t *testing.T) {
	h := newHost(t)
	client, server := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1"), h.zone(5, "pods0", "10.244.0.5/24", "10.244.0.1")
	server.serve("five", 8080)
	h.rules("rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.5 port 8080 tcp round-robin")
	if got, err := client.dial("10.96.0.1:80"); err == nil {
		t.Errorf("without the map rule the client was answered: %q", got)
	}
	h.run("ipnat -F", "")
	h.rules(hairpin)
	if got, err := client.dial("10.96.0.1:80"); err != nil || got != "five 10.244.0.1" {
		t.Errorf("with the map rule: %q, %v", got, err)
	}
	if got, err := server.dial("10.96.0.1:80"); err != nil || got != "five 10.244.0.1" {
		t.Errorf("a client that is its own server: %q, %v", got, err)
	}
	list := h.run("ipnat -l", "")
	for _, want := range []string{"RDR 10.244.0.5      8080  <- -> 10.96.0.1       80    [10.244.0.9 ", "MAP 10.244.0.9 ", " <- -> 10.244.0.1 "} {
		if !strings.Contains(list, want) {
			t.Errorf("no session with %q in\n%s", want, list)
		}
	}
}

// TestIPv6 has a Service's rules with addresses of IPv6, beside those of IPv4.
func TestIPv6(t *testing.T) {
	h := newHost(t)
	for _, c := range []string{
		"ipadm create-addr -t -T static -a fd00:10:244::1/64 gw0/v6",
		"ipadm create-addr -t -T static -a fd00:198::11/64 up0/v6",
		"ipadm set-prop -t -p forwarding=on ipv6", "ipadm set-prop -t -p _send_redirects=0 ipv6",
	} {
		h.run(c, "")
	}
	client := h.zone(9, "pods0", "fd00:10:244::9/64", "fd00:10:244::1")
	h.zone(5, "pods0", "fd00:10:244::5/64", "fd00:10:244::1").serve("five", 8080)
	h.zone(6, "pods0", "fd00:10:244::6/64", "fd00:10:244::1").serve("six", 8080)
	outside := h.zone(80, "lan0", "fd00:198::80/64", "")
	outside.serve("outside", 80)
	four, server := h.zone(19, "pods0", "10.244.0.9/24", "10.244.0.1"), h.zone(15, "pods0", "10.244.0.5/24", "10.244.0.1")
	server.serve("four", 8080)

	rules := []string{
		"rdr gw0 fd00:10:96::1/128 port 80 -> fd00:10:244::5 port 8080 tcp round-robin",
		"rdr gw0 fd00:10:96::1/128 port 80 -> fd00:10:244::6 port 8080 tcp round-robin",
		"rdr gw0 fd00:10:96::2/128 port 80 -> fd00:10:244::6 port 8080 tcp round-robin",
		"rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.5 port 8080 tcp round-robin",
	}
	h.rules(rules...)
	if got, err := client.dial("[fd00:10:96::2]:80"); err == nil {
		t.Errorf("without the map rule the client was answered: %q", got)
	}
	h.run("ipnat -F", "")
	h.rules(hairpin, "map gw0 from fd00:10:244::/48 to fd00:10:244::/48 -> fd00:10:244::1/128 portmap tcp/udp 20000:40000",
		"map up0 from fd00:10:244::/64 ! to fd00:10:244::/48 -> fd00:198::11/128 portmap tcp/udp 20000:40000")
	if got, err := client.dial("[fd00:10:96::2]:80"); err != nil || got != "six fd00:10:244::1" {
		t.Errorf("one endpoint: %q, %v", got, err)
	}
	seen := map[string]int{}
	for range 4 {
		got, err := client.dial("[fd00:10:96::1]:80")
		if err != nil {
			t.Fatal(err)
		}
		seen[got]++
	}
	if seen["five fd00:10:244::1"] != 2 || seen["six fd00:10:244::1"] != 2 {
		t.Errorf("two endpoints by turns: %v", seen)
	}
	if got, err := client.dial("[fd00:198::80]:80"); err != nil || got != "outside fd00:198::11" {
		t.Errorf("to the outside: %q, %v", got, err)
	}
	if got, err := four.dial("10.96.0.1:80"); err != nil || got != "four 10.244.0.1" {
		t.Errorf("IPv4 beside it: %q, %v", got, err)
	}
	if list := h.run("ipnat -l", ""); !strings.Contains(list, "RDR fd00:10:244::6  8080  <- -> fd00:10:96::2   80    [fd00:10:244::9 ") {
		t.Errorf("no session of IPv6 in\n%s", list)
	}
	h.run("ipnat -r -f -", rules[1]+"\n")
	for range 3 {
		if got, err := client.dial("[fd00:10:96::1]:80"); err != nil || !strings.HasPrefix(got, "five") {
			t.Errorf("after an endpoint's removal: %q, %v", got, err)
		}
	}
	h.run("ipnat -C", "")
	if got, err := client.dial("[fd00:10:96::2]:80"); err == nil {
		t.Errorf("without rules: %q", got)
	}
}

func TestLocalPacketsAreNotRedirected(t *testing.T) {
	h := newHost(t)
	server := h.zone(5, "pods0", "10.244.0.5/24", "10.244.0.1")
	server.serve("five", 8080)
	h.rules("rdr * 10.244.0.77/32 port 80 -> 10.244.0.5 port 8080 tcp")
	if got, err := dial("10.244.0.77:80"); err == nil {
		t.Errorf("the host was redirected: %q", got)
	}
	if got, err := dial("10.244.0.5:8080"); err != nil || got != "five 10.244.0.1" {
		t.Errorf("the endpoint itself: %q, %v", got, err)
	}
}

func TestRoundRobinOverManyRules(t *testing.T) {
	h := newHost(t)
	client := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1")
	h.rules(hairpin)
	for i := range 3 {
		h.zone(5+i, "pods0", fmt.Sprintf("10.244.0.%d/24", 5+i), "10.244.0.1").serve(fmt.Sprint(5+i), 8080+i)
		h.rules(fmt.Sprintf("rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.%d port %d tcp round-robin", 5+i, 8080+i))
	}
	var seen []string
	for range 6 {
		got, err := client.dial("10.96.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, strings.Fields(got)[0])
	}
	if !slices.Equal(seen[:3], seen[3:]) || slices.Contains(seen[1:3], seen[0]) || seen[1] == seen[2] {
		t.Errorf("order of endpoints: %v", seen)
	}
	// A removed endpoint is not used again.
	h.run("ipnat -r -f -", "rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.6 port 8081 tcp round-robin\n")
	for range 4 {
		if got, err := client.dial("10.96.0.1:80"); err != nil || strings.HasPrefix(got, "6") {
			t.Errorf("after removal: %q, %v", got, err)
		}
	}
}

func TestMapsOnTheUplink(t *testing.T) {
	h := newHost(t)
	pod := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1")
	outside := h.zone(80, "lan0", "198.51.100.80/24", "")
	node := h.zone(81, "lan0", "198.51.100.81/24", "198.51.100.11")
	outside.serve("outside", 80)
	node.serve("node", 80)
	h.rules("map up0 from 10.244.0.0/24 to 198.51.100.81/32 -> 0/0",
		"map up0 from 10.244.0.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32 portmap tcp/udp 20000:40000",
		"map up0 from 10.244.0.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32")
	if got, err := pod.dial("198.51.100.80:80"); err != nil || got != "outside 198.51.100.11" {
		t.Errorf("to the outside: %q, %v", got, err)
	}
	if got, err := pod.dial("198.51.100.81:80"); err != nil || got != "node 10.244.0.9" {
		t.Errorf("identity: %q, %v", got, err)
	}
}

func TestEgressByInterfaceAddress(t *testing.T) {
	h := newHost(t)
	pod := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1")
	outside := h.zone(80, "lan0", "198.51.100.80/24", "")
	outside.serve("outside", 80)
	if got, err := pod.dial("198.51.100.80:80"); err == nil {
		t.Errorf("without a rule: %q", got)
	}
	h.rules("map up0 10.244.0.0/24 -> 0/32 portmap tcp/udp auto", "map up0 10.244.0.0/24 -> 0/32")
	if got, err := pod.dial("198.51.100.80:80"); err != nil || got != "outside 198.51.100.11" {
		t.Errorf("by the interface's address: %q, %v", got, err)
	}
}

func TestForwardingNeedsBothInterfaces(t *testing.T) {
	h := newHost(t)
	pod, outside := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1"), h.zone(80, "lan0", "198.51.100.80/24", "")
	var in net.PacketConn
	var out net.Conn
	err := errors.Join(
		outside.in(func() (err error) { in, err = net.ListenPacket("udp", "198.51.100.80:9"); return err }),
		pod.in(func() (err error) { out, err = net.Dial("udp", "198.51.100.80:9"); return err }))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	arrives := func() bool {
		out.Write([]byte("?"))                          //nolint:errcheck // the other side notices
		in.SetReadDeadline(time.Now().Add(time.Second)) //nolint:errcheck // as above
		_, _, err := in.ReadFrom(make([]byte, 10))
		return err == nil
	}
	h.run("ipadm set-ifprop -t -p forwarding=off -m ipv4 up0", "")
	if arrives() {
		t.Error("a packet left by an interface that does not forward")
	}
	h.run("ipadm set-ifprop -t -p forwarding=on -m ipv4 up0", "")
	if !arrives() {
		t.Error("no packet arrives with forwarding on")
	}
}

func TestAffinityByMaskWithHoles(t *testing.T) {
	h := newHost(t)
	even, odd := h.zone(8, "pods0", "10.244.0.8/24", "10.244.0.1"), h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1")
	h.zone(5, "pods0", "10.244.0.5/24", "10.244.0.1").serve("5", 8080)
	h.zone(6, "pods0", "10.244.0.6/24", "10.244.0.1").serve("6", 8080)
	h.rules(hairpin,
		"rdr gw0 from 0.0.0.0/0.0.0.1 to 10.96.0.1/32 port = 80 -> 10.244.0.5 port 8080 tcp",
		"rdr gw0 from 0.0.0.1/0.0.0.1 to 10.96.0.1/32 port = 80 -> 10.244.0.6 port 8080 tcp",
		"rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.99 port 8080 tcp")
	for range 3 {
		a, errA := even.dial("10.96.0.1:80")
		b, errB := odd.dial("10.96.0.1:80")
		if errA != nil || errB != nil || a[0] != '5' || b[0] != '6' {
			t.Errorf("even %q (%v), odd %q (%v)", a, errA, b, errB)
		}
	}
}

func TestPortRangesAndLongestMaskFirst(t *testing.T) {
	h := newHost(t)
	client, server := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1"), h.zone(5, "pods0", "10.244.0.5/24", "10.244.0.1")
	server.serve("moved", 2003)
	server.serve("fixed", 3000)
	server.serve("wide", 4000)
	h.rules(hairpin,
		"rdr gw0 from any to 10.96.0.0/16 port > 0 -> 10.244.0.5 port 4000 tcp",
		"rdr gw0 10.96.0.1/32 port 1000-1010 -> 10.244.0.5 port 2000 tcp",
		"rdr gw0 10.96.0.2/32 port 1000-1010 -> 10.244.0.5 port = 3000 tcp")
	for to, want := range map[string]string{"10.96.0.1:1003": "moved", "10.96.0.2:1007": "fixed", "10.96.7.7:55": "wide", "10.96.0.1:99": "wide"} {
		if got, err := client.dial(to); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, %v; want %s", to, got, err, want)
		}
	}
}

func TestSessionsOutliveTheirRule(t *testing.T) {
	h := newHost(t)
	client, server := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1"), h.zone(5, "pods0", "10.244.0.5/24", "10.244.0.1")
	server.serve("five", 53)
	rule := "rdr gw0 10.96.0.10/32 port 53 -> 10.244.0.5 port 53 udp"
	h.rules(hairpin, rule)
	open := func() (c net.Conn) {
		err := client.in(func() (err error) {
			c, err = net.Dial("udp", "10.96.0.10:53")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ask := func(c net.Conn) error {
		c.SetDeadline(time.Now().Add(time.Second)) //nolint:errcheck // the read fails instead
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 100))
		return err
	}
	c := open()
	if err := ask(c); err != nil {
		t.Fatalf("before: %v", err)
	}
	h.run("ipnat -r -f -", rule+"\n")
	if err := ask(c); err != nil {
		t.Errorf("the session ended with its rule: %v", err)
	}
	if ask(open()) == nil {
		t.Error("a new session was made without a rule")
	}
	h.run("ipnat -C", "")
	if err := ask(c); err != nil {
		t.Errorf("the session ended with the last rule of all: %v", err)
	}
	if out := h.run("ipnat -F", ""); strings.HasPrefix(out, "0 ") {
		t.Errorf("flushed: %s", out)
	}
	if ask(c) == nil {
		t.Error("the session survived ipnat -F")
	}
}

func TestAgeOfUDPSessions(t *testing.T) {
	h := newHost(t)
	client, server := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1"), h.zone(5, "pods0", "10.244.0.5/24", "10.244.0.1")
	server.serve("five", 53)
	rule := "rdr gw0 10.96.0.10/32 port 53 -> 10.244.0.5 port 53 udp age 1000/1000"
	h.rules(hairpin, rule)
	var c net.Conn
	if err := client.in(func() (err error) { c, err = net.Dial("udp", "10.96.0.10:53"); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second)) //nolint:errcheck // the read fails instead
	c.Write([]byte("?"))                       //nolint:errcheck // the read fails instead
	if _, err := c.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	// Linux' own time for UDP is two minutes at most.
	if !slices.ContainsFunc(flows, func(f *netlink.ConntrackFlow) bool {
		return f.Forward.Protocol == unix.IPPROTO_UDP && f.Forward.DstPort == 53 && f.TimeOut > 900
	}) {
		t.Errorf("sessions: %v", flows)
	}
	h.run("ipnat -r -f -", rule+"\n")
	h.rules(rule)
}

func TestFilterRefusesConnections(t *testing.T) {
	h := newHost(t)
	client := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1")
	h.run("ipf -f -", "block return-rst in quick on gw0 proto tcp from any to 10.96.0.0/16\n")
	h.run("route -n add 10.96.0.0/16 198.51.100.1", "")
	if _, err := client.dial("10.96.0.1:80"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dialing a refused network: %v", err)
	}
	h.run("route -n delete 10.96.0.0/16 198.51.100.1", "")
	h.run("ipf -Fa", "")
}

func TestThousandsOfRules(t *testing.T) {
	h := newHost(t)
	client, server := h.zone(9, "pods0", "10.244.0.9/24", "10.244.0.1"), h.zone(5, "pods0", "10.244.0.5/24", "10.244.0.1")
	server.serve("five", 8080)
	lines := []string{hairpin}
	for i := range 5000 { // two endpoints each
		lines = append(lines, fmt.Sprintf("rdr gw0 10.96.%d.%d/32 port 80 -> 10.244.0.5 port %d tcp round-robin", i/2/250, i/2%250, 8080+i%2))
	}
	server.serve("six", 8081)
	h.rules(lines...)
	h.rules("rdr gw0 10.97.0.1/32 port 80 -> 10.244.0.5 port 8080 tcp round-robin")
	h.run("ipnat -r -f -", lines[1]+"\n")
	for _, to := range []string{"10.96.0.0:80", "10.96.9.249:80", "10.97.0.1:80"} {
		if got, err := client.dial(to); err != nil || got == "" {
			t.Errorf("%s: %q, %v", to, got, err)
		}
	}
	if n := strings.Count(h.run("ipnat -l", ""), "\nrdr "); n != 5000 {
		t.Errorf("%d rules are listed", n)
	}
}

// Whoever runs ipnat may be killed at any moment, also right after the kernel has
// made the change. The next one must find the table as it is.
func TestKilledCallerLosesNothing(t *testing.T) {
	h := newHost(t)
	real, err := exec.LookPath("nft")
	if err != nil {
		t.Fatal(err)
	}
	// One that takes its time after the change.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nft"), []byte("#!/bin/sh\n"+real+" \"$@\" || exit\nexec sleep 0.2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		rule := fmt.Sprintf("rdr gw0 10.96.1.%d/32 port 80 -> 10.244.0.5 port 8080 udp age 30/30\n", i)
		var out bytes.Buffer
		h.commands["ipnat"](ctx, &program.Invocation{Argv: []string{"ipnat", "-f", "-"}, Stdin: strings.NewReader(rule), Stdout: &out, Stderr: &out})
		cancel()
		h.rules(fmt.Sprintf("rdr gw0 10.96.2.%d/32 port 80 -> 10.244.0.5 port 8080 tcp", i))
	}
	h.run("ipnat -C", "")
	if out, err := exec.Command(real, "list", "table", "ip", "ipfilter").Output(); err != nil || strings.Contains(string(out), "10.96.") {
		t.Errorf("left after the flush (%v):\n%s", err, out)
	}
}
