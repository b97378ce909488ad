package ipnat_test

import (
	"net/netip"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/ipf"
	"reddwarf.io/reddwarf/network/ipnat"
)

// ourLines are one of each form that is written, as ipnat -lR prints it.
var ourLines = []string{
	"rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.5 port 8080 tcp round-robin tag rdwsvc0123456ab",
	"rdr gw0 10.96.0.10/32 port 53 -> 10.244.0.7 port 53 udp round-robin age 30/30 tag rdwsvc0123456ab",
	"rdr gw0 from 0.0.0.3/0.0.0.63 to 10.96.0.1/32 port = 80 -> 10.244.0.5 port 8080 tcp tag rdwsvc0123456ab",
	"rdr net0 from 192.0.2.0/24 to 203.0.113.7/32 port = 80 -> 10.244.0.5 port 8080 tcp round-robin tag rdwsvc0123456ab",
	"rdr net0 from 192.0.2.5/255.255.255.63 to 203.0.113.7/32 port = 80 -> 10.244.0.5 port 8080 tcp tag rdwsvc0123456ab",
	"rdr gw0 fd00:96::1/128 port 80 -> fd00:244::5 port 8080 tcp round-robin tag rdwsvc0123456ab",
	"map gw0 from 10.244.0.0/24 to 10.244.0.0/24 -> 10.244.0.1/32 portmap tcp/udp 10000:29999 frag",
	"map net0 from 10.244.0.0/24 to 10.244.0.0/16 -> 0.0.0.0/0 frag",
	"map net0 from any to 10.244.0.0/16 -> 198.51.100.11/32 portmap tcp/udp 10000:29999 frag",
	"map net0 from any to 198.51.100.1/32 port = 6443 -> 198.51.100.11/32 portmap tcp 10000:29999 frag",
	"map net0 from 10.244.0.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32 frag",
	"map net0 from ::/0 to fd00:244::/48 -> fd00:1::11/128 portmap tcp/udp 10000:29999 frag",
}

// foreignLines are rules of other people, some of them near to ours.
var foreignLines = []string{
	"map net0 from 10.244.0.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32 portmap tcp/udp 10000:29999",
	"map net0 10.0.0.0/8 -> 0.0.0.0/32 frag",
	"map net0 from 10.0.0.0/8 to any -> 198.51.100.11/32 portmap tcp/udp 40000:60000 frag",
	"map net0 from 10.0.0.0/8 to any -> 198.51.100.11/32 portmap tcp/udp auto frag",
	"rdr net0 198.51.100.11/32 port 8443 -> 10.1.1.1 port 443 tcp",
	"rdr net0 198.51.100.11/32 port 8444 -> 10.1.1.1 port 443 tcp round-robin tag operator",
	"rdr net0 198.51.100.11/32 port 8445-8450 -> 10.1.1.1 port 443 tcp tag rdwhostport1",
	"rdr net0 198.51.100.11/32 -> 10.1.1.1 icmp",
}

func TestOurRulesAreWhatIpnatPrints(t *testing.T) {
	for _, line := range ourLines {
		r, err := ipnat.ParseRule(line)
		if err != nil || r.String() != line {
			t.Errorf("ParseRule(%s) = %s, %v", line, r, err)
		}
		if strings.Contains(line, ":") && strings.Contains(line, "fd00") {
			continue // the simulated ipnat reads IPv6, see FuzzParseRule
		}
		if m, err := ipf.ParseRule(line); err != nil || m.String() != line {
			t.Errorf("the simulated ipnat prints %s as %s, %v", line, m, err)
		}
	}
	l, err := ipnat.ParseList(listing(append(ourLines, foreignLines...)))
	if err != nil || len(l.Ours) != len(ourLines) || len(l.Stale) != 0 || strings.Join(l.Foreign, "\n") != strings.Join(foreignLines, "\n") {
		t.Errorf("ParseList = %d ours, %q stale, %v\nforeign:\n%s", len(l.Ours), l.Stale, err, strings.Join(l.Foreign, "\n"))
	}
}

func listing(rules []string) string {
	return "List of active MAP/Redirect filters:\n" + strings.Join(rules, "\n") + "\n\nList of active sessions:\nrdr gw0 not a rule\n"
}

func TestListNeedsItsFrame(t *testing.T) {
	for _, out := range []string{"", "List of active MAP/Redirect filters:\n", listing(nil)[10:],
		"List of active MAP/Redirect filters:\n" + ourLines[0], "List of active MAP/Redirect filters:\n" + strings.Repeat("x", 9000)} {
		if l, err := ipnat.ParseList(out); err == nil {
			t.Errorf("ParseList(%.60q) = %v, want an error: rules would be added twice", out, l)
		}
	}
}

func TestStaleRulesOfOursAreFound(t *testing.T) {
	old := "rdr gw0 10.96.0.1/32 port 80-81 -> 10.244.0.5 port 8080 tcp sticky tag rdwsvc0123456ab"
	l, err := ipnat.ParseList(listing([]string{old, old + "c"}))
	if err != nil || len(l.Stale) != 1 || l.Stale[0] != old || len(l.Foreign) != 1 {
		t.Errorf("ParseList = %+v, %v", l, err)
	}
}

func TestTag(t *testing.T) {
	a, b := ipnat.Tag("default/web"), ipnat.Tag("default/web2")
	if a == b || len(a) != 15 || a != ipnat.Tag("default/web") {
		t.Errorf("tags %s and %s", a, b)
	}
}

func FuzzParseRule(f *testing.F) {
	for _, line := range append(ourLines, foreignLines...) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := ipnat.ParseRule(line)
		if err != nil {
			return
		}
		text := r.String()
		if again, err := ipnat.ParseRule(text); err != nil || again != r {
			t.Fatalf("%q: %q is %+v, %v; want %+v", line, text, again, err, r)
		}
		// What we take for a rule of ours is one, and means the same to ipnat.
		m, err := ipf.ParseRule(text)
		if err != nil {
			t.Fatalf("%q: ipnat does not read it: %v", text, err)
		}
		if got := m.String(); got != text {
			t.Fatalf("%q: ipnat prints %q", text, got)
		}
	})
}

func FuzzParseList(f *testing.F) {
	f.Add(listing(ourLines))
	f.Add(listing(foreignLines))
	f.Fuzz(func(t *testing.T, out string) {
		l, err := ipnat.ParseList(out)
		if err != nil {
			return
		}
		var again []string
		for _, r := range l.Ours {
			again = append(again, r.String())
		}
		m, err := ipnat.ParseList(listing(append(append(again, l.Stale...), l.Foreign...)))
		if err != nil || len(m.Ours) != len(l.Ours) || len(m.Stale) != len(l.Stale) || len(m.Foreign) != len(l.Foreign) {
			t.Fatalf("printed and read again: %+v, %v; want %+v", m, err, l)
		}
	})
}

func TestNetBits(t *testing.T) {
	mask := netip.MustParseAddr
	for m, want := range map[string]int{"255.255.255.0": 24, "0.0.0.0": 0, "255.255.255.255": 32, "0.0.0.3": -1, "255.0.255.0": -1,
		"255.255.255.3": -1, "128.0.0.0": 1, "::": 0, "ffff:ffff:8000::": 33, "::3": -1} {
		if got := (ipnat.Net{Addr: mask(m), Mask: mask(m)}).Bits(); got != want {
			t.Errorf("Bits of %s = %d, want %d", m, got, want)
		}
	}
}
