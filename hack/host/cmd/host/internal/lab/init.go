//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
)

// InitMain is a lab's first process. It returns the exit code of the lab's
// program; nothing of the lab outlives it.
func InitMain() (int, error) {
	for fd := startFD; fd <= watchFD; fd++ {
		unix.CloseOnExec(fd)
	}
	var s start
	if err := json.NewDecoder(os.NewFile(startFD, "start")).Decode(&s); err != nil {
		return 1, fmt.Errorf("lab: %w", err)
	}
	go func() {
		// The launcher's end ends us twice: by its death signal and by this.
		_, _ = io.Copy(io.Discard, os.NewFile(lifeFD, "life"))
		os.Exit(1)
	}()
	if err := spaces.MountProc(); err != nil {
		return 1, fmt.Errorf("lab: %w", err)
	}
	if err := unix.Sethostname([]byte("lab")); err != nil {
		return 1, fmt.Errorf("lab: hostname: %w", err)
	}
	if err := makeLAN(); err != nil {
		return 1, fmt.Errorf("lab: %w", err)
	}
	for i, target := range s.Targets {
		if err := relay(listenerFD+i, target); err != nil {
			return 1, fmt.Errorf("lab: relay: %w", err)
		}
	}
	if err := os.Setenv(Env, s.Dir); err != nil {
		return 1, fmt.Errorf("lab: %w", err)
	}
	code, err := spaces.First(s.Argv[0], s.Argv, os.Environ(), []uintptr{0, 1, 2})
	if err != nil {
		return code, fmt.Errorf("lab: %w", err)
	}
	return code, nil
}

// makeLAN brings up the loopback interface and the bridge to which hosts are
// connected.
func makeLAN() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Bridge
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("%s: %w", Bridge, err)
	}
	address, err := netlink.ParseAddr(Gateway().String())
	if err != nil {
		return fmt.Errorf("%s: %w", Bridge, err)
	}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("%s: address: %w", Bridge, err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("%s: %w", Bridge, err)
	}
	return NoBridgeFilter()
}

// NoBridgeFilter keeps the packet filters of this network namespace away from
// what is only bridged. It is on in every new one, and would let frames of one
// link meet rules that illumos never shows them to.
func NoBridgeFilter() error {
	for _, name := range []string{"iptables", "ip6tables", "arptables"} {
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+name, []byte("0"), 0)
		if err := ignoreMissing(err); err != nil {
			return fmt.Errorf("bridge filter: %w", err)
		}
	}
	return nil
}

// relay accepts connections on the passed listener, whose socket belongs to
// the network outside, and connects them to target inside, until the lab ends.
func relay(fd int, target string) error {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "relay")
	ln, err := net.FileListener(f)
	_ = f.Close() // ln has a copy
	if err != nil {
		return err
	}
	go func() {
		for {
			outside, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go join(outside, target)
			}
		}
	}()
	return nil
}

// join copies both ways until both directions have ended.
func join(outside net.Conn, target string) {
	defer outside.Close() //nolint:errcheck // the peers will notice
	inside, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer inside.Close() //nolint:errcheck // the peers will notice
	done := make(chan struct{})
	go func() {
		defer close(done)
		carry(inside, outside)
	}()
	carry(outside, inside)
	<-done
}

// carry copies one direction and passes its end on.
func carry(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
}
