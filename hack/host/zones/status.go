package zones

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Status is what other commands of the host know of a zone.
type Status struct {
	ID     int // -1: not active; 0: the global zone
	Name   string
	State  string // as zoneadm prints it
	Path   string // zonepath
	UUID   string
	Brand  string
	IPType string // shared or excl

	Root    string    // of an active zone
	Booted  time.Time // when init was last started; zero before
	Netns   string    // of an active zone, if its Backend has one
	Caps    Caps      // of an active zone
	DebugID string
}

// List returns all zones in the order of zoneadm list -c, the global zone
// included.
func (m *Model) List() []Status {
	var all []Status
	for _, e := range m.entries() {
		s := Status{ID: e.id, Name: e.name, State: e.state.String(), Path: e.path, UUID: e.uuid, Brand: e.brand, IPType: e.ipType, DebugID: e.debug}
		m.mu.Lock()
		if z := m.zones[e.name]; z != nil && z.kernel != nil && z.kernel.id == e.id {
			k := z.kernel
			s.Root, s.Booted, s.Netns, s.Caps = k.root, k.booted, k.netns, k.caps
		}
		m.mu.Unlock()
		all = append(all, s)
	}
	return all
}

// Active returns the zones that have an id, without the global zone, by id.
func (m *Model) Active() []Status {
	all := slices.DeleteFunc(m.List(), func(s Status) bool { return s.ID <= 0 })
	slices.SortFunc(all, func(a, b Status) int { return a.ID - b.ID })
	return all
}

// Usage reads what an active zone has used.
func (m *Model) Usage(ctx context.Context, id int) (Usage, error) {
	return m.backend.Usage(ctx, id)
}

// SetCaps changes the limits of an active zone until it halts, as prctl(1).
func (m *Model) SetCaps(ctx context.Context, id int, c Caps) error {
	for _, s := range m.Active() {
		if s.ID != id {
			continue
		}
		if err := m.lock(ctx, s.Name); err != nil {
			return err
		}
		defer m.unlock(s.Name)
		if err := m.backend.SetCaps(ctx, id, c); err != nil {
			return err
		}
		op := &operation{m: m, name: s.Name}
		op.update(func(z *zone) {
			if z.kernel != nil && z.kernel.id == id {
				z.kernel.caps = c
			}
		})
		return nil
	}
	return fmt.Errorf("zone %d: %w", id, errNotThere)
}

// Mounted reports whether a zone that the kernel has shows something that lies
// in dir, by lofs.
func (m *Model) Mounted(dir string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, z := range m.zones {
		if z.kernel == nil {
			continue
		}
		for _, r := range z.kernel.config.Resources["fs"] {
			if r.Values["type"] == "lofs" && within(r.Values["special"], dir) {
				return true
			}
		}
	}
	return false
}
