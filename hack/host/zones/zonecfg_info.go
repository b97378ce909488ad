package zones

import (
	"fmt"
	"strings"
)

// infoFields are the simple properties of each resource in the order of info.
func (d Distro) infoFields(kind string) []string {
	switch kind {
	case "fs":
		return []string{"dir", "special", "raw", "type"}
	case "net":
		if d.gate() {
			return []string{"address", "allowed-address", "defrouter", "physical"}
		}
		return []string{"address", "allowed-address", "defrouter", "global-nic", "mac-addr", "physical", "vlan-id"}
	case "device":
		return []string{"match"}
	case "rctl", "dataset":
		return []string{"name"}
	case "attr":
		return []string{"name", "type", "value"}
	case "admin":
		return []string{"user", "auths"}
	case "security-flags":
		return []string{"default", "lower", "upper"}
	}
	return nil
}

// quoteSpaces quotes a value with a blank in it, and no other.
func quoteSpaces(v string) string {
	if strings.Contains(v, " ") {
		return `"` + v + `"`
	}
	return v
}

// info implements the info command.
func (s *session) info(c command) {
	if !s.initialize(true) {
		return
	}
	if s.scope != "" {
		switch s.scope {
		case "capped-cpu":
			s.infoCPUCap()
		case "capped-memory":
			s.infoMemory(s.memory, true)
		default:
			s.infoResource(s.scope, s.work)
		}
		return
	}
	switch {
	case c.resource != "":
		s.infoKind(c.resource, c.pairs)
	case c.property != "":
		s.infoProperty(c.property)
	default:
		s.infoAll()
	}
}

func (s *session) infoAll() {
	properties := []string{"zonename", "zonepath", "brand", "autoboot", "bootargs", "pool",
		"limitpriv", "scheduling-class", "ip-type", "hostid", "fs-allowed", "max-lwps",
		"max-processes", "max-shm-memory", "max-shm-ids", "max-msg-ids", "max-sem-ids", "cpu-shares"}
	if !s.m.distro.gate() {
		properties = append(properties, "zfs-io-priority")
	}
	for _, p := range properties {
		s.infoProperty(p)
		if p == "zonepath" && s.m.distro == SmartOS && s.cfg.Root["uuid"] != "" {
			s.infoProperty("uuid")
		}
	}
	for _, kind := range []string{"fs", "net", "device", "dedicated-cpu", "capped-cpu",
		"capped-memory", "attr", "dataset", "admin", "rctl", "security-flags"} {
		s.infoKind(kind, nil)
	}
}

func (s *session) infoProperty(p string) {
	switch p {
	case "zonename":
		s.inv.Outf("zonename: %s\n", s.cfg.Name)
		return
	case "ip-type":
		s.inv.Outf("ip-type: %s\n", s.cfg.ipType())
		return
	}
	if a, ok := s.m.distro.alias(p); ok {
		v, err := s.cfg.limit(a)
		switch {
		case err != zOK:
		case p == "max-shm-memory":
			s.inv.Outf("[%s: %s]\n", p, formatBytes(v))
		default:
			s.inv.Outf("[%s: %d]\n", p, v)
		}
		return
	}
	v := s.cfg.Root[p]
	if size := rootSizes[p]; size > 0 && len(v) >= size {
		if p == "zonepath" || p == "brand" {
			s.inv.Outf("%s not specified\n", p)
		} else {
			s.perror(s.zone, zTooBig, true)
		}
		return
	}
	s.inv.Outf("%s: %s\n", p, v)
}

// infoKind prints all resources of a type, or those that match.
func (s *session) infoKind(kind string, pairs []pairValue) {
	switch kind {
	case "capped-cpu":
		s.infoCPUCap()
		return
	case "capped-memory":
		s.infoMemory(s.cfg.Memory, false)
		return
	}
	shown := false
	for _, r := range s.cfg.Resources[kind] {
		if len(pairs) > 0 && kind != "dedicated-cpu" && kind != "security-flags" {
			want, err := s.fillIn(kind, pairs)
			if err != zOK || !s.cfg.infoMatches(kind, r, want) {
				continue
			}
		}
		s.infoResource(kind, r)
		shown = true
	}
	if !shown && len(pairs) > 0 && kind != "dedicated-cpu" && kind != "security-flags" {
		s.inv.Outf("No such %s resource.\n", kind)
	}
}

// infoMatches compares the properties that info looks at; it ignores others.
func (c *zoneConfig) infoMatches(kind string, r *resource, want map[string]string) bool {
	looksAt := map[string]string{"fs": "dir special type", "net": "physical address",
		"device": "match", "rctl": "name", "attr": "name type value", "dataset": "name", "admin": "user"}
	for _, p := range strings.Fields(looksAt[kind]) {
		v := want[p]
		switch {
		case v == "":
		case p == "address":
			if !sameAddress(v, r.Values[p]) {
				return false
			}
		case v != r.Values[p]:
			return false
		}
	}
	return true
}

func (s *session) infoResource(kind string, r *resource) {
	out := s.inv.Outf
	out("%s:\n", kind)
	if kind == "dedicated-cpu" {
		out("\tncpus: %s\n", cpuRange(r))
		if v := r.Values["importance"]; v != "" {
			out("\timportance: %s\n", v)
		}
		return
	}
	for _, p := range s.m.distro.infoFields(kind) {
		if v := r.Values[p]; v != "" {
			out("\t%s: %s\n", p, quoteSpaces(v))
		} else {
			out("\t%s not specified\n", p)
		}
	}
	switch kind {
	case "fs":
		options := make([]string, len(r.Options))
		for i, o := range r.Options {
			options[i] = quoteEquals(o)
		}
		out("\toptions: [%s]\n", strings.Join(options, ","))
	case "net", "device":
		for _, p := range r.Pairs {
			out("\tproperty: (name=%s,value=\"%s\")\n", p.Name, p.Value)
		}
	case "rctl":
		for _, l := range r.Limits {
			out("\tvalue: %s\n", l)
		}
	}
}

// quoteEquals quotes a mount option that the lexer would take apart.
func quoteEquals(o string) string {
	if strings.Contains(o, "=") {
		return `"` + o + `"`
	}
	return o
}

func (v *rctlValues) String() string {
	return fmt.Sprintf("(priv=%s,limit=%s,action=%s)", v.Priv, v.Limit, v.Action)
}

func cpuRange(r *resource) string {
	if r.Values["ncpus-min"] == r.Values["ncpus-max"] {
		return r.Values["ncpus-max"]
	}
	return r.Values["ncpus-min"] + "-" + r.Values["ncpus-max"]
}

func (s *session) infoCPUCap() {
	a, _ := s.m.distro.alias("cpu-cap")
	if v, err := s.cfg.limit(a); err == zOK {
		s.inv.Outf("capped-cpu:\n\t[ncpus: %.2f]\n", float64(v)/100)
	}
}

func (s *session) infoMemory(mcap uint64, always bool) {
	var b strings.Builder
	if mcap != 0 {
		fmt.Fprintf(&b, "\tphysical: %s\n", formatBytes(mcap))
	}
	for _, name := range []string{"physical", "swap", "locked"} {
		a, ok := s.m.distro.alias(name)
		if !ok {
			continue
		}
		if v, err := s.cfg.limit(a); err == zOK {
			fmt.Fprintf(&b, "\t[%s: %s]\n", name, formatBytes(v))
		}
	}
	if b.Len() > 0 || always {
		s.inv.Outf("capped-memory:\n%s", b.String())
	}
}
