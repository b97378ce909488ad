package kubeproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"k8s.io/klog/v2"
)

const insideEnv = "KUBEPROXY_TEST_INSIDE"

// TestMain runs the tests in a network namespace of their own, which is this
// node's to kube-proxy, and which ends with them.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		if err := isNode(); err != nil {
			fmt.Println("cannot make the network namespace a node's:", err)
			os.Exit(1)
		}
		klog.SetLogger(klog.Logger{}) // kube-proxy tells of every sync
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Println("kube-proxy looks at the host that it is on: run this as root")
		os.Exit(1)
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the death signal follows the thread
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		fmt.Println("cannot make a network namespace:", err)
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
