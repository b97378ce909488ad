package zones

import (
	"net/netip"
	"strings"
)

// fillIn makes a pattern of the PROPERTY=VALUE of a qualified command.
func (s *session) fillIn(kind string, pairs []pairValue) (map[string]string, code) {
	want := map[string]string{}
	for _, p := range pairs {
		if p.value.kind != simpleValue {
			s.fail("A simple value was expected here.")
			return nil, zInsufficientSpec
		}
		size, ok := fieldSizes[kind][p.property]
		if !ok || kind == "dedicated-cpu" {
			s.perror(p.property, zNoPropertyType, true)
			return nil, zInsufficientSpec
		}
		want[p.property] = truncate(p.value.simple, size)
	}
	return want, zOK
}

// lookup finds the one resource that a pattern describes.
func (c *zoneConfig) lookup(kind string, want map[string]string) (*resource, code) {
	if kind == "net" {
		if want["address"] != "" && want["allowed-address"] != "" {
			return nil, zInval
		}
		if want["address"]+want["physical"]+want["defrouter"]+want["allowed-address"] == "" {
			return nil, zInsufficientSpec
		}
	}
	var found *resource
	given := false
	for _, v := range want {
		given = given || v != ""
	}
	for _, r := range c.Resources[kind] {
		if !given || !c.matches(kind, r, want) {
			continue
		}
		if found != nil {
			return nil, zInsufficientSpec
		}
		found = r
	}
	if found == nil {
		return nil, zNoResourceID
	}
	return found, zOK
}

func (c *zoneConfig) matches(kind string, r *resource, want map[string]string) bool {
	for property, v := range want {
		if v == "" {
			continue
		}
		have := r.Values[property]
		switch {
		case kind == "net" && property == "address":
			if c.ipType() == "shared" && !sameAddress(v, have) {
				return false
			}
		case kind == "net" && property == "allowed-address":
			if c.ipType() == "exclusive" && !sameAddress(v, have) {
				return false
			}
		case kind == "net" && property == "defrouter":
			if !sameAddress(v, have) {
				return false
			}
		case have != v:
			return false
		}
	}
	return true
}

// sameAddress is zonecfg_same_net_address.
func sameAddress(a, b string) bool {
	if a == b {
		return true
	}
	pa, ok1 := netAddress(a)
	pb, ok2 := netAddress(b)
	return ok1 && ok2 && pa == pb
}

// netAddress parses an address as zonecfg_valid_net_address does: an IPv4
// address without a length gets that of its class.
func netAddress(v string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(v); err == nil {
		return p, true
	}
	a, err := netip.ParseAddr(v)
	if err != nil || !a.Is4() {
		return netip.Prefix{}, false
	}
	bits := 24
	switch b := a.As4()[0]; {
	case b < 128:
		bits = 8
	case b < 192:
		bits = 16
	}
	return netip.PrefixFrom(a, bits), true
}

func (s *session) cmdError(cmd, kind string, err code) {
	s.fail("%s %s: %s", cmd, kind, err.Error())
}

// remove implements the remove command.
func (s *session) remove(c command) {
	if s.readOnly("remove") {
		return
	}
	if s.scope != "" {
		if c.property == "" {
			s.longUsage("remove")
			return
		}
		if s.initialize(true) {
			s.removeProperty(c)
		}
		return
	}
	if c.resource == "" {
		s.longUsage("remove")
		return
	}
	if _, ok := s.flags(c, "F"); !ok || !s.initialize(true) {
		return
	}
	force := hasFlag(c.args, "F")
	switch c.resource {
	case "capped-cpu":
		s.removeAliases("capped-cpu", "cpu-cap")
	case "capped-memory":
		if s.m.distro.gate() && s.cfg.Memory != 0 {
			s.cfg.Memory, s.needCommit = 0, true
			s.dropAliases("swap", "locked")
			return
		}
		s.removeAliases("capped-memory", "physical", "swap", "locked")
	case "dedicated-cpu", "security-flags":
		s.removeSingle(c.resource)
	default:
		s.removeResources(c, force)
	}
}

func (s *session) removeSingle(kind string) {
	if len(s.cfg.Resources[kind]) == 0 {
		if kind == "security-flags" {
			s.zerr("remove %s: %s", kind, zNoResourceType.Error()) // no error flag
		} else {
			s.cmdError("remove", kind, zNoResourceID)
		}
		return
	}
	s.cfg.Resources[kind] = nil
	s.needCommit = true
}

// removeAliases removes the resource controls behind a resource that exists
// only as such.
func (s *session) removeAliases(kind string, names ...string) {
	if !s.dropAliases(names...) {
		s.fail("remove %s: %s", kind, zNoResourceType.Error())
	}
}

func (s *session) dropAliases(names ...string) (any bool) {
	for _, name := range names {
		a, ok := s.m.distro.alias(name)
		if !ok {
			continue
		}
		if _, err := s.cfg.limit(a); err == zOK {
			s.cfg.dropLimit(a)
			s.needCommit, any = true, true
		}
	}
	return any
}

