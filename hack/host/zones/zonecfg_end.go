package zones

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// end implements the end command: it checks the resource and puts it into the
// configuration. A resource with a fault stays open.
func (s *session) end(c command) {
	o, ok := s.flags(c, "")
	if !ok || s.extra(c, o) {
		return
	}
	if s.scope == "" {
		s.wrongScope("end")
		return
	}
	if s.cfg == nil && !s.initialize(true) {
		return
	}
	var done bool
	switch s.scope {
	case "capped-cpu":
		a, _ := s.m.distro.alias("cpu-cap")
		if _, err := s.cfg.limit(a); err != zOK {
			s.fail("ncpus not specified")
			return
		}
		done = true
	case "capped-memory":
		done = s.endMemory()
	default:
		done = s.endResource()
	}
	if done {
		s.needCommit = true
		s.scope, s.endOp, s.work, s.old, s.memory = "", "", nil, nil, 0
	}
}

// required are the properties that end asks for, in its order.
var required = map[string][]string{
	"fs": {"dir", "special", "type"}, "net": {"physical"}, "device": {"match"}, "rctl": {"name"},
	"attr": {"name", "type", "value"}, "dataset": {"name"}, "admin": {"user", "auths"},
}

// identity are the properties in which two resources must differ.
var identity = map[string][]string{
	"fs": {"dir"}, "net": {"physical", "address", "allowed-address", "defrouter"}, "device": {"match"},
	"rctl": {"name"}, "attr": {"name"}, "dataset": {"name"}, "admin": {"user"},
}

func (s *session) endResource() bool {
	bad := false
	for _, p := range required[s.scope] {
		v := s.work.Values[p]
		if v == "" {
			s.zerr("%s not specified", p)
			bad = true
		}
		if s.scope == "fs" && p == "dir" && v != "" && v[0] != '/' {
			s.zerr("dir %s is not an absolute path.", v)
			bad = true
		}
		if raw := s.work.Values["raw"]; s.scope == "fs" && p == "special" && raw != "" && raw[0] != '/' {
			s.zerr("raw %s is not an absolute path.", raw)
			bad = true
		}
	}
	switch s.scope {
	case "rctl":
		if len(s.work.Limits) == 0 {
			s.zerr("no value specified")
			bad = true
		}
	case "attr":
		bad = !s.validAttr() || bad
	case "dedicated-cpu":
		if s.work.Values["ncpus-min"] == "" {
			s.zerr("ncpus not specified")
			bad = true
		}
	case "admin":
		if u := s.work.Values["user"]; u != "" && !s.userExists(u) {
			s.zerr("user %s is not a valid username", u)
			bad = true
		}
	case "security-flags":
		bad = !s.validSecFlags(s.work) || bad
	}
	if bad {
		s.sawError = true
		return false
	}
	if mac, ok := s.work.Values["mac-addr"]; ok && mac != "" {
		s.work.Values["mac-addr"] = normalMAC(mac)
	}
	if s.endOp == "select" && s.old != nil {
		s.cfg.replace(s.scope, s.old, s.work)
		return true
	}
	if s.exists() {
		return false
	}
	s.cfg.Resources[s.scope] = append(s.cfg.Resources[s.scope], s.work)
	return true
}

// normalMAC gives each part of a MAC address two lower-case digits, as
// libzonecfg does; what is no MAC address stays.
func normalMAC(v string) string {
	parts := strings.Split(v, ":")
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 16, 8)
		if err != nil || len(parts) != 6 {
			return v
		}
		parts[i] = fmt.Sprintf("%02x", n)
	}
	return strings.Join(parts, ":")
}

// exists refuses a resource that is there already.
func (s *session) exists() bool {
	keys := identity[s.scope]
	if len(keys) == 0 {
		return false
	}
	want := map[string]string{}
	for _, k := range keys {
		want[k] = s.work.Values[k]
	}
	if _, err := s.cfg.lookup(s.scope, want); err != zOK {
		return false
	}
	article := "A"
	if s.scope == "attr" {
		article = "An"
	}
	if s.scope != "net" {
		s.fail("%s %s resource with the %s '%s' already exists.", article, s.scope, keys[0], s.work.Values[keys[0]])
		return true
	}
	which := "allowed-address"
	if s.work.Values["address"] != "" {
		which = "address"
	}
	s.fail("A net resource with the physical '%s', and %s '%s' already exists.",
		s.work.Values["physical"], which, s.work.Values[which])
	return true
}

