package datalink

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/hack/host/zones"
)

var _ zones.Links = (*Model)(nil)

// ErrNoLink means that a zone wants a link that does not exist. zoneadmd
// prints nothing about it but "failed to add network device".
var ErrNoLink = errors.New("no such data link")

// ErrInUse means that IP in the global zone uses the link. Its text is
// zoneadmd's warning.
type ErrInUse struct{ Link string }

// Error returns zoneadmd's warning.
func (e ErrInUse) Error() string {
	return fmt.Sprintf("WARNING: skipping network interface '%s' which is used in the global zone", e.Link)
}

// ErrBusy means that another zone has the link.
type ErrBusy struct{ Link, Zone string }

// Error returns zoneadmd's warning; zdlerror() puts the link's name first.
func (e ErrBusy) Error() string {
	return fmt.Sprintf("WARNING: unable to add network interface '%s': %s", e.Link, statusBusy)
}

// ErrProtected means that a zone's allowed-address meets a link whose
// protection or allowed-ips are set already.
type ErrProtected struct{ Property string }

// Error returns what zoneadmd prints.
func (e ErrProtected) Error() string {
	if e.Property == "protection" {
		return "Protection is already set"
	}
	return e.Property + " is already set"
}

// CheckAssign implements zones.Links.
func (m *Model) CheckAssign(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.checkAssign(name)
}

func (m *Model) checkAssign(name string) error {
	l := m.activeLink(name)
	switch {
	case l == nil:
		return ErrNoLink
	case m.plumbed(name):
		return ErrInUse{name}
	case l.Zone != "" || l.Class == classEtherstub:
		return ErrBusy{name, l.Zone}
	}
	return nil
}

// Assign implements zones.Links. If it fails, the link is in the global zone
// as before.
func (m *Model) Assign(ctx context.Context, zone string, id int, netns string, c zones.LinkConfig) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkAssign(c.Physical); err != nil {
		return err
	}
	l := m.activeLink(c.Physical)
	if l.Class != classVNIC {
		return fmt.Errorf("%sonly a VNIC can be given to a zone: %s is %s", simulatedRefusal, l.Name, l.Class)
	}
	var set []string
	if len(c.Allowed) > 0 {
		for _, p := range []string{"protection", "allowed-ips"} {
			if l.Props[p] != "" {
				return ErrProtected{p}
			}
		}
		set = []string{"protection", "allowed-ips"}
		storeProp(l, "protection", "ip-nospoof", false)
		storeProp(l, "allowed-ips", allowedText(c.Allowed), false)
		if err := m.backend.SetGuard(ctx, l.Name, l.guard()); err != nil {
			m.clearProps(l, set)
			return fmt.Errorf("guard of %s: %w", l.Name, err)
		}
	}
	if netns != "" {
		if err := m.backend.MoveToZone(ctx, l.Name, netns); err != nil {
			m.clearProps(l, set)
			return errors.Join(fmt.Errorf("link %s: %w", l.Name, err), m.backend.SetGuard(ctx, l.Name, l.guard()))
		}
	}
	l.Zone, l.ZoneID, l.Netns, l.ZoneProps = zone, id, netns, set
	return nil
}

// allowedText is the property allowed-ips for a zone's addresses: zoneadmd
// drops their prefix lengths.
func allowedText(allowed []netip.Prefix) string {
	var out []string
	for _, p := range allowed {
		out = append(out, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()).String())
	}
	return strings.Join(out, ",")
}

func (m *Model) clearProps(l *link, names []string) {
	for _, p := range names {
		storeProp(l, p, "", false)
	}
}

// Plumb implements zones.Links.
func (m *Model) Plumb(ctx context.Context, zone string, id int, netns string, c zones.LinkConfig) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.activeLink(c.Physical)
	if l == nil || l.Zone != zone || l.ZoneID != id {
		return fmt.Errorf("link %s is not in zone %s", c.Physical, zone)
	}
	if netns == "" {
		return nil
	}
	return m.backend.PlumbZone(ctx, l.Name, netns, c.Addresses, c.Routers)
}

// Return implements zones.Links. It takes back every link it can.
func (m *Model) Return(ctx context.Context, zone string, id int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.stacks, id)
	var errs []error
	for _, l := range m.st.Links {
		if l.Zone != zone || l.ZoneID != id {
			continue
		}
		if l.Netns != "" {
			if err := m.backend.TakeBack(ctx, l.vnic(), l.Netns); err != nil {
				errs = append(errs, fmt.Errorf("link %s: %w", l.Name, err))
				continue // still the zone's
			}
		}
		// zoneadmd resets both properties of every link, whoever set them.
		m.clearProps(l, []string{"protection", "allowed-ips"})
		l.Zone, l.ZoneID, l.Netns, l.ZoneProps = "", 0, "", nil
		errs = append(errs, m.backend.SetGuard(ctx, l.Name, l.guard()))
	}
	return errors.Join(errs...)
}

// LinkStats is the kstat link:0:NAME of one link.
type LinkStats struct {
	Name   string
	Zone   string // the zone that has the link; "" is the global zone
	ZoneID int
	Counters
}

// Stats returns the counters of every active link, as the kstats of module
// link show them, in the order of their creation.
func (m *Model) Stats(ctx context.Context) ([]LinkStats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []LinkStats
	for _, l := range m.st.Links {
		if !l.Active {
			continue
		}
		c, err := m.backend.Counters(ctx, l.Name)
		if err != nil {
			return nil, fmt.Errorf("counters of %s: %w", l.Name, err)
		}
		out = append(out, LinkStats{Name: l.Name, Zone: l.Zone, ZoneID: l.ZoneID, Counters: c})
	}
	return out, nil
}

// LinkNames returns the names of all active links, in the order of their
// creation.
func (m *Model) LinkNames() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, l := range m.st.Links {
		if l.Active {
			out = append(out, l.Name)
		}
	}
	return slices.Clip(out)
}
