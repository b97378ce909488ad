//go:build linux

package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/lab"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/userns"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/wire"
	"reddwarf.io/reddwarf/hack/host/datalink"
	"reddwarf.io/reddwarf/hack/host/linux/links"
	"reddwarf.io/reddwarf/hack/host/linux/mounts"
	"reddwarf.io/reddwarf/hack/host/linux/nat"
	"reddwarf.io/reddwarf/hack/host/linux/sandbox"
	"reddwarf.io/reddwarf/hack/host/linux/volumes"
	"reddwarf.io/reddwarf/hack/host/zones"
)

// supervisor is the process that has a host's state.
type supervisor struct {
	config  Config
	model   *host.Model
	sandbox *sandbox.Backend
	volumes *volumes.Volumes
	notes   []string // what this machine does not let the host have

	// life ends with the host; each power cycle has its own session below it.
	life context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	session context.Context
	cut     context.CancelFunc
	calls   sync.WaitGroup
}

// SupervisorMain serves a host's commands until the host is shut down.
func SupervisorMain() error {
	for _, fd := range []int{bootFD, readyFD, traceFD} {
		unix.CloseOnExec(fd)
	}
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	ready := os.NewFile(readyFD, "ready")
	s, listeners, err := bootSupervisor()
	v := verdict{}
	if err != nil {
		v.Error = err.Error()
	} else {
		v.Notes = s.notes
	}
	for _, note := range v.Notes {
		log.Print(note)
	}
	if err := errors.Join(json.NewEncoder(ready).Encode(v), ready.Close()); err != nil {
		log.Printf("nobody waits for the host any more: %v", err)
	}
	if err != nil {
		return err
	}
	return s.serve(listeners)
}

func bootSupervisor() (*supervisor, []*net.UnixListener, error) {
	var b boot
	if err := json.NewDecoder(os.NewFile(bootFD, "boot")).Decode(&b); err != nil {
		return nil, nil, fmt.Errorf("boot: %w", err)
	}
	s := &supervisor{config: b.Config}
	s.life, s.stop = signal.NotifyContext(context.Background(), unix.SIGTERM)
	s.session, s.cut = context.WithCancel(s.life)
	if err := s.assemble(b); err != nil {
		return nil, nil, err
	}
	if err := s.restore(); err != nil {
		return nil, nil, err
	}
	var listeners []*net.UnixListener
	_ = os.Remove(wire.ZoneSocket)                                // of a host that boots again
	for _, name := range []string{wire.ZoneSocket, wire.Socket} { // the one that says that the host is up comes last
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			return nil, nil, fmt.Errorf("listen: %w", err)
		}
		if name == wire.ZoneSocket { // for every user of a zone; see caller.may
			if err := os.Chmod(name, 0o666); err != nil {
				return nil, nil, fmt.Errorf("listen: %w", err)
			}
		}
		listeners = append(listeners, ln)
	}
	return s, listeners, nil
}

// assemble makes the backends and the model on them.
func (s *supervisor) assemble(b boot) error {
	c := b.Config
	consoles := filepath.Join(homeDir, "consoles")
	if err := os.MkdirAll(consoles, 0o700); err != nil {
		return err
	}
	zoneConfig := sandbox.Config{ConsoleDir: consoles, Group: b.Groups, GroupParent: b.Parent}
	if userns.Inside() {
		zoneConfig.Unenforced = "an ordinary user's lab has no cgroups"
	}
	var err error
	if s.sandbox, err = sandbox.New(zoneConfig); err != nil {
		return err
	}
	pool := filepath.Join(homeDir, "pool")
	if err := os.MkdirAll(pool, 0o700); err != nil {
		return err
	}
	if s.volumes, err = volumes.Open(pool, volumes.Options{Size: c.PoolSize}); err != nil {
		return err
	}
	if s.volumes.Kind() != volumes.Btrfs {
		s.notes = append(s.notes, fmt.Sprintf("the pool is kept in %s directories, because no btrfs image could be mounted: quotas are refused", s.volumes.Kind()))
	}
	if text := s.sandbox.Unenforced(); text != "" {
		s.notes = append(s.notes, text)
	}
	network, err := links.New()
	if err != nil {
		return err
	}
	opts := []host.Option{
		host.Distro(c.Distro), host.Hostname(c.Name), host.CPUs(c.CPUs), host.Memory(c.Memory), host.Pool(c.Pool, c.PoolSize),
		host.Uplinks(datalink.Physical{Name: Uplink, MAC: c.mac()}),
		host.Paths(zones.HostPaths{}),
		host.WithBackends(host.Backends{Zones: s.sandbox, Links: network, NAT: nat.New(), ZFS: s.volumes, Mounts: mounts.Backend{}}),
		host.NFS(mounts.Servers{Dir: filepath.Join(b.Lab.Dir, "nfs")}),
		host.Log(func(zone, message string) { log.Printf("zone %s: %s", zone, message) }),
	}
	if c.Trace != "" {
		opts = append(opts, host.TraceTo(os.NewFile(traceFD, "trace")))
	}
	s.model = host.NewModel(opts...)
	return nil
}

// restore boots a host from its disks, or installs it.
func (s *supervisor) restore() error {
	data, err := os.ReadFile(stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s.install()
	}
	if err != nil {
		return err
	}
	if err := s.model.Load(data); err != nil {
		return err
	}
	return s.model.Reboot(s.life)
}

// install does what an installer does: it makes the pool and gives the network
// card its address.
func (s *supervisor) install() error {
	if err := s.model.Start(s.life); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"ipadm", "create-if", Uplink},
		{"ipadm", "create-addr", "-T", "static", "-a", s.config.Address.String(), Uplink + "/v4"},
		{"route", "-p", "add", "default", lab.Gateway().Addr().String()},
	} {
		if err := s.do(argv); err != nil {
			return err
		}
	}
	return s.save()
}

// save writes the host's state to its disk.
func (s *supervisor) save() error {
	data, err := s.model.Save()
	if err != nil {
		return err
	}
	tmp := stateFile + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	if err := os.Rename(tmp, stateFile); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// serve answers calls until the host is shut down.
func (s *supervisor) serve(listeners []*net.UnixListener) error {
	stop := context.AfterFunc(s.life, func() {
		for _, ln := range listeners {
			_ = ln.Close()
		}
	})
	defer stop()
	broken := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() { broken <- s.accept(ln) }()
	}
	var errs []error
	for range listeners {
		if err := <-broken; s.life.Err() == nil {
			errs = append(errs, err)
			s.stop()
		}
	}
	return errors.Join(append(errs, s.shutDown())...)
}

func (s *supervisor) accept(ln *net.UnixListener) error {
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			return err
		}
		s.calls.Go(func() {
			defer c.Close() //nolint:errcheck // everything was sent
			s.answer(c)
		})
	}
}

// shutDown halts the zones and writes everything to disk.
func (s *supervisor) shutDown() error {
	s.cut()
	s.calls.Wait()
	s.model.Close()
	err := s.save()
	// Everything else goes with the namespaces; what does not is taken down.
	killOthers()
	return errors.Join(err, s.sandbox.Close(), s.volumes.Close())
}
