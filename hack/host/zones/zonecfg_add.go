package zones

import (
	"strconv"
	"strings"
)

// add implements the add command.
func (s *session) add(c command) {
	o, ok := s.flags(c, "")
	if !ok || s.extra(c, o) || s.readOnly("add") || !s.initialize(true) {
		return
	}
	if s.scope != "" {
		if c.property == "" {
			s.longUsage("add")
			return
		}
		s.addProperty(c)
		return
	}
	if c.resource == "" {
		s.longUsage("add")
		return
	}
	s.scope, s.endOp, s.work, s.old, s.memory = c.resource, "add", newResource(), nil, 0
	if !s.mayAdd(c.resource) {
		s.scope, s.endOp, s.work = "", "", nil
	}
}

// mayAdd refuses a second resource of a kind that comes once. It sets no error
// flag, as add_resource.
func (s *session) mayAdd(kind string) bool {
	has := func(name string) bool {
		a, ok := s.m.distro.alias(name)
		if !ok {
			return false
		}
		_, err := s.cfg.limit(a)
		return err == zOK
	}
	cpuCap, _ := s.m.distro.alias("cpu-cap")
	_, capErr := s.cfg.limit(cpuCap)
	switch kind {
	case "dedicated-cpu":
		switch {
		case len(s.cfg.Resources[kind]) > 0:
			s.zerr("The dedicated-cpu resource already exists.")
			return false
		case capErr != zNoEntry:
			s.zerr("The capped-cpu resource already exists.")
			return false
		case s.cfg.Root["pool"] != "":
			s.zerr("The pool property is already set.  A persistent pool is incompatible with\n" +
				"the dedicated-cpu resource.")
			return false
		}
	case "capped-cpu":
		switch {
		case len(s.cfg.Resources["dedicated-cpu"]) > 0:
			s.zerr("The dedicated-cpu resource already exists.")
			return false
		case capErr == zAliasDisallow:
			s.perror("capped-cpu", zAliasDisallow, false)
			return false
		case capErr == zOK:
			s.zerr("The capped-cpu resource already exists.")
			return false
		}
	case "capped-memory":
		if has("swap") || has("locked") || has("physical") || s.cfg.Memory != 0 {
			s.zerr("The capped-memory resource or a related resource control already exists.")
			return false
		}
	case "security-flags":
		if len(s.cfg.Resources[kind]) > 0 {
			s.zerr("The security-flags resource already exists.")
		}
	}
	return true
}

// addProperty implements add within a resource.
func (s *session) addProperty(c command) {
	takes := map[string]string{"fs": "options", "rctl": "value"}
	if !s.m.distro.gate() {
		takes["net"], takes["device"] = "property", "property"
	}
	want, ok := takes[s.scope]
	if !ok {
		s.noResource(s.scope, "add")
		return
	}
	if c.property != want {
		s.noProperty(c.property, "add")
		return
	}
	if !shapeOK(s.scope, c.value.kind) {
		switch s.scope {
		case "fs":
			s.fail("A simple or list value was expected here.")
		case "rctl":
			s.fail("A complex or list value was expected here.")
		default:
			s.fail("A complex value was expected here.")
		}
		return
	}
	values := []value{c.value}
	if c.value.kind == listValue {
		values = c.value.list
	}
	for _, v := range values {
		switch {
		case s.scope == "fs" && v.kind == simpleValue:
			s.work.Options = append(s.work.Options, truncate(v.simple, optionSize))
		case s.scope == "fs":
			return // a list of options ends at the first thing that is none
		case s.scope == "rctl":
			s.addLimit(v.pieces)
		default:
			s.addPair(v.pieces)
		}
	}
}