// validAttr checks name, type and value of an attr. A string of more than 255
// bytes does not fit where zonecfg checks it.
func (s *session) validAttr() bool {
	ok := true
	name, kind, v := s.work.Values["name"], s.work.Values["type"], s.work.Values["value"]
	if name == "" || !isAlnum(name[0]) {
		s.zerr("Invalid attr name %s: must start with an alpha-numeric character.", name)
		ok = false
	} else if strings.ContainsFunc(name, func(r rune) bool {
		return r > 127 || !isAlnum(byte(r)) && r != '-' && r != '.'
	}) {
		s.zerr("Invalid attr name %s: can only contain alpha-numeric characters, plus '-' and '.'.", name)
		ok = false
	}
	var valid bool
	switch kind {
	case "boolean":
		valid = v == "true" || v == "false"
	case "int":
		_, err := strconv.ParseInt(strings.TrimLeft(v, " \t"), 10, 64)
		valid = err == nil || v == ""
	case "uint":
		_, valid = parseUint(strings.TrimLeft(v, " \t"))
	case "string":
		valid = len(v) < attrValueSize
	default:
		s.zerr("invalid attr type '%s'", kind)
		return false
	}
	if !valid {
		s.zerr("invalid attr value for type=%s", kind)
	}
	return ok && valid
}

func (s *session) endMemory() bool {
	limit := func(name string) (uint64, bool) {
		a, ok := s.m.distro.alias(name)
		if !ok {
			return 0, false
		}
		v, err := s.cfg.limit(a)
		return v, err == zOK
	}
	physical, hasPhysical := limit("physical")
	if s.m.distro.gate() {
		physical, hasPhysical = s.memory, s.memory != 0
	}
	_, hasSwap := limit("swap")
	locked, hasLocked := limit("locked")
	if !hasPhysical && !hasSwap && !hasLocked {
		s.fail("No property was specified.  One of physical, swap or locked is required.")
		return false
	}
	if hasPhysical && hasLocked && physical < locked {
		s.fail("The locked cap must be less than or equal to the physical cap.")
		return false
	}
	if s.m.distro.gate() {
		s.cfg.Memory = s.memory
	}
	return true
}

var secFlags = []string{"aslr", "forbidnullmap", "noexecstack"}

// parseSecFlags reads a list of security flags. ok is false for a flag that
// does not exist, assigned for a list of changes.
func parseSecFlags(v string) (set []string, assigned, ok bool) {
	assigned = true
	for f := range strings.SplitSeq(v, ",") {
		name := strings.ToLower(strings.TrimSpace(f))
		if rest, found := strings.CutPrefix(name, "+"); found {
			name, assigned = rest, false
		}
		negated := false
		if rest, found := strings.CutPrefix(name, "-"); found {
			name, negated, assigned = rest, true, false
		} else if rest, found := strings.CutPrefix(name, "!"); found {
			name, negated = rest, true
		}
		switch {
		case name == "none":
			set = nil
		case name == "all":
			set = slices.Clone(secFlags)
		case name == "current" || name == "default":
		case slices.Contains(secFlags, name) && negated:
			set = slices.DeleteFunc(set, func(s string) bool { return s == name })
		case slices.Contains(secFlags, name):
			set = append(set, name)
		default:
			return nil, assigned, false
		}
	}
	return set, assigned, true
}

// validSecFlags is verify_secflags.
func (s *session) validSecFlags(r *resource) bool {
	ok := true
	sets := map[string][]string{"upper": slices.Clone(secFlags)}
	for _, which := range []string{"default", "upper", "lower"} {
		v := r.Values[which]
		if v == "" {
			continue
		}
		set, assigned, valid := parseSecFlags(v)
		if !valid {
			s.zerr("%s security flags '%s' are invalid", which, v)
			ok = false
		}
		if !assigned {
			s.zerr("only assignment of security flags is allowed (%s: %s)", which, v)
		}
		sets[which] = set
	}
	within := func(a, b string) bool {
		return !slices.ContainsFunc(sets[a], func(f string) bool { return !slices.Contains(sets[b], f) })
	}
	if !within("default", "upper") {
		s.zerr("default secflags must be within the upper limit")
		ok = false
	}
	if !within("lower", "default") {
		s.zerr("default secflags must be above the lower limit")
		ok = false
	}
	if !within("lower", "upper") {
		s.zerr("lower secflags must be within the upper limit")
		ok = false
	}
	return ok
}

// userExists looks a user up in /etc/passwd of the host; root always exists.
func (s *session) userExists(name string) bool {
	if name == "root" {
		return true
	}
	if s.inv.Files == nil {
		return false
	}
	data, err := readAll(s.inv.Files, "/etc/passwd")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, name+":") {
			return true
		}
	}
	return false
}
