package zones

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Config is all that we say of a zone. Zones are exclusive-IP, do not boot by
// themselves, and start from an empty configuration.
type Config struct {
	Name  string
	Brand string
	Path  string // the zonepath, absolute

	Links  []Link
	Mounts []Mount
	Attrs  []Attr

	LimitPriv string // as privileges(7) lists; empty for the brand's default
	FSAllowed string // comma-separated file system types; empty for none

	CPUCap       int    // hundredths of a processor; 0 for no cap
	CPUShares    uint64 // fair-share weight; 0 for none
	MaxProcesses uint64 // 0 for no limit, else at least 100
	MaxLWPs      uint64 // 0 for no limit, else at least 100
	Memory       Memory
}

// Memory are limits in bytes. Zero means none.
type Memory struct {
	Physical uint64
	Swap     uint64 // what processes can reserve, the one that is hard everywhere
	Locked   uint64
}

// Link gives a data link to the zone, with the only addresses that it may use.
type Link struct {
	Physical  string
	Addresses []netip.Prefix
	Router    netip.Addr // default router for IPv4, or for IPv6 if it is one
	Router6   netip.Addr // default router for IPv6 beside one for IPv4
}

// Mount is a file system that zoneadm mounts when the zone becomes ready. No
// component of Target may be a symbolic link.
type Mount struct {
	Target  string   // in the zone
	Source  string   // a path of the global zone, or a dataset for type zfs
	Type    string   // lofs, zfs or tmpfs
	Options []string // such as ro, nodevices
}

// Attr is a generic attribute: text that the zone carries. Attributes can be
// read inside some brands' zones.
type Attr struct {
	Name  string
	Type  string // string, int, uint or boolean
	Value string
}

// Script returns the zonecfg commands that create c from nothing, for a
// zonecfg with f, for `zonecfg -f`. The same Config always gives the same text.
// The error has every fault of c.
func (c Config) Script(f Features) (string, error) {
	if err := c.validate(f); err != nil {
		return "", err
	}
	s := &script{features: f}
	s.global(c)
	for i, l := range c.Links {
		s.link(l, i == 0)
	}
	for _, m := range c.Mounts {
		s.mount(m)
	}
	for _, a := range c.Attrs {
		s.resource("attr", "name", a.Name, "type", a.Type, "value", a.Value)
	}
	s.limits(c)
	s.line("verify")
	s.line("commit")
	return s.b.String(), nil
}

// script collects lines. Every value passes through quote.
type script struct {
	b        strings.Builder
	features Features
}

func (s *script) line(format string, args ...any) {
	fmt.Fprintf(&s.b, format+"\n", args...)
}

func (s *script) set(property, value string) {
	s.line("set %s=%s", property, quote(value))
}

// resource writes one resource with pairs of property and value.
func (s *script) resource(kind string, pairs ...string) {
	s.line("add %s", kind)
	for i := 0; i+1 < len(pairs); i += 2 {
		s.set(pairs[i], pairs[i+1])
	}
	s.line("end")
}

func (s *script) global(c Config) {
	s.line("create -F -b") // -F: over one that is configured and no more
	s.set("brand", c.Brand)
	s.set("zonepath", c.Path)
	s.set("autoboot", "false") // the agent decides what runs after a reboot
	s.set("ip-type", "exclusive")
	if c.LimitPriv != "" {
		s.set("limitpriv", c.LimitPriv)
	}
	if c.FSAllowed != "" {
		s.set("fs-allowed", c.FSAllowed)
	}
	if c.CPUShares > 0 {
		s.set("scheduling-class", "FSS") // shares mean nothing to another class
		s.set("cpu-shares", strconv.FormatUint(c.CPUShares, 10))
	}
	if c.MaxLWPs > 0 {
		s.set("max-lwps", strconv.FormatUint(c.MaxLWPs, 10))
	}
	if c.MaxProcesses > 0 {
		s.set("max-processes", strconv.FormatUint(c.MaxProcesses, 10))
	}
}

// link writes a net resource per address: zonecfg keeps one address of 45
// characters in each and cuts off what is longer. The first carries what lxinit
// reads on distributions where it does not look at allowed-address.
func (s *script) link(l Link, primary bool) {
	for i, a := range l.Addresses {
		s.line("add net")
		s.set("physical", l.Physical)
		s.set("allowed-address", a.String())
		router := l.router(a.Addr())
		if router.IsValid() {
			s.set("defrouter", router.String())
		}
		if s.features.NetProperties && i == 0 {
			s.property("ips", l.ips())
			if router.IsValid() {
				s.property("gateway", router.String())
			}
			if primary {
				s.property("primary", "true")
			}
		}
		s.line("end")
	}
	if len(l.Addresses) == 0 {
		s.resource("net", "physical", l.Physical)
	}
}

func (l Link) router(of netip.Addr) netip.Addr {
	for _, r := range []netip.Addr{l.Router, l.Router6} {
		if r.IsValid() && r.Is4() == of.Is4() {
			return r
		}
	}
	return netip.Addr{}
}

func (l Link) ips() string {
	all := make([]string, len(l.Addresses))
	for i, a := range l.Addresses {
		all[i] = a.String()
	}
	return strings.Join(all, ",")
}

func (s *script) property(name, value string) {
	if s.features.QuotedComplex {
		value = `"` + value + `"`
	}
	s.line("add property (name=%s,value=%s)", name, value)
}

func (s *script) mount(m Mount) {
	s.line("add fs")
	s.set("dir", m.Target)
	s.set("special", m.Source)
	s.set("type", m.Type)
	if len(m.Options) > 0 {
		quoted := make([]string, len(m.Options))
		for i, o := range m.Options {
			quoted[i] = quote(o)
		}
		s.line("add options [%s]", strings.Join(quoted, ","))
	}
	s.line("end")
}

func (s *script) limits(c Config) {
	if c.CPUCap > 0 {
		ncpus := fmt.Sprintf("%d.%02d", c.CPUCap/100, c.CPUCap%100)
		if !s.features.RoundsCPU {
			ncpus += "1" // a thousandth more, which the cut takes off again
		}
		s.resource("capped-cpu", "ncpus", ncpus)
	}
	if m := c.Memory; m != (Memory{}) {
		var pairs []string
		for _, p := range []struct {
			name  string
			bytes uint64
		}{{"physical", m.Physical}, {"swap", m.Swap}, {"locked", m.Locked}} {
			if p.bytes > 0 {
				pairs = append(pairs, p.name, strconv.FormatUint(p.bytes, 10))
			}
		}
		s.resource("capped-memory", pairs...)
	}
}

// quote writes a value as one token of zonecfg's lexer. Validation has refused
// what cannot be one: there is no escape, so no quote and no newline.
func quote(v string) string {
	plain := v != ""
	for _, c := range []byte(v) {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/._:@%+-!", c) >= 0
		plain = plain && ok
	}
	if plain {
		return v
	}
	return `"` + v + `"`
}
