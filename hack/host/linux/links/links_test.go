package links_test

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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/datalink"
	"reddwarf.io/reddwarf/hack/host/linux/links"
	"reddwarf.io/reddwarf/hack/host/linux/nstest"
	"reddwarf.io/reddwarf/hack/host/program"
	"reddwarf.io/reddwarf/hack/host/zones"
)

// TestMain runs the tests in a network namespace of their own, which is the
// simulated host's.
func TestMain(m *testing.M) {
	if !nstest.Main(m, nil) {
		fmt.Println("SKIP: the Linux backend of links needs root for network namespaces")
	}
}

// host is a simulated host under test.
type host struct {
	t *testing.T
	m *datalink.Model
}

func newHost(t *testing.T) host {
	t.Helper()
	b, err := links.New()
	if err != nil {
		t.Fatal(err)
	}
	h := host{t, datalink.New(datalink.Config{Distro: "omnios", Backend: b})}
	t.Cleanup(func() {
		all, err := netlink.LinkList()
		if err != nil {
			t.Error(err)
		}
		for _, l := range all {
			if n := l.Attrs().Name; n != "lo" {
				t.Errorf("interface %s is left behind", n)
				netlink.LinkDel(l) //nolint:errcheck // the next test may not suffer
			}
		}
		out, _ := exec.Command("nft", "list", "map", "bridge", "datalink", "guards").Output()
		if strings.Contains(string(out), "elements") {
			t.Errorf("guards are left behind:\n%s", out)
		}
	})
	return h
}

// run runs a command that has to succeed, and returns its output.
func (h host) run(line string) string {
	h.t.Helper()
	var out bytes.Buffer
	argv := strings.Fields(line)
	code := h.m.Commands()[argv[0]](context.Background(), &program.Invocation{Argv: argv, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out})
	if code != 0 {
		h.t.Fatalf("%s: exit %d\n%s", line, code, out.String())
	}
	return out.String()
}

// base makes an etherstub and a gateway as the agent does.
func (h host) base() {
	h.run("dladm create-etherstub -t stub0")
	h.run("dladm create-vnic -t -l stub0 gw0")
	h.run("ipadm create-addr -t -T static -a 10.244.0.1/24 gw0/v4")
	h.run("ipadm set-prop -t -p forwarding=on ipv4")
	h.run("ipadm set-prop -t -p _send_redirects=0 ipv4")
	h.t.Cleanup(func() {
		h.run("ipadm delete-if gw0")
		h.run("dladm delete-vnic -t gw0")
		h.run("dladm delete-etherstub -t stub0")
	})
}

// zone is a network namespace with one VNIC.
type zone struct {
	t     *testing.T
	h     host
	name  string
	id    int
	link  string
	netns string
	kill  func() // ends the zone's process
}

func (h host) boot(id int, addr string) *zone {
	h.t.Helper()
	z := &zone{t: h.t, h: h, name: fmt.Sprintf("z%d", id), id: id, link: fmt.Sprintf("rdw%d", id)}
	h.run("dladm create-vnic -t -l stub0 " + z.link)
	z.netns, z.kill = nstest.New(h.t)
	p := netip.MustParsePrefix(addr)
	c := zones.LinkConfig{Physical: z.link, Allowed: []netip.Prefix{p}, Addresses: []netip.Prefix{p}, Routers: []netip.Addr{netip.MustParseAddr("10.244.0.1")}}
	ctx := context.Background()
	if err := h.m.Assign(ctx, z.name, id, z.netns, c); err != nil {
		h.t.Fatal(err)
	}
	if err := h.m.Plumb(ctx, z.name, id, z.netns, c); err != nil {
		h.t.Fatal(err)
	}
	return z
}

// halt ends the zone's process and takes its links back.
func (z *zone) halt() {
	z.t.Helper()
	z.kill()
	if err := z.h.m.Return(context.Background(), z.name, z.id); err != nil {
		z.t.Error(err)
	}
}

// in runs f on a thread in the zone's network namespace.
func (z *zone) in(f func() error) error { return nstest.In(z.netns, f) }

// serve answers every connection with the client's address.
func (z *zone) serve(addr string) {
	z.t.Helper()
	var ln net.Listener
	err := z.in(func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		z.t.Fatal(err)
	}
	z.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
}

// dial returns what a server says.
func dial(from, to string) (string, error) {
	d := net.Dialer{Timeout: 2 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second)) //nolint:errcheck // a read fails instead
	out, err := io.ReadAll(c)
	return string(out), err
}

func (z *zone) dial(from, to string) (answer string, err error) {
	err = z.in(func() (err error) {
		answer, err = dial(from, to)
		return err
	})
	return answer, err
}

