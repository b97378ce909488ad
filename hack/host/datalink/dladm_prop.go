package datalink

import (
	"context"
	"strconv"
	"strings"
)

func (r *dladmRun) setLinkprop(ctx context.Context, args []string) int {
	return r.changeLinkprop(ctx, args, false)
}

func (r *dladmRun) resetLinkprop(ctx context.Context, args []string) int {
	return r.changeLinkprop(ctx, args, true)
}

// changeLinkprop is set-linkprop and reset-linkprop. It goes through all
// properties; the exit code is that of the last one.
func (r *dladmRun) changeLinkprop(ctx context.Context, args []string, reset bool) int {
	opts, operands, ok := r.options(args, "p:R:t")
	if !ok {
		return 1
	}
	persistent := true
	for _, o := range opts {
		switch o.name {
		case 't':
			persistent = false
		case 'R':
			return r.altroot()
		}
	}
	text, fits := joinProps(opts)
	if !fits {
		return r.die("property list too long '%s'", text[:1023])
	}
	if len(operands) != 1 {
		return r.usage()
	}
	props, ok := parseProps(text, reset)
	if !ok {
		return r.die("invalid link properties specified")
	}
	if len(props) == 0 && !reset {
		return r.die("link property must be specified")
	}
	l := r.m.link(operands[0])
	if l == nil {
		return r.dieStatus(statusNotFound, "link %s is not valid", operands[0])
	}
	if len(props) == 0 {
		for _, d := range linkProps {
			if !d.ro && !d.tempOnly && (!d.vnicOnly || l.Class == classVNIC) {
				props = append(props, propArg{name: d.name})
			}
		}
	}
	code := 0
	for _, p := range props {
		code = r.changeOne(ctx, l, p, persistent, reset)
	}
	return code
}

// changeOne changes one property and prints why it could not.
func (r *dladmRun) changeOne(ctx context.Context, l *link, p propArg, persistent, reset bool) int {
	if !reset && len(p.values) == 0 {
		r.warn("no value specified for '%s'", p.name)
		return 1
	}
	value, s := r.m.newValue(l, p, persistent, reset)
	if s == statusOK {
		r.noteIdle(p.name, value)
		old := cloneMap(l.Props)
		storeProp(l, p.name, value, persistent)
		if !l.Active {
			return 0
		}
		if err := r.m.applyProp(ctx, l, findProp(p.name).name); err != nil {
			r.Errf("%s%v\n", simulatedRefusal, err)
			l.Props, s = old, statusFailed
		}
	}
	verb := "set"
	if reset {
		verb = "reset"
	}
	switch s {
	case statusOK:
		return 0
	case statusNotFound:
		r.warn("invalid link property '%s'", p.name)
	case statusBadVal:
		if d := findProp(p.name); d.possible != nil {
			r.warn("link property '%s' must be one of: %s", p.name, strings.Join(d.possible, ","))
			return 1
		}
		fallthrough
	default:
		r.warn("cannot %s link property '%s' on '%s': %s", verb, p.name, l.Name, s)
	}
	return 1
}

func (m *Model) newValue(l *link, p propArg, persistent, reset bool) (string, status) {
	d := findProp(p.name)
	switch {
	case d == nil:
		return "", statusNotFound
	case d.vnicOnly && l.Class != classVNIC:
		return "", statusBadArg
	case d.tempOnly && persistent:
		return "", statusTempOnly
	case reset && d.ro:
		return "", statusReadOnly
	case reset && d.tempOnly && l.Zone == "":
		return "", statusOK
	case reset && d.tempOnly:
		return "", statusNotSup
	case reset:
		return "", statusOK
	}
	return m.checkProp(l, p.name, p.values)
}

var linkpropFields = []field{{"LINK", 13}, {"PROPERTY", 16}, {"PERM", 5}, {"VALUE", 15}, {"DEFAULT", 15}, {"POSSIBLE", 20}}

func (r *dladmRun) showLinkprop(_ context.Context, args []string) int {
	opts, operands, ok := r.options(args, "p:cPo:")
	if !ok {
		return 1
	}
	spec, parsable, persistent := "", false, false
	for _, o := range opts {
		switch o.name {
		case 'c':
			parsable = true
		case 'P':
			persistent = true
		case 'o':
			spec = o.value
		}
	}
	links := r.m.st.Links
	switch len(operands) {
	case 0:
	case 1:
		l := r.m.link(operands[0])
		if l == nil {
			return r.dieStatus(statusNotFound, "link %s is not valid", operands[0])
		}
		links = []*link{l}
	default:
		return r.usage()
	}
	text, _ := joinProps(opts)
	props, ok := parseProps(text, true)
	if !ok {
		return r.die("invalid link properties specified")
	}
	t := newTable(r.Invocation, "dladm", spec, linkpropFields, parsable, true)
	if t == nil {
		return 1
	}
	code := 0
	for _, l := range links {
		if persistent && l.Persistent || !persistent && l.Active {
			code |= r.showLinkprops(t, l, props, persistent)
		}
	}
	return code
}

func (r *dladmRun) showLinkprops(t *table, l *link, props []propArg, persistent bool) int {
	if len(props) == 0 {
		for _, d := range linkProps {
			if !d.vnicOnly || l.Class == classVNIC {
				t.row(func(c string) string { return d.show(l, c, persistent) })
			}
		}
		return 0
	}
	code := 0
	for _, p := range props {
		d := findProp(p.name)
		s := statusNotFound
		if d != nil {
			if s = statusOK; d.vnicOnly && l.Class != classVNIC {
				s = statusBadArg
			}
		}
		if s != statusOK {
			r.warn("cannot get link property '%s' for %s: %s", p.name, l.Name, s)
			t.row(func(c string) string { return badPropColumn(l.Name, p.name, c) })
			code = 1
			continue
		}
		t.row(func(c string) string { return d.show(l, c, persistent) })
	}
	return code
}

func badPropColumn(link, prop, column string) string {
	switch column {
	case "LINK":
		return link
	case "PROPERTY":
		return prop
	}
	return "?"
}

// show is what show-linkprop prints of a property in a column.
func (d propDesc) show(l *link, column string, persistent bool) string {
	switch column {
	case "LINK":
		return l.Name
	case "PROPERTY":
		return d.name
	case "PERM":
		if d.ro {
			return "r-"
		}
		return "rw"
	case "VALUE":
		if persistent {
			return cmpOr(l.Saved[d.name], "--")
		}
		return d.current(l)
	case "DEFAULT":
		if d.name == "mtu" {
			return strconv.Itoa(l.MTU)
		}
		return d.def
	case "POSSIBLE":
		if d.name == "mtu" && l.Class != classPhys {
			return "576-9000"
		}
		return strings.Join(d.possible, ",")
	}
	return ""
}

func (d propDesc) current(l *link) string {
	switch {
	case d.name == "zone":
		return l.Zone // empty in the global zone
	case d.name == "mtu":
		return strconv.Itoa(l.mtu())
	case d.name == "state":
		if l.Class == classEtherstub {
			return "unknown"
		}
		return "up"
	case l.Props[d.name] != "":
		return l.Props[d.name]
	case d.def == "--":
		return ""
	}
	return d.def
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// noteIdle tells of a property that is kept but has no effect here.
func (r *dladmRun) noteIdle(name, value string) {
	if d := findProp(name); value != "" && (d.idle || strings.Contains(value, "dhcp-nospoof")) {
		r.Errf("%s%s=%s has no effect\n", simulatedRefusal, name, strings.TrimSpace(value))
	}
}
