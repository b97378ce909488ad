//go:build linux

package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/lab"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
)

// boot is what the host's process 1 is told.
type boot struct {
	Lab    lab.Lab
	Config Config
	Groups string // cgroup of the host's zones
	Parent string // version 2 cgroup that it is made in, if not the own one
}

// File descriptors of the host's process 1, and of the supervisor from readyFD
// on.
const (
	bootFD  = 3 // boot, as JSON, once the network card is there
	readyFD = 4 // verdict, as JSON, once commands are answered
	traceFD = 5 // the trace, or /dev/null
)

// verdict is how the boot went.
type verdict struct {
	Error string
	Notes []string // what the host has to do without on this machine
}

// Up brings a host up and prints what it has to do without. It returns when the
// host answers commands, and with foreground when it has gone down again.
func Up(ctx context.Context, l lab.Lab, c Config, foreground bool) error {
	if err := c.Validate(); err != nil {
		return err
	}
	h := Host{Lab: l, Name: c.Name}
	if _, err := h.Process(); err == nil {
		return fmt.Errorf("host %s is up already", h.Name)
	}
	if err := os.MkdirAll(h.dir(), 0o755); err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	// A new socket appears when commands are answered.
	_ = os.Remove(h.socket())
	if err := h.up(ctx, c, foreground); err != nil {
		return fmt.Errorf("host %s: %w (see %s)", h.Name, err, h.Log())
	}
	return nil
}

func (h Host) up(ctx context.Context, c Config, foreground bool) error {
	runtime.LockOSThread() // the death signal comes with the thread's end
	trace, err := openTrace(c.Trace)
	if err != nil {
		return err
	}
	defer trace.Close() //nolint:errcheck // the child has its own
	log, err := os.OpenFile(h.Log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the child has its own
	bootR, bootW, err := os.Pipe()
	if err != nil {
		return err
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer readyR.Close() //nolint:errcheck // only read
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{InitName}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{bootR, readyW, trace}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces.All, Setsid: true}
	if foreground {
		cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, _ = bootR.Close(), readyW.Close()
	if err := h.welcome(ctx, c, cmd.Process.Pid, bootW, readyR); err != nil {
		_ = cmd.Process.Kill() // takes with it whatever it has started
		_ = cmd.Wait()
		return err
	}
	if !foreground {
		return cmd.Process.Release() // it is the lab's now
	}
	fmt.Printf("host %s is up at %v\n", c.Name, c.Address.Addr())
	stop := context.AfterFunc(ctx, func() { _ = h.Down(context.WithoutCancel(ctx)) })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("went down: %w", err)
	}
	return nil
}

// welcome gives the host its network card, lets it boot and waits for that.
func (h Host) welcome(ctx context.Context, c Config, pid int, bootW io.WriteCloser, ready *os.File) error {
	defer bootW.Close() //nolint:errcheck // written at once
	p, err := spaces.Find(pid)
	if err != nil {
		return err
	}
	if err := h.writeRecord(record{Config: c, Init: p}); err != nil {
		return err
	}
	if err := plug(c, pid); err != nil {
		return err
	}
	parent, err := h.Lab.GroupParent()
	if err != nil {
		return err
	}
	b := boot{Lab: h.Lab, Config: c, Groups: h.Lab.Groups() + h.Name, Parent: parent}
	if err := json.NewEncoder(bootW).Encode(b); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.Close() })
	defer stop()
	var v verdict
	switch err := json.NewDecoder(ready).Decode(&v); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF):
		return errors.New("ended while booting")
	case err != nil:
		return err
	case v.Error != "":
		return errors.New(v.Error)
	}
	for _, note := range v.Notes {
		fmt.Printf("note: host %s: %s\n", c.Name, note)
	}
	return nil
}

// plug puts a cable between the LAN and a new network card of the process's
// network namespace.
func plug(c Config, pid int) error {
	bridge, err := netlink.LinkByName(lab.Bridge)
	if err != nil {
		return fmt.Errorf("the LAN %s: %w", lab.Bridge, err)
	}
	a := c.Address.Addr().As4()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("lan%d", a[3])
	// The end in the host has gone with the host that had the address before.
	if old, err := netlink.LinkByName(attrs.Name); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return fmt.Errorf("cable: %w", err)
		}
	}
	cable := &netlink.Veth{
		LinkAttrs: attrs, PeerName: Uplink, PeerHardwareAddr: c.mac(), PeerNamespace: netlink.NsPid(pid),
	}
	cable.MasterIndex = bridge.Attrs().Index
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("cable: %w", err)
	}
	if err := netlink.LinkSetUp(cable); err != nil {
		return fmt.Errorf("cable: %w", err)
	}
	return nil
}

// mac is the address of the host's network card: one that the vendor of
// illumos' virtual cards uses, with the IP address in it.
func (c Config) mac() net.HardwareAddr {
	a := c.Address.Addr().As4()
	return net.HardwareAddr{0x02, 0x08, 0x20, a[1], a[2], a[3]}
}

func openTrace(path string) (*os.File, error) {
	if path == "" {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return f, nil
}

// Run runs a program on the host with this process's files and terminal and
// returns its exit code. The host's own commands come first in its PATH.
func (h Host) Run(argv []string) (int, error) {
	p, err := h.Process()
	if err != nil {
		return 0, err
	}
	path := binDir + ":" + os.Getenv("PATH")
	if strings.HasSuffix(path, ":") {
		path += "/usr/sbin:/usr/bin:/sbin:/bin"
	}
	code, err := spaces.Run(p, argv, []string{"PATH=" + path, Env + "=" + h.Name})
	if err != nil {
		return 0, fmt.Errorf("host %s: %w", h.Name, err)
	}
	return code, nil
}
