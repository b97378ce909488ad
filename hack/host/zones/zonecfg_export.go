package zones

import (
	"fmt"
	"strings"
)

// export implements the export command.
func (s *session) export(c command) {
	o := &options{args: c.args, spec: "?f:", inv: s.inv}
	file := ""
	for letter := o.next(); letter != 0; letter = o.next() {
		if letter == 'f' {
			file = o.arg
			continue
		}
		if o.bad == '?' {
			s.longerUsage("export")
		} else {
			s.shortUsage("export")
		}
		return
	}
	if s.extra(c, o) || !s.initialize(true) {
		return
	}
	text := s.exportText()
	if file == "" {
		s.inv.Outf("%s", text)
		return
	}
	if err := s.m.paths.WriteFile(s.absolute(file), []byte(text), 0o644); err != nil {
		s.zerr("opening file %s: %s", file, errnoText(err))
	}
}

func (s *session) absolute(file string) string {
	if strings.HasPrefix(file, "/") {
		return file
	}
	return strings.TrimSuffix(s.inv.Dir, "/") + "/" + file
}

// exportText renders the configuration as commands. What zonecfg does not
// quote is not quoted here either, so that not every export can be read back.
func (s *session) exportText() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("create -b")
	root := func(p string) {
		v := s.cfg.Root[p]
		if size := rootSizes[p]; v != "" && (size == 0 || len(v) < size) {
			line("set %s=%s", p, v)
		}
	}
	root("zonepath")
	if saved, ok := s.m.savedConfig(s.zone); ok && saved.Root["brand"] != "native" {
		line("set brand=%s", saved.Root["brand"])
	}
	root("autoboot")
	root("uuid")
	for _, p := range []string{"bootargs", "pool", "limitpriv", "scheduling-class"} {
		root(p)
	}
	line("set ip-type=%s", s.cfg.ipType())
	root("hostid")
	root("fs-allowed")
	for _, kind := range []string{"fs", "net", "device"} {
		s.exportKind(line, kind)
	}
	if s.cfg.Memory != 0 {
		line("add capped-memory\nset physical=%s\nend", formatBytes(s.cfg.Memory))
	}
	for _, kind := range []string{"rctl", "attr", "dataset"} {
		s.exportKind(line, kind)
	}
	for _, r := range s.cfg.Resources["dedicated-cpu"] {
		line("add dedicated-cpu\nset ncpus=%s", cpuRange(r))
		if v := r.Values["importance"]; v != "" {
			line("set importance=%s", v)
		}
		line("end")
	}
	s.exportKind(line, "admin")
	s.exportKind(line, "security-flags")
	return b.String()
}

// exportFields are the simple properties in the order of export.
func exportFields(kind string) []string {
	if kind == "net" {
		return []string{"address", "allowed-address", "physical", "mac-addr", "vlan-id", "global-nic", "defrouter"}
	}
	return OmniOS.infoFields(kind)
}

func (s *session) exportKind(line func(string, ...any), kind string) {
	for _, r := range s.cfg.Resources[kind] {
		line("add %s", kind)
		for _, p := range exportFields(kind) {
			switch v := r.Values[p]; {
			case v == "":
			case s.m.distro.gate():
				line("set %s=%s", p, quoteSpaces(v))
			default:
				line("set %s=\"%s\"", p, v)
			}
		}
		for _, o := range r.Options {
			line("add options %s", quoteEquals(o))
		}
		for _, p := range r.Pairs {
			line("add property (name=%s,value=\"%s\")", p.Name, p.Value)
		}
		for _, l := range r.Limits {
			line("add value %s", l)
		}
		line("end")
	}
}
