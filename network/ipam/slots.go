package ipam

import (
	"fmt"
	"iter"
	"maps"
	"sync"
)

// Slots hands out the numbers from 1 on. A Slots may be used from several
// goroutines.
type Slots struct {
	max int

	mu sync.Mutex
	t  table[int]
}

// NewSlots returns the numbers 1 to max.
func NewSlots(max int) *Slots {
	return &Slots{max: max, t: newTable[int]()}
}

// Claim records that owner has slot, as it is found on the host at start.
func (s *Slots) Claim(owner string, slot int) error {
	if slot < 1 || slot > s.max {
		return fmt.Errorf("ipam: slot %d: %w 1-%d", slot, ErrRange, s.max)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.t.claim(owner, slot)
}

// Allocate returns the slot of owner, the lowest free one if it has none.
func (s *Slots) Allocate(owner string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.t.allocate(owner, s.upward())
	if err != nil {
		return 0, fmt.Errorf("ipam: slots 1-%d: %w", s.max, err)
	}
	return n, nil
}

func (s *Slots) upward() iter.Seq[int] {
	return func(yield func(int) bool) {
		for n := 1; n <= s.max && yield(n); n++ {
		}
	}
}

// Release frees what owner has. An owner without anything is fine.
func (s *Slots) Release(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.release(owner)
}

// Owners returns who has what.
func (s *Slots) Owners() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.t.byOwner)
}

// table is who has what, both ways. At any time each is the other's inverse.
type table[T comparable] struct {
	byOwner map[string]T
	owners  map[T]string
	latest  T // the last one handed out
}

func newTable[T comparable]() table[T] {
	return table[T]{byOwner: map[string]T{}, owners: map[T]string{}}
}

func (t *table[T]) claim(owner string, v T) error {
	if other, taken := t.owners[v]; taken && other != owner {
		return fmt.Errorf("ipam: %v for %s: %w by %s", v, owner, ErrConflict, other)
	}
	if has, ok := t.byOwner[owner]; ok && has != v {
		return fmt.Errorf("ipam: %v for %s: %w: it has %v", v, owner, ErrConflict, has)
	}
	t.byOwner[owner], t.owners[v] = v, owner
	return nil
}

func (t *table[T]) allocate(owner string, candidates iter.Seq[T]) (T, error) {
	if v, ok := t.byOwner[owner]; ok {
		return v, nil
	}
	for v := range candidates {
		if _, taken := t.owners[v]; !taken {
			t.byOwner[owner], t.owners[v], t.latest = v, owner, v
			return v, nil
		}
	}
	var none T
	return none, ErrExhausted
}

func (t *table[T]) release(owner string) {
	if v, ok := t.byOwner[owner]; ok {
		delete(t.byOwner, owner)
		delete(t.owners, v)
	}
}
