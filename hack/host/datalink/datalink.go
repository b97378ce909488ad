// Package datalink models the network commands of a simulated illumos host:
// dladm(8), ipadm(8), route(8) and routeadm(8), with the texts and exit codes
// of illumos. One Model is the network of one host's global zone; it also
// gives data links to zones, as zoneadmd does.
//
// The Model decides what is allowed and keeps all state. A Backend, where
// there is one, makes the effects real. VNICs over physical links are refused,
// because no backend can put them on a simulated LAN.
package datalink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"reddwarf.io/reddwarf/hack/host/program"
)

// Config says what host the network belongs to.
type Config struct {
	Distro  string     // "omnios", "smartos" or "openindiana"
	Backend Backend    // nil keeps everything in memory
	Uplinks []Physical // the network cards
}

// Physical is one network card. It exists before the model and survives it.
type Physical struct {
	Name string
	MAC  net.HardwareAddr
	MTU  int // 0 means 1500
}

// class is what dladm calls the class of a link.
type class string

const (
	classPhys      class = "phys"
	classEtherstub class = "etherstub"
	classVNIC      class = "vnic"
)

// link is one data link. A link can be active, persistent, or both; one that
// is persistent only was removed until the next boot (delete-vnic -t).
type link struct {
	ID                 int
	Name               string
	Class              class
	Over               string `json:",omitempty"`
	MAC                string `json:",omitempty"` // six bytes in hex with colons
	MACType            string `json:",omitempty"`
	VID                int    `json:",omitempty"`
	MTU                int
	Active, Persistent bool
	Props              map[string]string `json:",omitempty"` // active, not at default
	Saved              map[string]string `json:",omitempty"` // persistent

	// Zone is the running zone that has the link, ZoneProps which properties
	// its configuration set: they go away when it halts.
	Zone      string   `json:",omitempty"`
	ZoneID    int      `json:",omitempty"`
	Netns     string   `json:",omitempty"`
	ZoneProps []string `json:",omitempty"`
}

// ipif is an IP interface over a link, or the loopback interface.
type ipif struct {
	Name               string
	Active, Persistent bool
	Props              map[string]string `json:",omitempty"` // "ipv4 forwarding" → "on"
	Saved              map[string]string `json:",omitempty"`
}

// address is one address object.
type address struct {
	Object             string // IF/NAME; IF/ for one without a name
	Interface          string
	Prefix             netip.Prefix
	Type               string
	Up                 bool
	Active, Persistent bool
}

// routeEntry is one route of the forwarding table that a command made.
type routeEntry struct {
	Dst       netip.Prefix
	Gateway   netip.Addr
	Interface string // set for interface routes and -ifp
	Flags     routeFlags
}

// state is everything a Model knows; it is what Save writes.
type state struct {
	NextID     int
	NextMAC    uint32
	Links      []*link
	Interfaces []*ipif
	Addresses  []*address
	Routes     []routeEntry
	SavedRoute []string          // lines of /etc/inet/static_routes-DEFAULT, without "add "
	Props      map[string]string // "ipv4 forwarding" → "on", active, not at default
	SavedProps map[string]string
	Routeadm   map[string]bool // persistent choices of routeadm, not yet applied
}

// Model is the network of one host. Its methods may be called concurrently.
type Model struct {
	distro  string
	backend Backend
	uplinks []Physical

	zone *zoneStack // set where this is the IP stack of a zone

	mu     sync.Mutex
	st     state
	stacks map[int]*Model // of zones that have used theirs, by the zone's id
}

// New returns the network of a host that was just installed: the network
// cards, and the loopback interface with its addresses.
func New(c Config) *Model {
	m := &Model{distro: c.Distro, backend: c.Backend, uplinks: c.Uplinks}
	if m.distro == "" {
		m.distro = "omnios"
	}
	if m.backend == nil {
		m.backend = NoBackend{}
	}
	m.st = state{NextID: 1, Props: map[string]string{}, SavedProps: map[string]string{}, Routeadm: map[string]bool{}}
	m.st.Interfaces = []*ipif{{Name: "lo0", Active: true, Persistent: true}}
	m.st.Addresses = []*address{
		{Object: "lo0/v4", Interface: "lo0", Prefix: netip.MustParsePrefix("127.0.0.1/8"), Type: "static", Up: true, Active: true, Persistent: true},
		{Object: "lo0/v6", Interface: "lo0", Prefix: netip.MustParsePrefix("::1/128"), Type: "static", Up: true, Active: true, Persistent: true},
	}
	m.addUplinks()
	return m
}

// addUplinks makes a link for every network card that has none.
func (m *Model) addUplinks() {
	for _, p := range m.uplinks {
		if m.link(p.Name) != nil {
			continue
		}
		mtu := p.MTU
		if mtu == 0 {
			mtu = defaultMTU
		}
		m.st.Links = append(m.st.Links, &link{ID: m.nextID(), Name: p.Name, Class: classPhys,
			MAC: p.MAC.String(), MTU: mtu, Active: true, Persistent: true})
	}
}

const defaultMTU = 1500

// Commands returns the programs of the model by name.
func (m *Model) Commands() map[string]program.Command {
	return map[string]program.Command{
		"dladm":    m.locked(m.dladm),
		"ipadm":    m.locked(m.ipadm),
		"route":    m.locked(m.route),
		"routeadm": m.locked(m.routeadm),
	}
}

