package zones

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// saved is the model's state as Save writes it.
type saved struct {
	Zones     []savedZone
	NextID    int
	NextDebug int
}

type savedZone struct {
	Name   string
	State  state
	UUID   string `json:",omitempty"`
	Config *zoneConfig
}

// Save returns the whole configuration of the host's zones: the index and all
// zone configurations. Which zones run is not part of it.
func (m *Model) Save() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := saved{NextID: m.nextID, NextDebug: m.nextDebug}
	for _, name := range m.order {
		z := m.zones[name]
		s.Zones = append(s.Zones, savedZone{Name: name, State: z.state, UUID: z.uuid, Config: z.config})
	}
	data, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("zones: save: %w", err)
	}
	return data, nil
}

// Load replaces the host's zones with what Save wrote. No zone may be active.
func (m *Model) Load(data []byte) error {
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("zones: load: %w", err)
	}
	zones := map[string]*zone{}
	var order []string
	for _, z := range s.Zones {
		if !validZoneName(z.Name) || z.Config == nil || z.State < stateConfigured || z.State > stateInstalled {
			return fmt.Errorf("zones: load: zone %q is not valid", z.Name)
		}
		zones[z.Name] = &zone{name: z.Name, state: z.State, uuid: z.UUID, config: z.Config.clone()}
		order = append(order, z.Name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, z := range m.zones {
		if z.kernel != nil {
			return fmt.Errorf("zones: load: zone %s is %s", z.name, z.kernel.state)
		}
	}
	m.zones, m.order = zones, order
	m.nextID, m.nextDebug = max(s.NextID, 1), max(s.NextDebug, 1)
	return nil
}

// Reboot is a power cycle: every active zone is gone without notice, and zone
// ids start anew. Zones do not boot by themselves afterwards, as if the
// service system/zones were disabled.
func (m *Model) Reboot(ctx context.Context) error {
	m.mu.Lock()
	names := append([]string(nil), m.order...)
	m.mu.Unlock()
	var errs []error
	for _, name := range names {
		if err := m.lock(ctx, name); err != nil {
			return fmt.Errorf("zones: reboot: %w", err)
		}
		op := &operation{m: m, name: name}
		if k := op.kernel(); k != nil && !op.release(ctx, k) {
			errs = append(errs, fmt.Errorf("zones: reboot: zone %s: %v", name, op.messages))
		}
		op.update(func(z *zone) { z.kernel = nil })
		m.unlock(name)
	}
	m.mu.Lock()
	m.nextID = 1
	m.mu.Unlock()
	return errors.Join(errs...)
}