func TestZonesOnOneStubReachEachOther(t *testing.T) {
	h := newHost(t)
	h.base()
	z1, z2 := h.boot(1, "10.244.0.11/24"), h.boot(2, "10.244.0.12/24")
	z2.serve("10.244.0.12:80")
	for name, dial := range map[string]func() (string, error){
		"zone": func() (string, error) { return z1.dial("", "10.244.0.12:80") },
		"host": func() (string, error) { return dial("", "10.244.0.12:80") },
	} {
		if got, err := dial(); err != nil || got == "" {
			t.Errorf("from the %s: %q, %v", name, got, err)
		}
	}
	s := h.run("dladm show-link -s -p -o link,ipackets,rbytes,opackets rdw2")
	if strings.Contains(s, ":0") {
		t.Errorf("nothing was counted: %s", s)
	}
	for _, z := range []*zone{z1, z2} {
		z.halt()
		h.run("dladm delete-vnic -t " + z.link)
	}
}

func TestSpoofedSenderIsDropped(t *testing.T) {
	h := newHost(t)
	h.base()
	z1, z2 := h.boot(1, "10.244.0.11/24"), h.boot(2, "10.244.0.12/24")
	z2.serve("10.244.0.12:80")
	// The zone gives itself a second address, as its root can.
	if out, err := exec.Command("nsenter", "--net="+z1.netns, "ip", "addr", "add", "10.244.0.99/24", "dev", "rdw1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := z1.dial("10.244.0.11", "10.244.0.12:80"); err != nil || got != "10.244.0.11" {
		t.Errorf("the true sender: %q, %v", got, err)
	}
	if got, err := z1.dial("10.244.0.99", "10.244.0.12:80"); err == nil {
		t.Errorf("a spoofed sender was answered: %q", got)
	}
	// Without the guard the same spoofing works, so it was the guard.
	h.run("dladm reset-linkprop -t -p protection rdw1")
	if got, err := z1.dial("10.244.0.99", "10.244.0.12:80"); err != nil || got != "10.244.0.99" {
		t.Errorf("without protection: %q, %v", got, err)
	}
	for _, z := range []*zone{z1, z2} {
		z.halt()
		h.run("dladm delete-vnic -t " + z.link)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A link takes what its limit lets through and no more, in either direction: of
// many times a second's worth, most is lost or still waits to be sent.
func TestMaxBandwidth(t *testing.T) {
	h := newHost(t)
	h.base()
	z := h.boot(1, "10.244.0.11/24")
	const packets, size = 3000, 1400
	send := func(from func(func() error) error, to string) int {
		var in, out *net.UDPConn
		listen := func() (err error) {
			in, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(to), Port: 9})
			return err
		}
		dial := func() (err error) {
			out, err = net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(to), Port: 9})
			return err
		}
		here := func(f func() error) error { return f() }
		at := here
		if from == nil {
			from, at = here, z.in
		}
		if err := errors.Join(at(listen), from(dial)); err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		defer out.Close()
		got := make(chan int)
		go func() {
			n, b := 0, make([]byte, size)
			for {
				in.SetReadDeadline(time.Now().Add(time.Second)) //nolint:errcheck // a read fails instead
				if _, err := in.Read(b); err != nil {
					got <- n
					return
				}
				n++
			}
		}()
		out.SetWriteDeadline(time.Now().Add(2 * time.Second)) //nolint:errcheck // a full queue makes the sender wait
		for range packets {
			out.Write(make([]byte, size)) //nolint:errcheck // what is lost is what we count
		}
		return <-got
	}
	both := func() (sent, received int) { return send(z.in, "10.244.0.1"), send(nil, "10.244.0.11") }
	h.run("dladm set-linkprop -t -p maxbw=1200K rdw1")
	if out, in := both(); out == 0 || out > packets/4 || in == 0 || in > packets/4 {
		t.Errorf("of %d packets %d came out and %d in", packets, out, in)
	}
	h.run("dladm reset-linkprop -t -p maxbw rdw1") // newHost looks whether the limit of what comes out is gone
	if all := must(netlink.QdiscList(nil)); slices.ContainsFunc(all, func(q netlink.Qdisc) bool { return q.Type() == "tbf" }) {
		t.Error("the limit of what comes in is left")
	}
	z.halt()
	h.run("dladm delete-vnic -t " + z.link)
}

