package zones

import (
	"math"
	"strconv"
	"strings"
)

// set implements the set command.
func (s *session) set(c command) {
	if s.readOnly("set") {
		return
	}
	o := &options{args: c.args, spec: "F"} // opterr is 0
	force := false
	for letter := o.next(); letter != 0; letter = o.next() {
		if letter == 'F' {
			force = true
			continue
		}
		if o.bad == '?' {
			s.longerUsage("set")
		} else {
			s.shortUsage("set")
		}
		return
	}
	if s.scope == "" && !isGlobalProperty(s.m.distro, c.property) {
		s.fail("Cannot set a resource-specific property from the global scope.")
		return
	}
	if force {
		if s.scope != "" {
			s.fail("Only zonepath setting can be forced.")
		} else {
			s.fail("Zonepath is changeable only in an alternate root.")
		}
		return
	}
	if !s.shapedValue(c) && c.value.kind != simpleValue {
		s.fail("A simple value was expected here.")
		return
	}
	if s.scope != "" {
		if s.initialize(true) {
			s.setResource(c)
		}
		return
	}
	s.setGlobal(c.property, c.value.simple)
}

// shapedValue reports whether the property takes complex or list values.
func (s *session) shapedValue(c command) bool {
	switch s.scope {
	case "fs":
		return c.property == "options"
	case "rctl":
		return c.property == "value"
	case "net":
		return c.property == "property"
	}
	return false
}

func (s *session) setGlobal(property, v string) {
	if _, known := s.m.stateOf(s.zone); property == "zonename" && !s.gotHandle && !known {
		if !validZoneName(v) {
			s.perror(v, zBogusZoneName, true)
			s.usage(s.inv.Stderr, helpSyntax)
			return
		}
		s.zone = v
		return
	}
	if !s.initialize(true) {
		return
	}
	switch property {
	case "zonename":
		s.rename(v)
	case "zonepath":
		s.setPath(v)
	case "brand":
		if s.stateAtLeast(stateInstalled) {
			s.zerr("Zone %s already installed; set brand not allowed.", s.zone)
			return
		}
		s.setRoot("brand", v)
	case "autoboot":
		if v != "true" && v != "false" {
			s.fail("autoboot value must be 'true' or 'false'.")
			return
		}
		s.setRoot("autoboot", v)
	case "pool":
		s.setPool(v)
	case "ip-type":
		s.setIPType(v)
	case "hostid":
		switch err := checkHostID(v); err {
		case zOK:
			s.setRoot("hostid", v)
		case zTooBig:
			s.fail("hostid string is too large: %s", v)
		default:
			s.perror("hostid", err, true)
		}
	case "fs-allowed":
		if err := checkFSAllowed(v); err != zOK {
			s.perror(s.zone, err, true)
			return
		}
		s.setRoot("fs-allowed", v)
	case "limitpriv", "bootargs", "scheduling-class", "uuid":
		s.setRoot(property, v)
	default:
		s.setAlias(property, v)
	}
}

func (s *session) setRoot(property, v string) {
	s.cfg.Root[property] = v
	s.needCommit = true
}

// rename is zonecfg_set_name.
func (s *session) rename(v string) {
	bad := func(err code) {
		s.perror(v, err, true)
		s.usage(s.inv.Stderr, helpSyntax)
	}
	if v == s.cfg.Name {
		s.needCommit, s.zone = true, v
		return
	}
	if strings.HasPrefix(v, "SUNW") || !validZoneName(v) {
		bad(zBogusZoneName)
		return
	}
	if v == s.deleteName {
		s.deleteName = ""
	} else {
		if _, ok := s.m.stateOf(v); ok {
			bad(zNameInUse)
			return
		}
		saved := s.deleteName
		if saved == "" && !s.fresh {
			saved = s.cfg.Name
		}
		if st, ok := s.m.stateOf(saved); ok && st > stateInstalled {
			bad(zBadZoneState)
			return
		}
		s.deleteName = saved
	}
	s.cfg.Name = v
	s.needCommit, s.zone = true, v
}

func (s *session) setPath(v string) {
	if s.stateAtLeast(stateInstalled) {
		s.zerr("Zone %s already installed; set zonepath not allowed.", s.zone)
		return
	}
	if !strings.HasPrefix(v, "/") {
		s.fail("%s is not an absolute path.", v)
		return
	}
	if strings.Trim(v, "/") == "" {
		s.fail("/ is not allowed as a zonepath.")
		return
	}
	var b strings.Builder
	for i := range len(v) {
		if v[i] != '/' || i == 0 || v[i-1] != '/' {
			b.WriteByte(v[i])
		}
	}
	s.setRoot("zonepath", strings.TrimSuffix(b.String(), "/"))
}

func (s *session) setPool(v string) {
	if strings.HasPrefix(v, "SUNW") {
		s.fail("pool names starting with SUNW are reserved.")
		return
	}
	if len(s.cfg.Resources["dedicated-cpu"]) > 0 {
		s.fail("The dedicated-cpu resource already exists.  A persistent pool is incompatible\n" +
			"with the dedicated-cpu resource.")
		return
	}
	s.setRoot("pool", v)
}

