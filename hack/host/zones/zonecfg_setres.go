package zones

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// setResource sets a property of the resource being edited.
func (s *session) setResource(c command) {
	v := c.value.simple
	switch s.scope {
	case "capped-cpu":
		s.setCPUCap(c.property, v)
		return
	case "capped-memory":
		s.setMemoryCap(c.property, v)
		return
	case "dedicated-cpu":
		s.setDedicated(c.property, v)
		return
	}
	if s.shapedValue(c) || s.scope == "device" && c.property == "property" && !s.m.distro.gate() {
		s.setShaped(c)
		return
	}
	size, ok := fieldSizes[s.scope][c.property]
	if !ok {
		s.noProperty(c.property, "set")
		return
	}
	if !s.validField(c.property, v) {
		return
	}
	s.work.Values[c.property] = truncate(v, size)
}

// setShaped replaces options, value or property.
func (s *session) setShaped(c command) {
	want := map[string]string{"fs": "A simple or list value was expected here.",
		"rctl": "A complex or list value was expected here.",
		"net":  "A complex value was expected here.", "device": "A complex value was expected here."}[s.scope]
	if !shapeOK(s.scope, c.value.kind) {
		s.fail("%s", want)
		return
	}
	switch s.scope {
	case "fs":
		s.work.Options = nil
	case "rctl":
		s.work.Limits = nil
	default:
		s.work.Pairs = nil
	}
	if !c.noValue {
		s.addProperty(c)
	}
}

func shapeOK(scope string, k valueKind) bool {
	switch scope {
	case "fs":
		return k != complexValue
	case "rctl":
		return k != simpleValue
	}
	return k == complexValue
}

// validField checks a value when it is set. Most checks come later, at end.
func (s *session) validField(property, v string) bool {
	switch {
	case s.scope == "fs" && property == "type":
		if v == "" || v == "." || v == ".." || len(v) >= 256 || strings.Contains(v, "/") {
			s.fail("\"%s\" is not a valid type.", v)
			return false
		}
	case s.scope == "net" && (property == "address" || property == "allowed-address"):
		return s.validAddress(v, false)
	case s.scope == "net" && property == "defrouter":
		return s.validAddress(v, true)
	case s.scope == "net" && property == "physical":
		if !s.validPhysical(v) {
			s.sawError = true
			return false
		}
	case s.scope == "rctl" && property == "name":
		if !rctlName.MatchString(v) {
			s.zerr("'%s' is not a valid zone rctl name.", v) // no error flag
			return false
		}
	}
	return true
}

var rctlName = regexp.MustCompile(`^zone\.[A-Za-z-]+$`)

// validAddress is validate_net_address_syntax. Only the part before the first
// slash is looked at closely: a list of addresses passes.
func (s *session) validAddress(v string, host bool) bool {
	addr, length, hasLength := strings.Cut(v, "/")
	if host && hasLength {
		s.zerr("Warning: prefix length in %s is not required and will be ignored. "+
			"The default host-prefix length will be used", v)
	}
	bits := atoi(length)
	a, err := netip.ParseAddr(addr)
	isAddr := err == nil && a.Zone() == ""
	switch {
	case isAddr && a.Is6():
		if !host && !hasLength {
			s.fail("%s: IPv6 addresses require /prefix-length suffix.", v)
			return false
		}
		if !host && (bits < 0 || bits > 128) {
			s.fail("%s: IPv6 address prefix lengths must be 0 - 128.", v)
			return false
		}
		return true
	case !host && hasLength && (bits < 0 || bits > 32):
		s.fail("%s: IPv4 address prefix lengths must be 0 - 32.", v)
		return false
	case isAddr:
		return true
	}
	addr = truncate(addr, 256)
	ok := addr != "" && isAlnum(addr[0])
	for i := 1; ok && i < len(addr); i++ {
		ok = isAlnum(addr[i]) || addr[i] == '-' || addr[i] == '.'
	}
	if !ok {
		s.fail("%s: bogus host name or network address syntax", addr)
		s.usage(s.inv.Stderr, helpNetAddr)
	}
	return ok
}

// atoi is atoi(3C): the number at the start, 0 without one.
func atoi(v string) int {
	v = strings.TrimLeft(v, " \t\n\v\f\r")
	end := 0
	for end < len(v) && (v[end] >= '0' && v[end] <= '9' || end == 0 && (v[end] == '-' || v[end] == '+')) {
		end++
	}
	n, err := strconv.ParseInt(v[:end], 10, 32)
	if err != nil && end > 1 {
		return -1 // overflow: undefined, and never a valid length
	}
	return int(n)
}

