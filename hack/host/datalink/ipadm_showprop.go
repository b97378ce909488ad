package datalink

import (
	"context"
	"strings"
)

var showPropFields = []field{{"PROTO", 6}, {"PROPERTY", 22}, {"PERM", 5}, {"CURRENT", 13}, {"PERSISTENT", 13}, {"DEFAULT", 13}, {"POSSIBLE", 15}}
var showIfpropFields = []field{{"IFNAME", 12}, {"PROPERTY", 16}, {"PROTO", 6}, {"PERM", 5}, {"CURRENT", 11}, {"PERSISTENT", 11}, {"DEFAULT", 11}, {"POSSIBLE", 16}}

func (r *ipadmRun) showProp(_ context.Context, args []string) int {
	opts, operands, ok := r.options(args, "p:co:")
	if !ok {
		return 1
	}
	spec, parsable, names, code := r.readShowProp(opts)
	if code != 0 {
		return code
	}
	proto := ""
	switch {
	case len(operands) > 1:
		return r.die("Usage: %s", r.usage)
	case len(operands) == 1:
		if proto = operands[0]; !protocols[proto] {
			return r.die("invalid protocol '%s' specified", proto)
		}
	case names != nil:
		return r.die("protocol must be specified when property name is used")
	}
	t := newTable(r.Invocation, "ipadm", spec, showPropFields, parsable, true)
	if t == nil {
		return 1
	}
	if names == nil {
		for i := range ipProps {
			if p := &ipProps[i]; p.module && !p.private && (proto == "" || proto == "ip" || proto == p.proto) {
				t.row(func(c string) string { return r.m.showPropColumn(p, c) })
			}
		}
		return 0
	}
	for _, n := range names {
		p, s := findIPProp(n, proto)
		if s != statusOK || !p.module {
			t.row(func(c string) string { return unknownPropColumn(n, proto, "", c) })
			code = 1
			continue
		}
		t.row(func(c string) string { return r.m.showPropColumn(p, c) })
	}
	return code
}

// readShowProp reads the options of show-prop and show-ifprop.
func (r *ipadmRun) readShowProp(opts []option) (spec string, parsable bool, names []string, code int) {
	for _, o := range opts {
		switch o.name {
		case 'p':
			if names != nil {
				return "", false, nil, r.die("-p must be specified once only")
			}
			if names = strings.Split(o.value, ","); strings.Contains(o.value, "=") {
				return "", false, nil, r.die("invalid protocol properties specified")
			}
		case 'c':
			parsable = true
		case 'o':
			spec = o.value
		}
	}
	return spec, parsable, names, 0
}

// unknownPropColumn is the row of a property that does not exist: libofmt
// prints a question mark for what could not be had, and for all after it.
func unknownPropColumn(name, proto, ifname, column string) string {
	switch column {
	case "PROTO":
		return proto
	case "PROPERTY":
		return name
	case "IFNAME":
		return ifname
	}
	return "?"
}

func (m *Model) showPropColumn(p *ipProp, column string) string {
	switch column {
	case "PROTO":
		return p.proto
	case "PROPERTY":
		return p.name
	case "PERM":
		return "rw"
	case "CURRENT":
		return m.prop(p.key())
	case "PERSISTENT":
		return m.st.SavedProps[p.key()]
	case "DEFAULT":
		return p.def
	case "POSSIBLE":
		return p.possible
	}
	return ""
}

func (r *ipadmRun) showIfprop(_ context.Context, args []string) int {
	opts, operands, ok := r.options(args, "p:m:co:")
	if !ok {
		return 1
	}
	spec, parsable, names, code := r.readShowProp(opts)
	if code != 0 {
		return code
	}
	proto := "ip"
	for _, o := range opts {
		if o.name == 'm' {
			proto = o.value
		}
	}
	if len(operands) > 1 {
		return r.die("Usage: %s", r.usage)
	}
	if !protocols[proto] {
		return r.die("invalid protocol '%s' specified", proto)
	}
	t := newTable(r.Invocation, "ipadm", spec, showIfpropFields, parsable, false)
	if t == nil {
		return 1
	}
	list := r.m.st.Interfaces
	if len(operands) == 1 {
		i := r.m.iface(operands[0])
		if i == nil {
			return r.die("no such object '%s': %s", operands[0], ipNoInterface)
		}
		list = []*ipif{i}
	}
	for _, i := range list {
		code |= r.showIfprops(t, i, names, proto)
	}
	return code
}

func (r *ipadmRun) showIfprops(t *table, i *ipif, names []string, proto string) int {
	code := 0
	for n := range ipProps {
		p := &ipProps[n]
		if p.iface && (proto == "ip" || proto == p.proto) && (names == nil || contains(names, p.name)) {
			t.row(func(c string) string { return r.m.showIfpropColumn(i, p, c) })
		}
	}
	for _, name := range names {
		if p, s := findIPProp(name, proto); s != statusOK || !p.iface {
			t.row(func(c string) string { return unknownPropColumn(name, proto, i.Name, c) })
			code = 1
		}
	}
	return code
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (m *Model) showIfpropColumn(i *ipif, p *ipProp, column string) string {
	switch column {
	case "IFNAME":
		return i.Name
	case "CURRENT":
		return m.ifprop(i, p)
	case "PERSISTENT":
		return i.Saved[p.key()]
	}
	return m.showPropColumn(p, column)
}
