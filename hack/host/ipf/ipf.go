// Package ipf models IP Filter of a simulated illumos host: ipnat(8) with its
// whole grammar, and as much of ipf(8) as switches the filter on and refuses
// connections. Texts, exit codes and the order of effects are illumos': rules
// are loaded one by one, a duplicate is complained about and skipped, and only
// a syntax error changes the exit code.
//
// The Model decides and keeps the rules; a Backend, where there is one, makes
// them translate packets.
package ipf

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"reddwarf.io/reddwarf/hack/host/program"
)

// Config says how the filter begins.
type Config struct {
	Backend Backend // nil keeps everything in memory
	Enabled bool    // as after ipf -E; a new host's filter is off
}

// Backend makes the rules real. It is called by one command at a time.
type Backend interface {
	// Load replaces all rules. Sessions go on whatever becomes of their rule.
	Load(ctx context.Context, nat []Rule, filter []FilterRule) error

	// Sessions lists the sessions that translate addresses.
	Sessions(ctx context.Context) ([]Session, error)

	// Flush ends all sessions and says how many there were.
	Flush(ctx context.Context) (int, error)
}

// Session is one line of ipnat -l: Inside and Outside are the two forms of the
// translated end, Peer is the other end.
type Session struct {
	Kind                  Kind
	Inside, Outside, Peer Endpoint
	Proto                 int
}

// state is what Save writes. Sessions are not part of it.
type state struct {
	Enabled bool
	NAT     []Rule // in order of insertion
	Filter  []FilterRule
}

// Model is the filter of one host. Its methods may be called concurrently.
type Model struct {
	backend Backend

	mu      sync.Mutex
	enabled bool
	nat     []Rule
	filter  []FilterRule
	tuned   map[string]uint32 // tunables that are not as the kernel had them
}

// New returns a filter without rules.
func New(c Config) *Model {
	m := &Model{backend: c.Backend, enabled: c.Enabled}
	if m.backend == nil {
		m.backend = NoBackend{}
	}
	return m
}

// Commands returns the programs of the model by name.
func (m *Model) Commands() map[string]program.Command {
	return map[string]program.Command{"ipnat": m.locked(m.ipnat), "ipf": m.locked(m.ipf)}
}

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
	return json.MarshalIndent(state{m.enabled, m.nat, m.filter}, "", "\t")
}

// Load replaces the state by one that Save returned. It makes nothing real.
func (m *Model) Load(data []byte) error {
	var st state
	if err := json.Unmarshal(data, &st); err != nil {
		return fmt.Errorf("ipf state: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enabled, m.nat, m.filter = st.Enabled, st.NAT, st.Filter
	return nil
}

// Reboot does what a power cycle does: all rules and sessions are gone, and
// the filter is off until its service starts.
func (m *Model) Reboot(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tuned = nil
	return m.disable(ctx)
}

// Enable does what the start of svc:/network/ipfilter does: ipf -E.
func (m *Model) Enable(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enabled = true
	return nil
}

// Disable does what ipf -D does: it drops all rules and sessions.
func (m *Model) Disable(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.disable(ctx)
}

func (m *Model) disable(ctx context.Context) error {
	m.enabled, m.nat, m.filter = false, nil, nil
	if err := m.backend.Load(ctx, nil, nil); err != nil {
		return fmt.Errorf("removing rules: %w", err)
	}
	if _, err := m.backend.Flush(ctx); err != nil {
		return fmt.Errorf("ending sessions: %w", err)
	}
	return nil
}

// Rules returns the NAT rules in order of insertion.
func (m *Model) Rules() []Rule {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Rule(nil), m.nat...)
}

// NoBackend translates nothing: the rules exist in memory only.
type NoBackend struct{}

// Load does nothing.
func (NoBackend) Load(context.Context, []Rule, []FilterRule) error { return nil }

// Sessions returns none.
func (NoBackend) Sessions(context.Context) ([]Session, error) { return nil, nil }

// Flush finds nothing to end.
func (NoBackend) Flush(context.Context) (int, error) { return 0, nil }
