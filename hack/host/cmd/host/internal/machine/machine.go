//go:build linux

// Package machine is one simulated host of a lab: a set of namespaces with a
// file system and a network of its own, whose process 1 keeps one supervisor,
// which has the models of all commands and answers whoever calls one.
package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/lab"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
)

// Env is the variable that names the host to programs that run on it.
const Env = "HOST"

// The names under which this binary is executed again.
const (
	InitName       = "(host-init)"
	SupervisorName = "(host-supervisor)"
)

// Where a host finds its own things in its file system.
const (
	homeDir   = "/run/simhost"          // the host's directory in the lab
	binDir    = "/run/simhost-bin"      // links to this program
	binary    = "/run/simhost-bin/host" // this program
	stateFile = homeDir + "/state.json"
	poolImage = homeDir + "/pool.img"
)

// Uplink is the host's network card on the lab's LAN.
const Uplink = "net0"

// Commands are the programs of illumos that a host has.
func Commands() []string {
	return []string{
		"zonecfg", "zoneadm", "zlogin", "zonename", "dladm", "ipadm", "route", "routeadm", "ipnat", "ipf",
		"zfs", "zpool", "kstat", "prctl", "psrinfo", "prtconf", "swap", "svcs", "svcadm", "svccfg",
		"uname", "isainfo", "ps", "ctrun", "mount", "umount",
	}
}

// zonePrograms are those of the host's programs that a zone finds in the
// directories that a native brand mounts, and so at the place that they have on
// illumos. The daemon is no command of the global zone, where SMF keeps it.
func zonePrograms() map[string]string {
	return map[string]string{
		"usr/sbin/ipadm": "ipadm", "usr/sbin/route": "route", "usr/lib/inet/ipmgmtd": "ipmgmtd", "usr/bin/zonename": "zonename",
	}
}

// zoneDir holds what those programs need.
const zoneDir = "/usr/lib/simhost"

// Config is what a host is like.
type Config struct {
	Name     string
	Distro   string       // omnios, smartos or openindiana
	CPUs     int          // as the host's commands show them
	Memory   uint64       // bytes, likewise
	Address  netip.Prefix // on the LAN
	Pool     string
	PoolSize uint64 // bytes
	Trace    string // file of the lab to which commands are traced; empty means none
}

// nodename is what uname -n may be: it becomes a directory and a link name.
var nodename = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if !nodename.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("host name %q: want lower-case letters, digits and hyphens", c.Name))
	}
	if !slices.Contains([]string{"omnios", "smartos", "openindiana"}, c.Distro) {
		errs = append(errs, fmt.Errorf("distro %q: want omnios, smartos or openindiana", c.Distro))
	}
	if c.CPUs < 1 {
		errs = append(errs, errors.New("a host has at least one CPU"))
	}
	if c.Memory < 256<<20 {
		errs = append(errs, errors.New("a host has at least 256M of memory"))
	}
	if c.PoolSize < 128<<20 {
		errs = append(errs, errors.New("a pool has at least 128M"))
	}
	if lan := lab.Gateway(); !lan.Masked().Contains(c.Address.Addr()) || c.Address.Addr() == lan.Addr() {
		errs = append(errs, fmt.Errorf("address %v: want one of the LAN %v, but not the lab's own %v", c.Address.Addr(), lan.Masked(), lan.Addr()))
	}
	return errors.Join(errs...)
}

// Host is one host of a lab, seen from inside the lab.
type Host struct {
	Lab  lab.Lab
	Name string
}

// ErrNoHost means that a host is not up.
var ErrNoHost = errors.New("no such host is up")

func (h Host) dir() string        { return filepath.Join(h.Lab.Hosts(), h.Name) }
func (h Host) configFile() string { return filepath.Join(h.dir(), "config.json") }
func (h Host) socket() string     { return filepath.Join(h.dir(), "supervisor.sock") }

// Log is the file that the host's own messages go to.
func (h Host) Log() string { return filepath.Join(h.Lab.Logs(), h.Name+".log") }

// record is what is kept of a host that was brought up.
type record struct {
	Config Config
	Init   spaces.Process // as seen in the lab
}

func (h Host) record() (record, error) {
	var r record
	b, err := os.ReadFile(h.configFile())
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("host %s: %w", h.Name, ErrNoHost)
	}
	if err != nil {
		return r, fmt.Errorf("host %s: %w", h.Name, err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("host %s: %w", h.Name, err)
	}
	return r, nil
}

func (h Host) writeRecord(r record) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	tmp := h.configFile() + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, h.configFile())
}

// Process returns the host's process 1, or ErrNoHost.
func (h Host) Process() (spaces.Process, error) {
	r, err := h.record()
	if err != nil {
		return spaces.Process{}, err
	}
	if !r.Init.Alive() {
		return spaces.Process{}, fmt.Errorf("host %s: %w", h.Name, ErrNoHost)
	}
	return r.Init, nil
}

// Status is one line of a list of hosts.
type Status struct {
	Config Config
	Up     bool
}

// List returns the hosts of a lab, by name, those that are down included.
func List(l lab.Lab) ([]Status, error) {
	entries, err := os.ReadDir(l.Hosts())
	if err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	var all []Status
	for _, e := range entries {
		r, err := Host{Lab: l, Name: e.Name()}.record()
		if errors.Is(err, ErrNoHost) {
			continue // being made
		}
		if err != nil {
			return nil, err
		}
		all = append(all, Status{Config: r.Config, Up: r.Init.Alive()})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Config.Name < all[j].Config.Name })
	return all, nil
}

// FreeAddress returns the address that the host of that name has had, else the
// first one of the LAN from .11 on that no host has.
func FreeAddress(l lab.Lab, name string) (netip.Prefix, error) {
	hosts, err := List(l)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, h := range hosts {
		if h.Config.Name == name {
			return h.Config.Address, nil
		}
	}
	lan := lab.Gateway().Masked()
	a := lan.Addr()
	for range 11 {
		a = a.Next()
	}
	for ; a.Next().IsValid() && lan.Contains(a.Next()); a = a.Next() {
		if !slices.ContainsFunc(hosts, func(s Status) bool { return s.Config.Address.Addr() == a }) {
			return netip.PrefixFrom(a, lan.Bits()), nil
		}
	}
	return netip.Prefix{}, errors.New("the LAN is full")
}
