package e2e

import (
	"context"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/testbed"
)

// TestAddressesInZones looks into lx zones on the distributions that have the
// brand: their lxinit reads the address from different settings of the zone.
// TestNativeBrand does the same for native zones on all three.
func TestAddressesInZones(t *testing.T) {
	t.Run("omnios", func(t *testing.T) { addressesOn(t, host) })
	t.Run("smartos", func(t *testing.T) {
		h, err := bed.AddHost(t.Context(), "smartos-lx", testbed.HostOptions{Distro: "smartos"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { bed.Kubectl(context.Background(), "delete", "node", h.Name) })
		t.Cleanup(func() { h.StopAgent() })
		addressesOn(t, h)
	})
}

func addressesOn(t *testing.T, h *testbed.Host) {
	name := "lx-" + h.Name
	apply(t, webOn(h.Name, name, ""))
	p := waitPod(t, name, "a ready pod", ready)
	gateway := strings.TrimSuffix(cidrOf(p), "0/24") + "1"
	in := func(args ...string) string {
		t.Helper()
		return kubectl(t, append([]string{"exec", name, "-c", "shell", "--"}, args...)...)
	}
	var have []string
	for line := range strings.Lines(in("ip", "-o", "-4", "addr")) {
		have = append(have, strings.Fields(line)[3])
	}
	if got := strings.Join(have, " "); got != "127.0.0.1/8 "+p.Status.PodIP+"/24" {
		t.Errorf("the zone has the addresses %q", got)
	}
	if out := in("ip", "route"); !strings.Contains(out, "default via "+gateway+" ") {
		t.Errorf("the zone has the routes %q", out)
	}
	// The world sees the node's address, and the node reaches the pod.
	if out := kubectl(t, "exec", name, "-c", "main", "--", "/web", "fetch", outside(t)); !strings.HasPrefix(out, "remote: "+h.IP+":") {
		t.Errorf("the world is asked by %q", out)
	}
	out, err := h.Run(t.Context(), "wget", "-qO-", "-T", "5", "http://"+p.Status.PodIP+":8080/")
	if err != nil || !strings.Contains(out, "hostname: "+name+"\nremote: "+gateway+":") {
		t.Errorf("the pod answers its host with %q, %v", out, err)
	}
	// Only that address may be used, and its zone has no other network.
	config, err := h.Run(t.Context(), "zonecfg", "-z", "rdw-"+string(p.UID), "info", "net")
	if err != nil || strings.Count(config, "allowed-address: "+p.Status.PodIP+"/24") != 1 || strings.Count(config, "net:") != 1 {
		t.Errorf("%v: %s", err, config)
	}
}
