package zones

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Memory is a Backend without any effect: init "runs" until the zone is
// halted. Its hooks let tests play what happens in a zone. They must be set
// before the backend is used.
type Memory struct {
	// OnReady and OnHalt run before the backend does as told; an error makes
	// the operation fail. OnHalt may block to keep a zone shutting down.
	OnReady func(s Sandbox) error
	OnHalt  func(id int) error

	// OnBoot is called in Boot with the function that ends the zone's init;
	// calling it more than once has no further effect.
	OnBoot func(id int, init []string, exit func(status int)) error

	// OnEnter runs a program in a zone. Without it every program exits 0.
	OnEnter func(ctx context.Context, id int, e Entry) (status int, err error)

	mu    sync.Mutex
	zones map[int]*memoryZone
}

type memoryZone struct {
	box    Sandbox
	booted bool
	caps   Caps
}

// NewMemory returns a Backend in memory.
func NewMemory() *Memory { return &Memory{zones: map[int]*memoryZone{}} }

// Sandbox returns what zone id was made of, if it exists.
func (m *Memory) Sandbox(id int) (Sandbox, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	z, ok := m.zones[id]
	if !ok {
		return Sandbox{}, false
	}
	return z.box, true
}

// Ready implements Backend.
func (m *Memory) Ready(_ context.Context, s Sandbox) (string, error) {
	if m.OnReady != nil {
		if err := m.OnReady(s); err != nil {
			return "", err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.zones[s.ID]; ok {
		return "", fmt.Errorf("zone %d: already there", s.ID)
	}
	m.zones[s.ID] = &memoryZone{box: s, caps: s.Caps}
	return "", nil
}

// Boot implements Backend.
func (m *Memory) Boot(_ context.Context, id int, init []string, exited func(int)) error {
	m.mu.Lock()
	z, ok := m.zones[id]
	if ok {
		z.booted = true
	}
	m.mu.Unlock()
	if !ok {
		return errNoSandbox(id)
	}
	if m.OnBoot == nil {
		return nil
	}
	var once sync.Once
	return m.OnBoot(id, init, func(status int) { once.Do(func() { exited(status) }) })
}

// Halt implements Backend.
func (m *Memory) Halt(_ context.Context, id int) error {
	if m.OnHalt != nil {
		if err := m.OnHalt(id); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.zones, id)
	return nil
}

// Enter implements Backend.
func (m *Memory) Enter(ctx context.Context, id int, e Entry) (int, error) {
	m.mu.Lock()
	z, ok := m.zones[id]
	booted := ok && z.booted
	m.mu.Unlock()
	if !booted {
		return 0, errNoSandbox(id)
	}
	if m.OnEnter == nil {
		return 0, nil
	}
	return m.OnEnter(ctx, id, e)
}

// SetCaps implements Backend.
func (m *Memory) SetCaps(_ context.Context, id int, c Caps) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	z, ok := m.zones[id]
	if !ok {
		return errNoSandbox(id)
	}
	z.caps = c
	return nil
}

// Usage implements Backend. A zone in memory uses nothing but its init.
func (m *Memory) Usage(_ context.Context, id int) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	z, ok := m.zones[id]
	if !ok {
		return Usage{}, errNoSandbox(id)
	}
	if !z.booted {
		return Usage{}, nil
	}
	return Usage{Processes: 1, LWPs: 1}, nil
}

func errNoSandbox(id int) error { return fmt.Errorf("zone %d: %w", id, errNotThere) }

var errNotThere = errors.New("no such sandbox")
