// Package ipam hands out addresses of a prefix and small numbers, one to each
// owner. It is pure: the record of who has what is kept elsewhere (in the
// host's zones and the agent's ledgers) and is claimed back at start.
//
// Its one surprising rule: an owner who asks again gets what it has.
package ipam

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"sync"
)

var (
	// ErrExhausted means that nothing is free.
	ErrExhausted = errors.New("exhausted")
	// ErrConflict means that another owner has what is claimed, or that the
	// owner has something else.
	ErrConflict = errors.New("already taken")
	// ErrRange means that what is claimed can never be handed out.
	ErrRange = errors.New("not in the pool")
)

// Pool hands out the addresses of one prefix. Its first address is the
// gateway's; neither that nor an IPv4 prefix's network and broadcast address
// is ever handed out. A Pool may be used from several goroutines.
type Pool struct {
	prefix      netip.Prefix
	first, last netip.Addr

	mu sync.Mutex
	t  table[netip.Addr]
}

// New returns the pool of a prefix, which must leave room for the gateway and
// one more address.
func New(prefix netip.Prefix) (*Pool, error) {
	if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
		return nil, fmt.Errorf("ipam: prefix %s: not a network", prefix)
	}
	room := prefix.Addr().BitLen() - prefix.Bits()
	if room < 2 {
		return nil, fmt.Errorf("ipam: prefix %s: too small", prefix)
	}
	last := lastOf(prefix)
	if prefix.Addr().Is4() {
		last = last.Prev() // broadcast
	}
	return &Pool{
		prefix: prefix,
		first:  prefix.Addr().Next().Next(),
		last:   last,
		t:      newTable[netip.Addr](),
	}, nil
}

// Prefix returns the prefix of the pool.
func (p *Pool) Prefix() netip.Prefix { return p.prefix }

// Gateway returns the first address of the prefix with its length, as the
// gateway's interface has it.
func (p *Pool) Gateway() netip.Prefix {
	return netip.PrefixFrom(p.prefix.Addr().Next(), p.prefix.Bits())
}

// Claim records that owner has addr, as it is found on the host at start.
func (p *Pool) Claim(owner string, addr netip.Addr) error {
	if addr.Zone() != "" || addr.BitLen() != p.first.BitLen() || addr.Less(p.first) || p.last.Less(addr) {
		return fmt.Errorf("ipam: address %s: %w %s", addr, ErrRange, p.prefix)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.t.claim(owner, addr)
}

// Allocate returns the address of owner, a free one if it has none. Addresses
// are handed out in turn, so that one that was just released rests for as long
// as possible: neighbours may remember whose it was.
func (p *Pool) Allocate(owner string) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, err := p.t.allocate(owner, p.inTurn())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ipam: prefix %s: %w", p.prefix, err)
	}
	return a, nil
}

// inTurn yields every address once, from the one after the last handed out.
func (p *Pool) inTurn() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		start := p.first
		if p.t.latest.IsValid() && p.t.latest.Less(p.last) {
			start = p.t.latest.Next()
		}
		for a := start; ; {
			if !yield(a) {
				return
			}
			if a == p.last {
				a = p.first
			} else {
				a = a.Next()
			}
			if a == start {
				return
			}
		}
	}
}

// Release frees what owner has. An owner without anything is fine.
func (p *Pool) Release(owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t.release(owner)
}

// Owners returns who has what.
func (p *Pool) Owners() map[string]netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.t.byOwner)
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
