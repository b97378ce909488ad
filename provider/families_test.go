package provider

import (
	"net/netip"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/network/ipam"
	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/provider/translate"
)

// TestFamilies: a pod has an address of each family that its kind of zone takes.
func TestFamilies(t *testing.T) {
	const four, six = "10.244.1.0/24", "fd00::/64"
	for _, tt := range []struct {
		brand, pools, want, fault string
	}{
		{translate.BrandLX, four, "10.244.1.2", ""},
		{translate.BrandLX, four + " " + six, "10.244.1.2 fd00::2", ""},
		{translate.BrandLX, six, "fd00::2", ""},
		{translate.BrandNative, four + " " + six, "10.244.1.2", ""},
		{translate.BrandNative, six + " " + four, "10.244.1.2", ""},
		{translate.BrandNative, six, "", "IPv4 only"},
	} {
		p := &Provider{c: Config{Slots: ipam.NewSlots(10)}}
		for cidr := range strings.FieldsSeq(tt.pools) {
			pool, err := ipam.New(netip.MustParsePrefix(cidr))
			if err != nil {
				t.Fatal(err)
			}
			p.c.Addresses = append(p.c.Addresses, pool)
		}
		_, addrs, err := newWorker(p, testPod(), ledger.State{Brand: tt.brand}).allocate()
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != tt.want || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s of %s: %v, %v; want %s %s", tt.brand, tt.pools, got, err, tt.want, tt.fault)
		}
	}
}
