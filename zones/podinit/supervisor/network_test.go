package supervisor

import (
	"net/netip"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/zones/podinit"
)

func TestNetworkSteps(t *testing.T) {
	n := podinit.Network{
		Interface: "rdw7", Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.0.9/24"), netip.MustParsePrefix("10.244.0.10/24")},
		Gateways: []netip.Addr{netip.MustParseAddr("10.244.0.1")},
	}
	steps, err := networkSteps(n)
	if err != nil {
		t.Fatal(err)
	}
	want := `/usr/sbin/ipadm create-addr -t -T static -a 127.0.0.1/8 lo0/v4
/usr/sbin/ipadm create-addr -t -T static -a 10.244.0.9/24 rdw7/pod0
/usr/sbin/ipadm create-addr -t -T static -a 10.244.0.10/24 rdw7/pod1
/usr/sbin/route -n add -inet default 10.244.0.1`
	var got []string
	for _, s := range steps {
		got = append(got, strings.Join(s, " "))
	}
	if strings.Join(got, "\n") != want {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
	n.Addresses = append(n.Addresses, netip.MustParsePrefix("2001:db8::1/64"))
	if _, err := networkSteps(n); err == nil {
		t.Error("an IPv6 address was not refused")
	}
}
