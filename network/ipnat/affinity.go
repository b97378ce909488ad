package ipnat

import (
	"encoding/binary"
	"net/netip"
)

// Affinity is done without state. The clients are cut into parts by the low
// bits of their addresses, by rules with masks such as 0.0.0.63, and each part
// goes to the endpoint that rendezvous hashing gives it: when an endpoint goes,
// only its own parts move, and a new one takes its share and nothing else.
// "sticky" would be ipnat's own way, but with rotation it does nothing: in
// nat_newrdr() of ip_nat.c such rules look a host map up and never make one.

// parts returns the number of parts for n endpoints, a power of two. Crossing a
// step cuts all clients anew, so there are few steps; with eight parts or more
// for each endpoint hardly one stays without clients.
func parts(n int) uint32 {
	switch {
	case n <= 1:
		return 1
	case n <= 8:
		return 64
	case n <= 32:
		return 256
	case n <= 128:
		return 1024
	}
	return 4096
}

// lowBits returns the clients of part k of count.
func lowBits(k, count uint32) Net {
	return Net{from32(k), from32(count - 1)}
}

func from32(x uint32) netip.Addr {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], x)
	return netip.AddrFrom4(raw)
}

// both returns the addresses that are in a and in b, and whether there are any.
// The zero Net is no restriction.
func both(a, b Net) (Net, bool) {
	if a == (Net{}) {
		return b, true
	}
	if b == (Net{}) {
		return a, true
	}
	common := and(a.Mask, b.Mask)
	if and(a.Addr, common) != and(b.Addr, common) {
		return Net{}, false
	}
	return Net{or(a.Addr, b.Addr), or(a.Mask, b.Mask)}, true
}

func or(a, b netip.Addr) netip.Addr {
	x, y := a.As16(), b.As16()
	for i := range x {
		x[i] |= y[i]
	}
	r, _ := netip.AddrFromSlice(x[16-a.BitLen()/8:])
	return r
}

// endpointHashes returns a number for each endpoint of a port that depends on
// nothing else.
func endpointHashes(seed uint64, all []netip.AddrPort) []uint64 {
	hashes := make([]uint64, len(all))
	for i, e := range all {
		raw := e.Addr().As16()
		high, low := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
		hashes[i] = mix(mix(mix(seed^high)^low) ^ uint64(e.Port()))
	}
	return hashes
}

// winner returns the index of the endpoint that has part k.
func winner(hashes []uint64, k uint32) int {
	best, at := uint64(0), 0
	for i, h := range hashes {
		if w := mix(h ^ mix(uint64(k)+1)); w > best || i == 0 {
			best, at = w, i
		}
	}
	return at
}
