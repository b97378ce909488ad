package zfs

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Where a property's value comes from.
const (
	sourceNone = 1 << iota
	sourceDefault
	sourceLocal
	sourceTemporary
	sourceInherited
	sourceReceived

	sourceAny = 1<<iota - 1
)

// value is one property of one dataset.
type value struct {
	text   string // "-" where there is none
	exact  string // what -p prints
	source int
	from   string // the dataset it is inherited from
	ok     bool   // the property applies to the dataset and has a value
}

// none is the value of a property that does not apply.
func none() value { return value{text: "-", exact: "-", source: sourceNone} }

// String returns the printed form.
func (v value) string(literal bool) string {
	if literal {
		return v.exact
	}
	return v.text
}

// sourceText is the SOURCE column.
func (v value) sourceText() string {
	switch v.source {
	case sourceDefault:
		return "default"
	case sourceLocal:
		return "local"
	case sourceTemporary:
		return "temporary"
	case sourceReceived:
		return "received"
	case sourceInherited:
		return "inherited from " + v.from
	}
	return "-"
}

// lookup finds where a settable property is set: on the dataset or, where
// inherit is true, above. The stored value is "" where it is nowhere.
func (m *Model) lookup(n *node, name string, inherit bool) (stored string, source int, from string) {
	at := n
	if n.Snapshot {
		if v, ok := n.Props[name]; ok {
			return v, sourceLocal, ""
		}
		if at = m.byName[filesystem(n.Name)]; at == nil || !inherit {
			return "", sourceDefault, ""
		}
	}
	for {
		if v, ok := at.Props[name]; ok {
			if at == n {
				return v, sourceLocal, ""
			}
			return v, sourceInherited, at.Name
		}
		if !inherit {
			return "", sourceDefault, ""
		}
		up := m.byName[parent(at.Name)]
		if up == nil {
			return "", sourceDefault, ""
		}
		at = up
	}
}

// setting returns the stored value of a native property, or its default.
func (m *Model) setting(n *node, name string) string {
	p, _ := findProperty(name)
	v, source, from := m.lookup(n, p.name, p.change == inheritable)
	if name == "mountpoint" {
		return m.mountpoint(n, v, source, from)
	}
	if source == sourceDefault {
		return p.fallback
	}
	return v
}

// on says whether a property is on.
func (m *Model) on(n *node, name string) bool { return m.setting(n, name) == "on" }

// amount returns a number.
func (m *Model) amount(n *node, name string) uint64 {
	v, _ := strconv.ParseUint(m.setting(n, name), 10, 64)
	return v
}

// mountpoint completes an inherited mount point by the names below the dataset
// that has it.
func (m *Model) mountpoint(n *node, stored string, source int, from string) string {
	if source == sourceDefault {
		stored, from = "/"+m.cfg.Pool, m.cfg.Pool
	}
	if source == sourceLocal || !strings.HasPrefix(stored, "/") {
		return stored
	}
	rel := strings.TrimPrefix(strings.TrimPrefix(n.Name, from), "/")
	switch {
	case rel == "":
		return stored
	case stored == "/":
		return "/" + rel
	}
	return stored + "/" + rel
}

// temporaryOptions are the properties that mount -o can override.
var temporaryOptions = [...]string{"atime", "devices", "exec", "readonly", "setuid", "xattr", "nbmand"}

// get returns any property of a dataset, native or not.
func (m *Model) get(n *node, name string, s space) value {
	p, native := findProperty(name)
	if !native {
		if strings.HasPrefix(name, "written@") || quotaProperty(name) {
			return none()
		}
		v, source, from := m.lookup(n, name, true)
		if source == sourceDefault {
			return none()
		}
		return value{v, v, source, from, true}
	}
	if p.name == "name" {
		return value{n.Name, n.Name, sourceNone, "", true}
	}
	types := typeFilesystem
	if n.Snapshot {
		types = typeSnapshot
	}
	if p.types&types == 0 {
		return none()
	}
	if p.change == readOnly {
		return m.computed(n, p, s)
	}
	v := value{source: sourceDefault, text: p.fallback, ok: true}
	stored, source, from := m.lookup(n, p.name, p.change == inheritable || n.Snapshot)
	if source != sourceDefault {
		v.text, v.source, v.from = stored, source, from
	}
	if p.name == "mountpoint" {
		v.text = m.mountpoint(n, stored, source, from)
	}
	if t, ok := n.temporary[p.name]; ok && t != v.text {
		v.text, v.source = t, sourceTemporary
	}
	return p.display(v)
}

