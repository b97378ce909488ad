package zones

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Sizes that zonecfg's fields hold. It cuts off what is longer and says
// nothing, so we refuse it.
const (
	maxName    = 63   // ZONENAME_MAX without its NUL
	maxPath    = 1023 // MAXPATHLEN
	maxLink    = 31   // MAXLINKNAMELEN
	maxAddress = 45   // INET6_ADDRSTRLEN
	maxAttr    = 255  // a string attribute's value, refused at end
	maxProp    = 1023 // a net property's value
	maxOption  = 255
	minLWPs    = 100
	minSwap    = 50 << 20
	minPhys    = 1 << 20
)

var (
	nameForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	brandForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	attrForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)

	// linkForm is dladm(8)'s rule: a letter first, a number without leading
	// zero last.
	linkForm = regexp.MustCompile(`^[A-Za-z](?:[A-Za-z0-9_]*[A-Za-z_])?(?:0|[1-9][0-9]*)$`)

	// dataForm is what zfs(8) allows of a dataset's name.
	dataForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.:-]*(?:/[A-Za-z0-9_.:-]+)*$`)
	wordForm = regexp.MustCompile(`^[A-Za-z0-9_!,-]+$`)
)

// checkName accepts what zonecfg accepts for a new zone. Names that begin with
// SUNW are the system's.
func checkName(name string) error {
	switch {
	case !nameForm.MatchString(name) || len(name) > maxName:
		return fmt.Errorf("bad zone name %q", name)
	case name == globalZone || strings.HasPrefix(name, "SUNW"):
		return fmt.Errorf("zone name %q is reserved", name)
	}
	return nil
}

// faults collects what is wrong with a Config.
type faults struct{ errs []error }

func (f *faults) add(format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf(format, args...))
}

// validate refuses values that could end a zonecfg token early, that zonecfg
// would cut off, or that it would refuse half-way through the script. Mount
// targets come from pod authors, and zonecfg runs as root: an unescaped newline
// in a path would let a pod add a device to its own zone.
func (c Config) validate(features Features) error {
	f := &faults{}
	if err := checkName(c.Name); err != nil {
		f.errs = append(f.errs, err)
	}
	if !brandForm.MatchString(c.Brand) {
		f.add("bad brand %q", c.Brand)
	}
	if c.Brand == "lx" && !features.LX {
		f.add("distribution %q has no lx brand", features.Distro)
	}
	f.path("zonepath", c.Path)
	for _, p := range []struct{ what, value string }{{"limitpriv", c.LimitPriv}, {"fs-allowed", c.FSAllowed}} {
		if p.value != "" && (!wordForm.MatchString(p.value) || len(p.value) > maxProp) {
			f.add("bad %s %q", p.what, p.value)
		}
	}
	f.links(c.Links, features)
	f.mounts(c.Mounts)
	f.attrs(c.Attrs)
	f.limits(c)
	return errors.Join(f.errs...)
}

// path accepts an absolute, canonical path of text that one token can hold.
func (f *faults) path(what, p string) {
	switch {
	case !path.IsAbs(p) || path.Clean(p) != p || p == "/":
		f.add("%s %q is not an absolute, clean path", what, p)
	case len(p) > maxPath:
		f.add("%s is longer than %d bytes", what, maxPath)
	case !tokenText(p):
		f.add("%s %q holds a character that zonecfg cannot", what, p)
	}
}

// tokenText says whether a quoted token can hold s and zonecfg's XML file too.
func tokenText(s string) bool {
	for _, r := range s {
		if r < ' ' || r == '"' || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return true
}

func (f *faults) links(links []Link, features Features) {
	seen := map[string]bool{}
	for _, l := range links {
		if !linkForm.MatchString(l.Physical) || len(l.Physical) > maxLink {
			f.add("bad link name %q", l.Physical)
		}
		if seen[l.Physical] {
			f.add("link %q twice", l.Physical)
		}
		seen[l.Physical] = true
		f.addresses(l, features)
	}
}

func (f *faults) addresses(l Link, features Features) {
	total := 0
	seen := map[netip.Prefix]bool{}
	for _, a := range l.Addresses {
		if !a.IsValid() || a.Addr().Zone() != "" || seen[a] {
			f.add("link %s: bad or repeated address %s", l.Physical, a)
		}
		seen[a] = true
		total += len(a.String())
	}
	// zoneadmd gathers the addresses of one link in a field of that size.
	if total+len(l.Addresses) > maxAddress+1 {
		f.add("link %s: its addresses are longer than %d characters together", l.Physical, maxAddress)
	}
	if features.NetProperties && !features.QuotedComplex && len(l.Addresses) > 1 {
		f.add("link %s: several addresses need quotes that this zonecfg lacks", l.Physical)
	}
	for _, r := range []netip.Addr{l.Router, l.Router6} {
		if r.IsValid() && !l.reaches(r) {
			f.add("link %s: router %s is in none of its prefixes", l.Physical, r)
		}
	}
}

func (l Link) reaches(r netip.Addr) bool {
	for _, a := range l.Addresses {
		if a.Masked().Contains(r) {
			return true
		}
	}
	return r.Is6() && r.IsLinkLocalUnicast() && len(l.Addresses) > 0
}

func (f *faults) mounts(mounts []Mount) {
	seen := map[string]bool{}
	for _, m := range mounts {
		f.path("mount target", m.Target)
		if seen[m.Target] {
			f.add("mount target %q twice", m.Target)
		}
		seen[m.Target] = true
		switch m.Type {
		case "lofs":
			f.path("mount source", m.Source)
		case "zfs":
			if !dataForm.MatchString(m.Source) || len(m.Source) > 255 {
				f.add("mount %q: bad dataset %q", m.Target, m.Source)
			}
		case "tmpfs":
			if m.Source != "swap" {
				f.add("mount %q: tmpfs needs source swap, not %q", m.Target, m.Source)
			}
		default:
			f.add("mount %q: type %q", m.Target, m.Type)
		}
		for _, o := range m.Options {
			if o == "" || len(o) > maxOption || !tokenText(o) {
				f.add("mount %q: bad option %q", m.Target, o)
			}
		}
	}
}

func (f *faults) attrs(attrs []Attr) {
	seen := map[string]bool{}
	for _, a := range attrs {
		if !attrForm.MatchString(a.Name) || len(a.Name) > maxAttr {
			f.add("bad attribute name %q", a.Name)
		}
		if seen[a.Name] {
			f.add("attribute %q twice", a.Name)
		}
		seen[a.Name] = true
		if !a.valid() {
			f.add("attribute %s: bad %s value %q", a.Name, a.Type, a.Value)
		}
	}
}

func (a Attr) valid() bool {
	var err error
	switch a.Type {
	case "string":
		return a.Value != "" && len(a.Value) <= maxAttr && tokenText(a.Value)
	case "int":
		_, err = strconv.ParseInt(a.Value, 10, 64)
	case "uint":
		_, err = strconv.ParseUint(a.Value, 10, 64)
	case "boolean":
		return a.Value == "true" || a.Value == "false"
	default:
		return false
	}
	return err == nil
}

func (f *faults) limits(c Config) {
	if c.CPUCap < 0 {
		f.add("cpu cap %d", c.CPUCap)
	}
	if c.MaxLWPs > 0 && c.MaxLWPs < max(minLWPs, c.MaxProcesses) {
		f.add("max-lwps %d is below %d", c.MaxLWPs, max(minLWPs, c.MaxProcesses))
	}
	if c.MaxProcesses > 0 && c.MaxProcesses < minLWPs {
		f.add("max-processes %d is below %d", c.MaxProcesses, minLWPs)
	}
	m := c.Memory
	if m.Physical > 0 && m.Physical < minPhys {
		f.add("physical memory %d is below %d", m.Physical, minPhys)
	}
	if m.Swap > 0 && m.Swap < minSwap {
		f.add("swap %d is below %d", m.Swap, minSwap)
	}
	if m.Physical > 0 && m.Locked > m.Physical {
		f.add("locked memory %d exceeds physical memory %d", m.Locked, m.Physical)
	}
}
