package zones

import (
	"regexp"
	"strings"
)

// datasetName is a name of a file system that zfs_name_valid takes.
var datasetName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.: -]+)*$`)

// verify checks the whole configuration, as the verify command, and saves it
// if wanted, as commit.
func (s *session) verify(save bool) {
	if !s.initialize(true) {
		return
	}
	v := &verifier{s: s}
	if !v.root() {
		return
	}
	v.resources()
	if s.scope != "" {
		v.fault(zInsufficientSpec, "resource specification incomplete")
	}
	if save {
		if v.result == zOK {
			s.save()
		} else {
			s.zerr("Zone %s failed to verify", s.zone)
		}
	}
	if v.result != zOK {
		s.perror(s.zone, v.result, true)
	}
}

func (s *session) save() {
	if !s.m.distro.gate() && s.cfg.DebugID == 0 {
		s.cfg.DebugID = s.m.newDebugID()
	}
	s.m.save(s.cfg, s.deleteName)
	s.needCommit, s.fresh, s.deleteName = false, false, ""
	s.revertZone = s.zone
}

// verifier collects what is wrong; result is the first fault.
type verifier struct {
	s      *session
	result code
}

func (v *verifier) fault(c code, format string, args ...any) {
	v.s.fail(format, args...)
	if v.result == zOK {
		v.result = c
	}
}

// root checks the properties of the zone itself. It returns false where
// zonecfg gives up at once; not all of these set the error flag.
func (v *verifier) root() bool {
	s := v.s
	path := s.cfg.path()
	if len(path) >= rootSizes["zonepath"] {
		s.fail("zonepath not specified")
		v.result = zReqdResourceMissing
	}
	if path == "" {
		s.fail("zonepath cannot be empty.")
		v.result = zReqdResourceMissing
	}
	brand, err := s.m.brand(s.cfg.Root["brand"], s.inv.Files)
	if err != nil {
		s.zerr("%s: unknown brand.\n", s.zone)
		s.perror(s.zone, zInvalidDocument, true)
		return false
	}
	if name, why := brand.checkPrivileges(s.cfg.Root["limitpriv"], s.cfg.ipType()); why != zOK {
		s.zerr("%s: invalid privilege: %s", s.zone, name)
		return false
	}
	if id := s.cfg.Root["hostid"]; id != "" && checkHostID(id) != zOK {
		s.zerr("%s: invalid hostid: %s", s.zone, id)
		return false
	}
	return true
}

func (v *verifier) need(kind string, r *resource, properties ...string) {
	for _, p := range properties {
		if r.Values[p] == "" {
			v.fault(zReqdPropertyMissing, "%s: %s not specified", kind, p)
		}
	}
}

func (v *verifier) resources() {
	s := v.s
	for _, r := range s.cfg.Resources["fs"] {
		v.need("fs", r, "dir", "special", "type")
	}
	v.nets()
	shares, cap := false, false
	for _, r := range s.cfg.Resources["rctl"] {
		v.need("rctl", r, "name")
		shares = shares || r.Values["name"] == "zone.cpu-shares"
		cap = cap || r.Values["name"] == "zone.cpu-cap"
		if len(r.Limits) == 0 {
			v.fault(zReqdPropertyMissing, "rctl: no value specified")
		}
	}
	dedicated := len(s.cfg.Resources["dedicated-cpu"]) > 0
	if dedicated && shares {
		v.fault(zIncompatible, "rctl zone.cpu-shares and dedicated-cpu are incompatible.")
	}
	if class := s.cfg.Root["scheduling-class"]; shares && class != "" && class != "FSS" {
		v.fault(zIncompatible, "WARNING: rctl zone.cpu-shares and scheduling-class=%s are incompatible", class)
	}
	if dedicated && cap {
		v.fault(zIncompatible, "rctl zone.cpu-cap and the dedicated-cpu are incompatible.")
	}
	for _, r := range s.cfg.Resources["attr"] {
		v.need("attr", r, "name", "type", "value")
	}
	for _, r := range s.cfg.Resources["dataset"] {
		switch name := r.Values["name"]; {
		case name == "":
			v.fault(zReqdPropertyMissing, "dataset: name not specified")
		case !datasetName.MatchString(name) || strings.Contains(name, "@"):
			v.fault(zBadProperty, "dataset: name invalid")
		}
	}
	for _, r := range s.cfg.Resources["admin"] {
		v.need("admin", r, "user", "auths")
	}
	for _, r := range s.cfg.Resources["security-flags"] {
		if !s.validSecFlags(r) {
			v.result = zBadProperty
		}
	}
}

func (v *verifier) nets() {
	s := v.s
	type link struct{ address, router bool }
	links := map[string]*link{}
	var order []string
	exclusive := s.cfg.ipType() == "exclusive"
	for _, r := range s.cfg.Resources["net"] {
		v.need("net", r, "physical")
		physical := r.Values["physical"]
		if !s.validPhysical(physical) {
			s.sawError = true
			if v.result == zOK {
				v.result = zInval
			}
		}
		if !exclusive {
			v.need("net", r, "address")
			if r.Values["allowed-address"] != "" {
				v.fault(zInval, "net: allowed-address cannot be specified for a shared IP type")
			}
			continue
		}
		if r.Values["address"] != "" {
			v.fault(zInval, "net: address cannot be specified for an exclusive IP type")
			continue
		}
		l := links[physical]
		if l == nil {
			l = &link{}
			links[physical] = l
			order = append([]string{physical}, order...)
		}
		l.address = l.address || r.Values["allowed-address"] != ""
		l.router = l.router || r.Values["defrouter"] != ""
	}
	for _, name := range order {
		if l := links[name]; l.router && !l.address {
			v.fault(zInval, "net: defrouter for %s cannot be specified without allowed-address for an exclusive IP type", name)
			v.result = zInval
		}
	}
}