// addLimit reads (priv=…,limit=…,action=…). Some faults print a message
// without setting the error flag.
func (s *session) addLimit(pieces []pair) {
	seen := map[string]string{}
	for _, p := range pieces {
		switch p.Name {
		case "priv", "limit", "action":
		default:
			s.noProperty("value", "add")
			return
		}
		if _, twice := seen[p.Name]; twice {
			s.zerr("%s already specified", p.Name)
			return
		}
		seen[p.Name] = truncate(p.Value, 256)
	}
	missing := false
	for _, name := range []string{"priv", "limit", "action"} {
		if _, ok := seen[name]; !ok {
			s.zerr("%s not specified", name)
			missing = true
		}
	}
	if missing {
		return
	}
	v := &rctlValues{Priv: seen["priv"], Limit: seen["limit"], Action: seen["action"]}
	if !v.valid() {
		s.zerr("Invalid rctl value specification")
		return
	}
	s.work.Limits = append(s.work.Limits, v)
}

// valid is zonecfg_construct_rctlblk and zonecfg_valid_rctlblk.
func (v *rctlValues) valid() bool {
	if v.Priv != "privileged" || v.Action != "none" && v.Action != "deny" {
		return false
	}
	if strings.HasPrefix(v.Limit, "-") {
		return false
	}
	if v.Limit == "" {
		return true // strtoull(3C) makes 0 of it
	}
	_, err := strconv.ParseUint(v.Limit, 0, 64)
	return err == nil && !strings.Contains(v.Limit, "_")
}

// addPair reads (name=…,value=…) of a net or device resource.
func (s *session) addPair(pieces []pair) {
	seen := map[string]string{}
	sizes := map[string]int{"name": pairNameSize, "value": pairValueSize}
	for _, p := range pieces {
		size, ok := sizes[p.Name]
		if !ok {
			s.noProperty("property", "add")
			return
		}
		if _, twice := seen[p.Name]; twice {
			s.zerr("%s already specified", p.Name)
			return
		}
		if len(p.Value) >= size {
			s.zerr("Input for %s is too long", p.Name)
			return
		}
		seen[p.Name] = p.Value
	}
	for _, name := range []string{"name", "value"} {
		if _, ok := seen[name]; !ok {
			s.zerr("%s not specified", name)
		}
	}
	s.work.Pairs = append(s.work.Pairs, pair{Name: seen["name"], Value: seen["value"]})
}

// removeProperty implements remove within a resource.
func (s *session) removeProperty(c command) {
	takes := map[string]string{"fs": "options", "rctl": "value"}
	if !s.m.distro.gate() {
		takes["net"], takes["device"] = "property", "property"
	}
	want, ok := takes[s.scope]
	if !ok {
		s.noResource(s.scope, "remove")
		return
	}
	if c.property != want {
		s.noProperty(c.property, "remove")
		return
	}
	if s.scope == "fs" && c.value.kind == complexValue {
		s.fail("A simple or list value was expected here.")
		return
	}
	if s.scope != "fs" && c.value.kind != complexValue {
		s.fail("A complex value was expected here.")
		return
	}
	if s.scope == "fs" {
		values := []value{c.value}
		if c.value.kind == listValue {
			values = c.value.list
		}
		for _, v := range values {
			if !removeFirst(&s.work.Options, func(o string) bool { return o == v.simple }) {
				s.perror("options", zNoPropertyID, true)
			}
		}
		return
	}
	got := map[string]string{}
	for _, p := range c.value.pieces {
		got[p.Name] = p.Value
	}
	found := false
	if s.scope == "rctl" {
		want := rctlValues{Priv: got["priv"], Limit: got["limit"], Action: got["action"]}
		found = removeFirst(&s.work.Limits, func(l *rctlValues) bool { return *l == want })
	} else {
		want := pair{Name: got["name"], Value: got["value"]}
		found = removeFirst(&s.work.Pairs, func(p pair) bool { return p == want })
	}
	if !found {
		s.perror(c.property, zNoPropertyID, true)
	}
}

func removeFirst[T any](list *[]T, match func(T) bool) bool {
	for i, e := range *list {
		if match(e) {
			*list = append((*list)[:i:i], (*list)[i+1:]...)
			return true
		}
	}
	return false
}
