package kubeproxy

import (
	"net/netip"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"reddwarf.io/reddwarf/network/ipnat"
	"reddwarf.io/reddwarf/network/services"
)

// TestMemory bounds what our controller keeps of 10 000 Services with 5
// endpoints: the host's memory is the pods'.
func TestMemory(t *testing.T) {
	const most = 26 << 20
	o := Large(10000, 5)
	var ofService, ofSlice func(any) (any, error)
	for kind, cached := range services.Cache("n1").ByObject {
		switch kind.(type) {
		case *corev1.Service:
			ofService = cached.Transform
		case *discoveryv1.EndpointSlice:
			ofSlice = cached.Transform
		}
	}
	table, err := ipnat.NewTable(ipnat.Node{Name: "n1", Gateway: "rdwgw0", Uplink: "net0", IPv4: &ipnat.Networks{
		Gateway: netip.MustParseAddr("10.244.1.1"), Host: netip.MustParseAddr("198.51.100.11"),
		Pods: netip.MustParsePrefix("10.244.1.0/24"), Cluster: netip.MustParsePrefix("10.244.0.0/16")}})
	if err != nil {
		t.Fatal(err)
	}
	var kept []any
	before := heap()
	for i := range o.Services {
		svc, err1 := ofService(o.Services[i].DeepCopy())
		slice, err2 := ofSlice(o.Slices[i].DeepCopy())
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		kept = append(kept, svc, slice)
		s, ok := services.Translate(svc.(*corev1.Service), []discoveryv1.EndpointSlice{*slice.(*discoveryv1.EndpointSlice)})
		if !ok {
			t.Fatalf("%s has no rules", o.Services[i].Name)
		}
		table.Set(s)
	}
	after := heap()
	t.Logf("%.1f MiB", float64(after-before)/(1<<20))
	if after-before > most {
		t.Errorf("%d bytes are kept of %d Services, want at most %d", after-before, len(o.Services), most)
	}
	runtime.KeepAlive(o)
	runtime.KeepAlive(kept)
	runtime.KeepAlive(table)
}

// heap is how much memory is in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
