package ipam

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestPoolRange(t *testing.T) {
	for _, tt := range []struct {
		prefix      string
		gateway     string
		addresses   int
		first, last string
		refused     bool
	}{
		{prefix: "10.244.3.0/24", gateway: "10.244.3.1/24", addresses: 253, first: "10.244.3.2", last: "10.244.3.254"},
		{prefix: "10.0.0.0/30", gateway: "10.0.0.1/30", addresses: 1, first: "10.0.0.2", last: "10.0.0.2"},
		{prefix: "fd00::/126", gateway: "fd00::1/126", addresses: 2, first: "fd00::2", last: "fd00::3"},
		{prefix: "10.0.0.0/31", refused: true},
		{prefix: "10.0.0.1/24", refused: true},
		{prefix: "10.0.0.0/32", refused: true},
	} {
		p, err := New(netip.MustParsePrefix(tt.prefix))
		if (err != nil) != tt.refused {
			t.Errorf("New(%s) = %v, want refused = %v", tt.prefix, err, tt.refused)
		}
		if err != nil {
			continue
		}
		if got := p.Gateway().String(); got != tt.gateway {
			t.Errorf("gateway of %s is %s, want %s", tt.prefix, got, tt.gateway)
		}
		var all []netip.Addr
		for {
			a, err := p.Allocate(fmt.Sprint(len(all)))
			if errors.Is(err, ErrExhausted) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, a)
		}
		if len(all) != tt.addresses || all[0].String() != tt.first || all[len(all)-1].String() != tt.last {
			t.Errorf("%s gave %d addresses %v to %v, want %d, %s to %s", tt.prefix, len(all), all[0], all[len(all)-1], tt.addresses, tt.first, tt.last)
		}
	}
}

func TestPoolRestsReleasedAddresses(t *testing.T) {
	p, err := New(netip.MustParsePrefix("10.0.0.0/29")) // .2 to .6
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := p.Allocate(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	p.Release("0")
	for _, want := range []string{"10.0.0.5", "10.0.0.6", "10.0.0.2"} {
		if a, err := p.Allocate("for " + want); err != nil || a.String() != want {
			t.Errorf("Allocate = %v, %v, want %s", a, err, want)
		}
	}
}

func TestClaim(t *testing.T) {
	p, err := New(netip.MustParsePrefix("10.0.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		owner, addr string
		want        error
	}{
		{"a", "10.0.0.7", nil},
		{"a", "10.0.0.7", nil},
		{"b", "10.0.0.7", ErrConflict},
		{"a", "10.0.0.8", ErrConflict},
		{"b", "10.0.0.1", ErrRange},
		{"b", "10.0.0.255", ErrRange},
		{"b", "10.0.1.7", ErrRange},
		{"b", "fd00::7", ErrRange},
		{"b", "::ffff:10.0.0.9", ErrRange},
	} {
		if err := p.Claim(tt.owner, addr(tt.addr)); !errors.Is(err, tt.want) {
			t.Errorf("Claim(%s, %s) = %v, want %v", tt.owner, tt.addr, err, tt.want)
		}
	}
	if err := p.Claim("c", netip.Addr{}); !errors.Is(err, ErrRange) {
		t.Errorf("Claim of no address = %v", err)
	}
	if a, err := p.Allocate("a"); err != nil || a != addr("10.0.0.7") {
		t.Errorf("Allocate = %v, %v, want what was claimed", a, err)
	}
}

// TestPoolProperties does random things and checks after each that no address
// has two owners and that nobody's address changes.
func TestPoolProperties(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, err := New(netip.MustParsePrefix("10.0.0.0/28"))
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]netip.Addr{}
		for range 300 {
			owner := fmt.Sprint(r.IntN(20))
			switch r.IntN(3) {
			case 0:
				p.Release(owner)
				delete(has, owner)
			case 1:
				a := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(18))})
				if p.Claim(owner, a) == nil {
					if old, ok := has[owner]; ok && old != a {
						t.Fatalf("seed %d: %s had %v and claimed %v", seed, owner, old, a)
					}
					has[owner] = a
				}
			default:
				a, err := p.Allocate(owner)
				if errors.Is(err, ErrExhausted) {
					if len(has) != 13 {
						t.Fatalf("seed %d: exhausted with %d of 13 taken", seed, len(has))
					}
					continue
				}
				if old, ok := has[owner]; err != nil || ok && old != a {
					t.Fatalf("seed %d: %s had %v and got %v, %v", seed, owner, old, a, err)
				}
				has[owner] = a
			}
			owners := map[netip.Addr]string{}
			for o, a := range has {
				if other, taken := owners[a]; taken {
					t.Fatalf("seed %d: %v belongs to %s and %s", seed, a, o, other)
				}
				owners[a] = o
				if a == p.Gateway().Addr() || !p.Prefix().Contains(a) {
					t.Fatalf("seed %d: %s has %v", seed, o, a)
				}
			}
		}
	}
}

func TestSlots(t *testing.T) {
	s := NewSlots(3)
	if err := s.Claim("x", 2); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		owner string
		want  int
	}{{"a", 1}, {"b", 3}, {"a", 1}, {"x", 2}} {
		if n, err := s.Allocate(tt.owner); err != nil || n != tt.want {
			t.Errorf("Allocate(%s) = %d, %v, want %d", tt.owner, n, err, tt.want)
		}
	}
	if _, err := s.Allocate("c"); !errors.Is(err, ErrExhausted) {
		t.Errorf("Allocate = %v, want ErrExhausted", err)
	}
	s.Release("a")
	s.Release("nobody")
	if n, err := s.Allocate("c"); err != nil || n != 1 {
		t.Errorf("Allocate = %d, %v, want 1", n, err)
	}
	for slot, want := range map[int]error{0: ErrRange, 4: ErrRange, 2: ErrConflict} {
		if err := s.Claim("d", slot); !errors.Is(err, want) {
			t.Errorf("Claim of %d = %v, want %v", slot, err, want)
		}
	}
}