// locked makes a command of a function that needs the model for itself.
func (m *Model) locked(f func(context.Context, *program.Invocation) int) program.Command {
	return func(ctx context.Context, inv *program.Invocation) int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return f(ctx, inv)
	}
}

// Save returns the complete state as JSON.
func (m *Model) Save() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return json.MarshalIndent(m.st, "", "\t")
}

// Load replaces the state by one that Save returned. It makes nothing real:
// a host that starts calls Reboot next.
func (m *Model) Load(data []byte) error {
	var st state
	if err := json.Unmarshal(data, &st); err != nil {
		return fmt.Errorf("datalink state: %w", err)
	}
	for _, p := range []*map[string]string{&st.Props, &st.SavedProps} {
		if *p == nil {
			*p = map[string]string{}
		}
	}
	if st.Routeadm == nil {
		st.Routeadm = map[string]bool{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.st = st
	m.addUplinks()
	return nil
}

// Reboot does what a power cycle does: everything temporary is gone, zones
// have lost their links, and what is persistent is made again. It also makes a
// loaded state real. The error joins everything the backend could not do; the
// model's state is that of a started host all the same.
func (m *Model) Reboot(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shutDown(ctx)
	return m.startUp(ctx)
}

// shutDown removes everything active, as far as it is there.
func (m *Model) shutDown(ctx context.Context) {
	var ignored []error // what is not there need not be removed
	for _, r := range m.st.Routes {
		ignored = append(ignored, m.backend.RemoveRoute(ctx, m.backendRoute(r)))
	}
	for _, a := range m.st.Addresses {
		if a.Active && a.Up && a.Interface != loopback {
			ignored = append(ignored, m.backend.RemoveAddress(ctx, a.Interface, a.Prefix))
		}
	}
	for _, c := range []class{classVNIC, classEtherstub} {
		for _, l := range m.st.Links {
			if l.Class == c && l.Active {
				ignored = append(ignored, m.destroy(ctx, l))
			}
		}
	}
	_ = errors.Join(ignored...)
	m.st.Routes = nil
	m.st.Links = slices.DeleteFunc(m.st.Links, func(l *link) bool { return !l.Persistent })
	m.st.Interfaces = slices.DeleteFunc(m.st.Interfaces, func(i *ipif) bool { return !i.Persistent })
	m.st.Addresses = slices.DeleteFunc(m.st.Addresses, func(a *address) bool { return !a.Persistent })
	for _, l := range m.st.Links {
		l.Active, l.Props = l.Class == classPhys, cloneMap(l.Saved)
		l.Zone, l.ZoneID, l.Netns, l.ZoneProps = "", 0, "", nil
	}
	for _, i := range m.st.Interfaces {
		i.Active, i.Props = i.Name == loopback, cloneMap(i.Saved)
	}
	for _, a := range m.st.Addresses {
		a.Active = a.Interface == loopback
	}
	m.st.Props = cloneMap(m.st.SavedProps)
}

// startUp makes what is persistent active, in the order of the boot services:
// links, interfaces, addresses, forwarding, routes.
func (m *Model) startUp(ctx context.Context) error {
	var errs []error
	for _, c := range []class{classPhys, classEtherstub, classVNIC} {
		for _, l := range m.st.Links {
			if l.Class == c && (l.Over == "" || m.activeLink(l.Over) != nil) {
				errs = append(errs, m.create(ctx, l))
				l.Active = true
			}
		}
	}
	for _, i := range m.st.Interfaces {
		if i.Name != loopback && m.activeLink(i.Name) != nil {
			errs = append(errs, m.backend.Plumb(ctx, i.Name))
			i.Active = true
		}
	}
	for _, a := range m.st.Addresses {
		if i := m.iface(a.Interface); i != nil && i.Active && a.Interface != loopback {
			a.Active = true
			if a.Up {
				errs = append(errs, m.backend.AddAddress(ctx, a.Interface, a.Prefix))
			}
		}
	}
	for p, on := range m.st.Routeadm {
		m.applyRouteadm(p, on)
	}
	errs = append(errs, m.applyAllProps(ctx))
	for _, line := range m.st.SavedRoute {
		if c, err := parseRouteCommand("add", splitWords(line)); err == nil {
			m.addRoute(ctx, c)
		}
	}
	return errors.Join(errs...)
}

func (m *Model) nextID() int {
	id := m.st.NextID
	m.st.NextID++
	return id
}

// link returns the link of that name, active or not.
func (m *Model) link(name string) *link {
	for _, l := range m.st.Links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

func (m *Model) activeLink(name string) *link {
	if l := m.link(name); l != nil && l.Active {
		return l
	}
	return nil
}

// iface returns the IP interface of that name, active or not.
func (m *Model) iface(name string) *ipif {
	for _, i := range m.st.Interfaces {
		if i.Name == name {
			return i
		}
	}
	return nil
}

// plumbed says whether IP in the global zone uses the link.
func (m *Model) plumbed(name string) bool {
	i := m.iface(name)
	return i != nil && i.Active
}

func cloneMap(in map[string]string) map[string]string {
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[k] = v
	}
	return out
}