func TestLinkReturnsAfterHalt(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("namespace gone %v", late), func(t *testing.T) {
			h := newHost(t)
			h.base()
			z := h.boot(1, "10.244.0.11/24")
			mac := h.run("dladm show-vnic -p -o macaddress rdw1")
			z.serve("10.244.0.11:80")
			if _, err := dial("", "10.244.0.11:80"); err != nil {
				t.Error(err)
			}
			before := h.run("dladm show-link -s -p -o rbytes rdw1")
			if late {
				z.kill()
			}
			if err := h.m.Return(t.Context(), z.name, z.id); err != nil {
				t.Fatal(err)
			}
			if !late {
				z.kill()
			}
			l, err := netlink.LinkByName("rdw1")
			if err != nil {
				t.Fatalf("the link is not back: %v", err)
			}
			if got := strings.TrimSpace(mac); !sameMAC(got, l.Attrs().HardwareAddr.String()) {
				t.Errorf("the link's address was %s and is %s", got, l.Attrs().HardwareAddr)
			}
			if after := h.run("dladm show-link -s -p -o rbytes rdw1"); len(after) < len(before) || before == "0\n" {
				t.Errorf("counters went from %s to %s", before, after)
			}
			if got := h.run("dladm show-vnic -p -o link,zone rdw1"); got != "rdw1:global\n" {
				t.Errorf("show-vnic: %s", got)
			}
			h.run("dladm delete-vnic -t rdw1")
		})
	}
}

func sameMAC(a, b string) bool {
	var x, y [6]byte
	for i, s := range []string{a, b} {
		p := [2]*[6]byte{&x, &y}[i]
		if n, _ := fmt.Sscanf(s, "%x:%x:%x:%x:%x:%x", &p[0], &p[1], &p[2], &p[3], &p[4], &p[5]); n != 6 {
			return false
		}
	}
	return x == y
}

func TestRoutesAndForwarding(t *testing.T) {
	h := newHost(t)
	h.base()
	if got := sysctl(t, "net/ipv4/conf/gw0/forwarding"); got != "1" {
		t.Errorf("forwarding of gw0 is %s", got)
	}
	for _, i := range []string{"all", "gw0", "default"} {
		if got := sysctl(t, "net/ipv4/conf/"+i+"/send_redirects"); got != "0" {
			t.Errorf("redirects of %s are %s", i, got)
		}
	}
	h.run("route -n add 10.244.1.0/24 10.244.0.2")
	h.run("route -n add 10.96.0.0/16 10.244.0.1 -interface -reject")
	h.run("route -n add 10.97.0.0/16 127.0.0.1 -reject")
	if got := routes(t); !strings.Contains(got, "10.244.1.0/24 via 10.244.0.2 dev gw0") ||
		!strings.Contains(got, "unreachable 10.96.0.0/16") || !strings.Contains(got, "blackhole 10.97.0.0/16") {
		t.Errorf("routes:\n%s", got)
	}
	if _, err := dial("", "10.96.0.1:80"); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("connecting into the rejected network: %v", err)
	}
	h.run("route -n delete 10.244.1.0/24 10.244.0.2")
	h.run("route -n delete 10.96.0.0/16 10.244.0.1")
	h.run("route -n delete 10.97.0.0/16 127.0.0.1")
	if got := routes(t); strings.Contains(got, "10.96") || strings.Contains(got, "10.97") || strings.Contains(got, "10.244.1") {
		t.Errorf("routes after delete:\n%s", got)
	}
}

func TestLongLinkName(t *testing.T) {
	h := newHost(t)
	h.base()
	const name = "a_very_long_link_name_of_31_ch1"
	h.run("dladm create-vnic -t -l stub0 -p mtu=1400 " + name)
	if got := h.run("dladm show-link -p -o link,mtu " + name); got != name+":1400\n" {
		t.Errorf("show-link: %s", got)
	}
	h.run("ipadm create-addr -t -T static -a 10.9.0.1/24 " + name + "/v4")
	h.run("ipadm delete-if " + name)
	h.run("dladm delete-vnic -t " + name)
}

func TestRebootLeavesPersistentOnly(t *testing.T) {
	h := newHost(t)
	h.run("dladm create-etherstub stub1")
	h.run("dladm create-etherstub -t stub2")
	h.run("dladm create-vnic -l stub1 keep0")
	h.run("dladm create-vnic -t -l stub1 lose0")
	h.run("ipadm create-addr -T static -a 10.5.0.1/24 keep0/v4")
	h.run("ipadm create-addr -t -T static -a 10.6.0.1/24 lose0/v4")
	if err := h.m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.run("dladm show-link -p -o link"); got != "stub1\nkeep0\n" {
		t.Errorf("links after reboot:\n%s", got)
	}
	if got := h.run("ipadm show-addr -p -o addrobj,addr"); got != "lo0/v4:127.0.0.1/8\nkeep0/v4:10.5.0.1/24\nlo0/v6:\\:\\:1/128\n" {
		t.Errorf("addresses after reboot:\n%s", got)
	}
	if _, err := netlink.LinkByName("lose0"); err == nil {
		t.Error("lose0 is still there")
	}
	if got := routes(t); !strings.Contains(got, "10.5.0.0/24 dev keep0") {
		t.Errorf("routes after reboot:\n%s", got)
	}
	h.run("ipadm delete-if keep0")
	h.run("dladm delete-vnic keep0")
	h.run("dladm delete-etherstub stub1")
}

func sysctl(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func routes(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("ip", "route").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
