package zones

import (
	"encoding/json"
	"slices"
	"strconv"
)

// zoneConfig is a zone's configuration as /etc/zones/NAME.xml holds it.
type zoneConfig struct {
	Name      string
	Root      map[string]string      // the properties of the zone element
	Resources map[string][]*resource // by type, in order
	DebugID   int                    // 0: none yet; not on OpenIndiana
	Memory    uint64                 `json:",omitempty"` // OpenIndiana: the <mcap> element's bytes
}

// resource is one net, fs, attr … of a zone. Absent values are empty.
type resource struct {
	Values  map[string]string
	Options []string      `json:",omitempty"` // fs
	Pairs   []pair        `json:",omitempty"` // net and device: add property
	Limits  []*rctlValues `json:",omitempty"` // rctl
}

type pair struct{ Name, Value string }

type rctlValues struct{ Priv, Limit, Action string }

func newResource() *resource { return &resource{Values: map[string]string{}} }

func newZoneConfig(name, brand string) *zoneConfig {
	return &zoneConfig{Name: name, Root: map[string]string{"brand": brand, "autoboot": "false"}, Resources: map[string][]*resource{}}
}

// clone returns a deep copy.
func (c *zoneConfig) clone() *zoneConfig {
	var n zoneConfig
	data, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	if err != nil {
		panic(err) // strings and numbers only
	}
	if n.Resources == nil {
		n.Resources = map[string][]*resource{}
	}
	if n.Root == nil {
		n.Root = map[string]string{}
	}
	return &n
}

func (r *resource) clone() *resource {
	n := &resource{Values: map[string]string{}, Options: slices.Clone(r.Options), Pairs: slices.Clone(r.Pairs)}
	for k, v := range r.Values {
		n.Values[k] = v
	}
	for _, l := range r.Limits {
		v := *l
		n.Limits = append(n.Limits, &v)
	}
	return n
}

func (c *zoneConfig) ipType() string {
	if c.Root["ip-type"] == "exclusive" {
		return "exclusive"
	}
	return "shared"
}

func (c *zoneConfig) path() string { return c.Root["zonepath"] }

// attr returns the value of an attr resource, empty without one.
func (c *zoneConfig) attr(name string) string {
	for _, r := range c.Resources["attr"] {
		if r.Values["name"] == name {
			return r.Values["value"]
		}
	}
	return ""
}

// replace puts next at the end in place of old, as libzonecfg modifies a
// resource by deleting it and adding another.
func (c *zoneConfig) replace(kind string, old, next *resource) {
	c.remove(kind, old)
	c.Resources[kind] = append(c.Resources[kind], next)
}

func (c *zoneConfig) remove(kind string, old *resource) {
	c.Resources[kind] = slices.DeleteFunc(c.Resources[kind], func(r *resource) bool { return r == old })
}

// limit returns the value of the resource control behind an alias: zNoEntry if
// there is none, zAliasDisallow if it has a form that an alias cannot have.
func (c *zoneConfig) limit(a alias) (uint64, code) {
	var found *resource
	for _, r := range c.Resources["rctl"] {
		if r.Values["name"] != a.rctl {
			continue
		}
		if found != nil {
			return 0, zAliasDisallow
		}
		found = r
	}
	if found == nil {
		return 0, zNoEntry
	}
	if len(found.Limits) != 1 {
		return 0, zAliasDisallow
	}
	l := found.Limits[0]
	if l.Priv != "privileged" || l.Action != a.action {
		return 0, zAliasDisallow
	}
	return parseLimit(l.Limit), zOK
}

// aliasOK reports whether the alias may be set.
func (c *zoneConfig) aliasOK(a alias) bool {
	_, err := c.limit(a)
	return err == zOK || err == zNoEntry
}

func (c *zoneConfig) setLimit(a alias, v uint64) code {
	if !c.aliasOK(a) {
		return zAliasDisallow
	}
	c.dropLimit(a)
	r := newResource()
	r.Values["name"] = a.rctl
	r.Limits = []*rctlValues{{Priv: "privileged", Limit: strconv.FormatUint(v, 10), Action: a.action}}
	c.Resources["rctl"] = append(c.Resources["rctl"], r)
	return zOK
}

func (c *zoneConfig) dropLimit(a alias) {
	c.Resources["rctl"] = slices.DeleteFunc(c.Resources["rctl"], func(r *resource) bool { return r.Values["name"] == a.rctl })
}

// parseLimit is strtoull(3C) with base 10: the digits at the start.
func parseLimit(s string) uint64 {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(s[:n], 10, 64)
	if err != nil && n > 0 {
		return ^uint64(0)
	}
	return v
}