// display gives a stored value its two printed forms. atCreation properties
// have no source.
func (p property) display(v value) value {
	v.exact = v.text
	if p.change == atCreation && p.name != "encryption" && p.name != "keyformat" && p.name != "pbkdf2iters" || p.name == "version" {
		v.source = sourceNone
	}
	if p.form != isNumber {
		return v
	}
	n, _ := strconv.ParseUint(v.text, 10, 64)
	switch {
	case p.fallback == unlimited && n == ^uint64(0),
		p.fallback == "0" && n == 0 && (strings.Contains(p.name, "quota") || strings.Contains(p.name, "reserv")):
		v.text = "none"
	default:
		v.text = niceNumber(n)
	}
	return v
}

// computed returns the properties that cannot be set.
func (m *Model) computed(n *node, p property, s space) value {
	plain := func(s string) value { return value{s, s, sourceNone, "", true} }
	size := func(n uint64) value { return value{niceNumber(n), strconv.FormatUint(n, 10), sourceNone, "", true} }
	yes := func(b bool) value {
		if b {
			return plain("yes")
		}
		return plain("no")
	}
	switch p.name {
	case "type":
		return plain(n.kind())
	case "creation":
		return value{dateText(n.Created), strconv.FormatInt(n.Created, 10), sourceNone, "", true}
	case "compressratio", "refcompressratio":
		return plain("1.00x")
	case "mounted":
		return yes(n.Mounted != "" || m.usedByZones(n))
	case "origin":
		if o := m.byID[n.Origin]; o != nil {
			return plain(o.Name)
		}
	case "createtxg":
		return plain(strconv.FormatUint(n.TXG, 10))
	case "guid":
		return plain(strconv.FormatUint(n.GUID, 10))
	case "defer_destroy":
		v := "off"
		if n.Deferred {
			v = "on"
		}
		return plain(v)
	case "userrefs":
		return plain(strconv.Itoa(len(n.Holds)))
	case "clones":
		var names []string
		for _, c := range m.clones(n) {
			names = append(names, c.Name)
		}
		return plain(strings.Join(names, ","))
	case "filesystem_count", "snapshot_count", "receive_resume_token":
		return none() // counted only below a dataset with a limit
	default:
		if b, ok := m.spaceProperty(n, p.name, s); ok {
			return size(b)
		}
	}
	return none()
}

// dateText prints seconds since 1970 as strftime(3C)'s "%a %b %e %k:%M %Y".
func dateText(seconds int64) string {
	t := time.Unix(seconds, 0)
	return fmt.Sprintf("%s %2d %2d:%02d %d", t.Format("Mon Jan"), t.Day(), t.Hour(), t.Minute(), t.Year())
}

// sortedProperties are those of the usage text, by name.
func sortedProperties() []property {
	all := properties()
	slices.SortFunc(all, func(a, b property) int { return strings.Compare(a.name, b.name) })
	return all
}

// userProperties are the names of all user properties of a dataset, its own
// and inherited, sorted.
func (m *Model) userProperties(n *node) []string {
	names := map[string]bool{}
	for at := n; at != nil; {
		for name := range at.Props {
			if userProperty(name) {
				names[name] = true
			}
		}
		if at.Snapshot {
			at = m.byName[filesystem(at.Name)]
		} else {
			at = m.byName[parent(at.Name)]
		}
	}
	return slices.Sorted(maps.Keys(names))
}