func (s *session) removeResources(c command, force bool) {
	if len(c.pairs) > 0 {
		want, err := s.fillIn(c.resource, c.pairs)
		var r *resource
		if err == zOK {
			r, err = s.cfg.lookup(c.resource, want)
		}
		if err != zOK {
			if !force {
				s.cmdError("remove", c.resource, err)
			}
			return
		}
		s.cfg.remove(c.resource, r)
		s.needCommit = true
		return
	}
	switch n := len(s.cfg.Resources[c.resource]); {
	case n == 0:
		s.cmdError("remove", c.resource, zNoEntry)
		return
	case n > 1 && !force:
		if !s.interactive {
			s.fail("There are multiple instances of this resource.  Either qualify the resource to\n" +
				"remove a single instance or use the -F option to remove all instances.")
			return
		}
		switch s.ask("Are you sure you want to remove ALL '" + c.resource + "' resources") {
		case answerNone:
			s.zerr("Resource incomplete.")
			return
		case answerNo:
			return
		default:
		}
	}
	s.cfg.Resources[c.resource] = nil
	s.needCommit = true
}

// sel implements the select command.
func (s *session) sel(c command) {
	if s.readOnly("select") {
		return
	}
	if s.scope != "" {
		s.wrongScope("select")
		return
	}
	s.scope, s.endOp, s.work = c.resource, "select", newResource()
	if !s.initialize(true) {
		return // and stays in the resource scope, as zonecfg does
	}
	leave := func(err code) {
		s.cmdError("select", c.resource, err)
		s.scope, s.work = "", nil
	}
	switch c.resource {
	case "capped-cpu":
		a, _ := s.m.distro.alias("cpu-cap")
		if _, err := s.cfg.limit(a); err != zOK {
			leave(err)
		}
		return
	case "capped-memory":
		any := s.cfg.Memory != 0
		for _, name := range []string{"physical", "swap", "locked"} {
			if a, ok := s.m.distro.alias(name); ok {
				_, err := s.cfg.limit(a)
				any = any || err == zOK
			}
		}
		s.memory = s.cfg.Memory
		if !any {
			leave(zNoResourceType)
		}
		return
	case "dedicated-cpu":
		if len(s.cfg.Resources[c.resource]) == 0 {
			leave(zNoEntry)
			return
		}
		s.old = s.cfg.Resources[c.resource][0]
	default:
		want, err := s.fillIn(c.resource, c.pairs)
		if err == zOK {
			s.old, err = s.cfg.lookup(c.resource, want)
		}
		if err != zOK {
			leave(err)
			return
		}
	}
	s.work = s.old.clone()
}

// clear implements the clear command.
func (s *session) clear(c command) {
	if s.readOnly("clear") || !s.initialize(true) {
		return
	}
	if s.scope != "" {
		s.clearField(c.property)
		return
	}
	switch c.property {
	case "zonename", "zonepath", "brand":
		s.perror(c.property, zClearDisallow, true)
	case "autoboot":
		s.setRoot("autoboot", "false")
	case "ip-type":
		s.setRoot("ip-type", "shared")
	case "pool", "limitpriv", "bootargs", "scheduling-class", "hostid", "fs-allowed":
		delete(s.cfg.Root, c.property)
		s.needCommit = true
	default:
		if _, ok := s.m.distro.alias(c.property); ok && isGlobalProperty(s.m.distro, c.property) {
			s.clearAlias(c.property, c.property)
			return
		}
		s.noProperty(c.property, "clear")
	}
}

func (s *session) clearAlias(name, shown string) {
	a, ok := s.m.distro.alias(name)
	if !ok {
		s.perror(shown, zClearDisallow, true)
		return
	}
	if _, err := s.cfg.limit(a); err != zOK {
		s.fail("clear %s: %s", shown, err.Error())
		return
	}
	s.cfg.dropLimit(a)
	s.needCommit = true
}

// clearField clears a property of the resource being edited.
func (s *session) clearField(property string) {
	clearable := map[string]string{"fs": "raw", "dedicated-cpu": "importance",
		"net": "allowed-address defrouter", "security-flags": "lower default upper"}
	if !s.m.distro.gate() {
		clearable["net"] += " global-nic mac-addr vlan-id"
	}
	if s.scope == "capped-memory" {
		switch {
		case property == "physical" && s.m.distro.gate():
			s.memory, s.needCommit = 0, true
			return
		case property == "physical" || property == "swap" || property == "locked":
			s.clearAlias(property, property)
			return
		}
	}
	for _, p := range strings.Fields(clearable[s.scope]) {
		if p == property {
			delete(s.work.Values, property)
			s.needCommit = true
			return
		}
	}
	s.perror(property, zClearDisallow, true)
}