// linkName is dladm_valid_linkname: letters, digits, _ and . with a number
// that has no leading zero at the end.
var linkName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]*?(0|[1-9][0-9]*)$`)

// ifName is what ifparse_ifspec takes: driver, number, no logical unit.
var ifName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]*[0-9]+(:[0-9]+)?$`)

func validLinkName(v string) bool { return len(v) >= 3 && len(v) < 32 && linkName.MatchString(v) }

// validPhysical is validate_net_physical_syntax: what is valid depends on the
// ip-type set so far.
func (s *session) validPhysical(v string) bool {
	if s.cfg.ipType() == "shared" {
		switch {
		case !ifName.MatchString(v):
			s.zerr("%s: invalid physical interface name", v)
			return false
		case strings.Contains(v, ":"):
			s.zerr("%s: LUNs not allowed in physical interface names", v)
			return false
		}
		return true
	}
	switch {
	case validLinkName(v):
		return true
	case strings.Contains(v, ":"):
		s.zerr("%s: physical interface name required; logical interface name not allowed", v)
	default:
		s.zerr("%s: invalid physical interface name", v)
	}
	return false
}

func (s *session) setCPUCap(property, v string) {
	if property != "ncpus" {
		s.noProperty(property, "set")
		return
	}
	n, err := strconv.ParseFloat(strings.TrimLeft(v, " \t\n\v\f\r"), 64)
	if err != nil || !(n > 0) || n > 1e9 || n*100 < 1 {
		s.fail("ncpus property is out of range.")
		return
	}
	// Joyent rounds; the gate cuts a float off, so that .29 can become 28.
	cpus := uint64(n*100 + 0.5)
	if s.m.distro.gate() {
		cpus = uint64(float64(float32(n)) * 100)
		if cpus < 1 {
			s.fail("ncpus property is out of range.")
			return
		}
	}
	a, _ := s.m.distro.alias("cpu-cap")
	s.limit(a, cpus)
}

// Limits of capped-memory.
const (
	minSwap     = 50 << 20
	minPhysical = 1 << 20 // OpenIndiana only
)

func (s *session) setMemoryCap(property, v string) {
	if property == "physical" && s.m.distro.gate() {
		n, ok := parseBytes(v)
		switch {
		case !ok:
			s.fail("A positive number with a required scale suffix (K, M, G or T) was expected here.")
		case n < minPhysical:
			s.fail("physical value is too small.  It must be at least 1M.")
		default:
			s.memory = n
		}
		return
	}
	switch property {
	case "physical", "swap", "locked":
	default:
		s.noProperty(property, "set")
		return
	}
	a, _ := s.m.distro.alias(property)
	if !s.cfg.aliasOK(a) {
		name := property
		if property == "physical" {
			name = "locked" // as zonecfg has it
		}
		s.perror(name, zAliasDisallow, true)
		return
	}
	n, ok := parseBytes(v)
	switch {
	case !ok && property == "swap":
		s.fail("A positive number with a required scale suffix (K, M, G or T) was expected here.")
	case !ok:
		s.fail("A non-negative number with a required scale suffix (K, M, G or T) was expected\nhere.")
	case property == "swap" && n < minSwap:
		s.fail("swap value is too small.  It must be at least %s.", formatBytes(minSwap))
	default:
		s.limit(a, n)
	}
}

func (s *session) setDedicated(property, v string) {
	switch property {
	case "ncpus":
		low, high, ok := strings.Cut(v, "-")
		if !ok {
			high = low
		}
		l, ok1 := parseUint(low)
		h, ok2 := parseUint(high)
		if !ok1 || !ok2 || strings.Contains(high, "-") || l < 1 || l > h {
			s.fail("ncpus property is out of range.")
			return
		}
		s.work.Values["ncpus-min"] = truncate(low, 256)
		s.work.Values["ncpus-max"] = truncate(high, 256)
	case "importance":
		if _, ok := parseUint(v); !ok || strings.Contains(v, "-") {
			s.fail("importance property is out of range.")
			return
		}
		s.work.Values["importance"] = truncate(v, 256)
	default:
		s.noProperty(property, "set")
	}
}
