package kubeproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"k8s.io/klog/v2"

	"reddwarf.io/reddwarf/hack/host/linux/nstest"
)

// TestMain runs the tests in a network namespace of their own, which is this
// node's to kube-proxy.
func TestMain(m *testing.M) {
	prepare := func() error {
		klog.SetLogger(klog.Logger{}) // kube-proxy tells of every sync
		return isNode()
	}
	if !nstest.Main(m, prepare) {
		fmt.Println("kube-proxy looks at the host that it is on: run this as root")
		os.Exit(1)
	}
}

// isNode gives the namespace the node's addresses, which NodePorts are at.
func isNode() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	errs := []error{netlink.LinkSetUp(lo)}
	for _, text := range hostIPs {
		a := netip.MustParseAddr(text)
		addr, err := netlink.ParseAddr(netip.PrefixFrom(a, a.BitLen()).String())
		errs = append(errs, err)
		if err == nil {
			errs = append(errs, netlink.AddrAdd(lo, addr))
		}
	}
	return errors.Join(errs...)
}