func (s *session) setIPType(v string) {
	if v != "shared" && v != "exclusive" {
		s.fail("ip-type value must be 'shared' or 'exclusive'.")
		return
	}
	if v == "exclusive" {
		name := s.cfg.Root["brand"]
		b, err := s.m.brand(name, s.inv.Files)
		if err != nil {
			s.fail("%s: unknown brand.\n", s.zone)
			return
		}
		if !b.ExclusiveIP {
			s.fail("ip-type cannot be 'exclusive' when brand is '%s'.", name)
			return
		}
	}
	s.setRoot("ip-type", v)
}

// checkHostID is zonecfg_valid_hostid.
func checkHostID(v string) code {
	if v == "" || strings.ContainsAny(v, " \t\n\v\f\r") {
		return zInvalidProperty
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(v, "0x"), "0X")
	n := 0
	for n < len(digits) && strings.IndexByte("0123456789abcdefABCDEF", digits[n]) >= 0 {
		n++
	}
	prefix := len(v) - len(digits)
	if prefix+n >= rootSizes["hostid"] {
		return zTooBig
	}
	id, err := strconv.ParseUint(digits[:n], 16, 64)
	if err != nil || id > math.MaxUint32 || id == math.MaxUint32 || n != len(digits) {
		return zInvalidProperty
	}
	return zOK
}

// checkFSAllowed is zonecfg_valid_fs_allowed.
func checkFSAllowed(v string) code {
	if len(v) > rootSizes["fs-allowed"] {
		return zTooBig
	}
	if v == "" {
		return zOK
	}
	for part := range strings.SplitSeq(v, ",") {
		if part == "" {
			return zInvalidProperty
		}
		for i := range len(part) {
			if !isAlnum(part[i]) && part[i] != '-' {
				return zInvalidProperty
			}
		}
	}
	return zOK
}

// setAlias sets a resource control by its short name.
func (s *session) setAlias(property, v string) {
	a, ok := s.m.distro.alias(property)
	if !ok {
		s.noResource(property, "set")
		return
	}
	if property == "max-shm-memory" {
		bytes, ok := parseBytes(v)
		if !ok {
			s.fail("A non-negative number with a required scale suffix (K, M, G or T) was expected\nhere.")
			return
		}
		v = strconv.FormatUint(bytes, 10)
	}
	if !s.cfg.aliasOK(a) {
		s.perror(property, zAliasDisallow, true)
		return
	}
	limit, ok := parseUint(v)
	if !ok || limit < a.low {
		s.fail("%s property is out of range.", property)
		return
	}
	s.limit(a, limit)
}

// limit sets a resource control by its alias.
func (s *session) limit(a alias, v uint64) {
	if err := s.cfg.setLimit(a, v); err != zOK {
		s.perror(s.zone, err, true)
		return
	}
	s.needCommit = true
}

// parseUint is libzonecfg's valid_uint: no sign, all of it digits.
func parseUint(v string) (uint64, bool) {
	v = strings.TrimLeft(v, " \t\n\v\f\r")
	v = strings.TrimPrefix(v, "+")
	if v == "" {
		return 0, true // strtoull converts nothing to 0
	}
	n, err := strconv.ParseUint(v, 10, 64)
	return n, err == nil
}

// parseBytes is zonecfg_str_to_bytes: a number, which may have a fraction, and
// one of K M G T or nothing.
func parseBytes(v string) (uint64, bool) {
	v = strings.TrimLeft(v, " \t\n\v\f\r")
	n := 0
	for n < len(v) && (v[n] >= '0' && v[n] <= '9' || v[n] == '.' || n == 0 && (v[n] == '+' || v[n] == '-')) {
		n++
	}
	number := 0.0
	if n > 0 {
		var err error
		if number, err = strconv.ParseFloat(v[:n], 64); err != nil {
			return 0, false
		}
	}
	if number < 0 {
		return 0, false
	}
	scale := 1.0
	switch strings.ToUpper(strings.TrimLeft(v[n:], " \t\n\v\f\r")) {
	case "":
	case "K":
		scale = 1 << 10
	case "M":
		scale = 1 << 20
	case "G":
		scale = 1 << 30
	case "T":
		scale = 1 << 40
	default:
		return 0, false
	}
	if number*scale >= math.MaxUint64 {
		return math.MaxUint64, true
	}
	if whole, err := strconv.ParseUint(v[:n], 10, 64); err == nil {
		return whole * uint64(scale), true // exact, as with a long double
	}
	return uint64(number * scale), true
}

// formatBytes is zonecfg's bytes_to_units.
func formatBytes(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10)
	}
	const units = "BKMGT"
	up, save := 0, uint64(0)
	for n >= 1024 && units[up] != 'T' {
		up++
		save = n
		n = (n + 512) >> 10
	}
	if save%1024 != 0 && save>>10 < 10 {
		return strconv.FormatFloat(float64(float32(save)/1024), 'f', 1, 64) + units[up:up+1]
	}
	return strconv.FormatUint(n, 10) + units[up:up+1]
}
