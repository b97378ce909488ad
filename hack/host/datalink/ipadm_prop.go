package datalink

import (
	"context"
	"errors"
	"strconv"
	"strings"
)

// ipProp describes one property of a protocol or of an interface.
type ipProp struct {
	name, proto   string // proto is ipv4 or ipv6
	def, possible string
	module, iface bool
	private       bool
	low, high     int // for numbers
	keyword       []string
	simulated     bool // has an effect here; others can only be shown
}

// ipProps are the known properties, in libipadm's order. The private ones are
// in the kernel's table ip_propinfo_tbl.
var ipProps = []ipProp{
	{name: "forwarding", proto: "ipv4", def: "off", possible: "on,off", module: true, iface: true, keyword: []string{"on", "off"}, simulated: true},
	{name: "mtu", proto: "ipv4", possible: "68-9000", iface: true, low: 68, high: 9000},
	{name: "ttl", proto: "ipv4", def: "255", possible: "1-255", module: true, low: 1, high: 255},
	{name: "forwarding", proto: "ipv6", def: "off", possible: "on,off", module: true, iface: true, keyword: []string{"on", "off"}, simulated: true},
	{name: "hoplimit", proto: "ipv6", def: "255", possible: "1-255", module: true, low: 1, high: 255},
	{name: "mtu", proto: "ipv6", possible: "1280-9000", iface: true, low: 1280, high: 9000},
	{name: "hostmodel", proto: "ipv6", def: "weak", possible: "strong,src-priority,weak", module: true, keyword: []string{"strong", "src-priority", "weak"}},
	{name: "hostmodel", proto: "ipv4", def: "weak", possible: "strong,src-priority,weak", module: true, keyword: []string{"strong", "src-priority", "weak"}},
	{name: "_send_redirects", proto: "ipv4", def: "1", possible: "0,1", module: true, private: true, high: 1, simulated: true},
	{name: "_send_redirects", proto: "ipv6", def: "1", possible: "0,1", module: true, private: true, high: 1, simulated: true},
}

// protocols are what ipadm_str2proto() knows.
var protocols = map[string]bool{"tcp": true, "udp": true, "ip": true, "ipv4": true, "ipv6": true, "icmp": true, "sctp": true, "arp": true}

// findIPProp finds a property as i_ipadm_get_prop_desc() does. The protocol ip
// means both families, of which the first in the table is taken.
func findIPProp(name, proto string) (*ipProp, status) {
	other := false
	for i := range ipProps {
		p := &ipProps[i]
		switch {
		case p.name != name:
		case p.proto == proto || proto == "ip":
			return p, statusOK
		default:
			other = true
		}
	}
	if other && !strings.HasPrefix(name, "_") {
		return nil, ipBadProtocol
	}
	return nil, ipUnknownProp
}

func (p *ipProp) key() string { return p.proto + " " + p.name }

// valid checks a new value.
func (p *ipProp) valid(v string) status {
	if p.keyword != nil {
		for _, k := range p.keyword {
			if k == v {
				return statusOK
			}
		}
		return ipInvalid
	}
	n, err := strconv.Atoi(v)
	switch {
	case err != nil:
		return ipInvalid
	case n < p.low || n > p.high:
		if p.private {
			return ipInvalid // mod_set_boolean() knows EINVAL only
		}
		return ipRange
	}
	return statusOK
}

// prop returns the current value of a protocol's property.
func (m *Model) prop(key string) string {
	if v, ok := m.st.Props[key]; ok {
		return v
	}
	for i := range ipProps {
		if ipProps[i].key() == key {
			return ipProps[i].def
		}
	}
	return ""
}

// ifprop returns the current value of an interface's property.
func (m *Model) ifprop(i *ipif, p *ipProp) string {
	if v, ok := i.Props[p.key()]; ok {
		return v
	}
	if p.name == "mtu" {
		if l := m.activeLink(i.Name); l != nil {
			return strconv.Itoa(l.mtu())
		}
		return "8232" // the loopback interface's
	}
	return p.def
}

// propRequest is what the set and reset subcommands are asked for.
type propRequest struct {
	name, value, proto, object string
	persistent, reset          bool
}

func (r *ipadmRun) setProp(ctx context.Context, args []string) int {
	return r.changeProp(ctx, args, false, false)
}

func (r *ipadmRun) resetProp(ctx context.Context, args []string) int {
	return r.changeProp(ctx, args, false, true)
}

func (r *ipadmRun) setIfprop(ctx context.Context, args []string) int {
	return r.changeProp(ctx, args, true, false)
}

func (r *ipadmRun) resetIfprop(ctx context.Context, args []string) int {
	return r.changeProp(ctx, args, true, true)
}

// changeProp is set-prop, reset-prop, set-ifprop and reset-ifprop.
func (r *ipadmRun) changeProp(ctx context.Context, args []string, onIf, reset bool) int {
	short := "p:t"
	if onIf {
		short = "m:p:t"
	}
	opts, operands, ok := r.options(args, short)
	if !ok {
		return 1
	}
	q := propRequest{persistent: true, reset: reset}
	seen := map[byte]bool{}
	text := ""
	for _, o := range opts {
		if seen[o.name] && o.name != 't' {
			return r.die("-%c must be specified once only", o.name)
		}
		seen[o.name] = true
		switch o.name {
		case 'p':
			if text = o.value; r.badPropText(text, reset) {
				return 1
			}
		case 't':
			q.persistent = false
		case 'm':
			q.proto = o.value
		}
	}
	if !seen['p'] || onIf && !seen['m'] || len(operands) != 1 {
		return r.die("Usage: %s", r.usage)
	}
	q.name, q.value, _ = strings.Cut(text, "=")
	modified := !reset && strings.HasSuffix(q.name, "+") || strings.HasSuffix(q.name, "-")
	q.object = operands[0]
	if !onIf {
		q.proto = operands[0]
		q.name = strings.TrimRight(q.name, "+-")
	}
	if !protocols[q.proto] {
		return r.die("invalid protocol '%s' specified", q.proto)
	}
	s := ipInvalid // no simulated property holds several values
	switch {
	case onIf:
		s = r.setOnInterface(ctx, q)
	case !modified:
		s = r.setOnProtocol(ctx, q)
	}
	if s != statusOK {
		verb := strings.Fields(r.usage)[0]
		return r.die("%s: %s: %s", verb, q.name, s)
	}
	return 0
}

// badPropText prints what is wrong with the syntax of -p, as
// ipadm_check_propstr().
func (r *ipadmRun) badPropText(text string, reset bool) bool {
	_, value, has := strings.Cut(text, "=")
	switch {
	case reset && has:
		r.die("incorrect syntax used for -p.\n%s", r.usage)
	case !reset && value == "":
		r.die("please specify the value to be set.\n%s", r.usage)
	case !reset && strings.Contains(value, "="):
		r.die("cannot specify more than one prop=val at a time.\n%s", r.usage)
	default:
		return false
	}
	return true
}

func (r *ipadmRun) setOnProtocol(ctx context.Context, q propRequest) status {
	m := r.m
	p, s := findIPProp(q.name, q.proto)
	switch {
	case s != statusOK:
		return s
	case !p.module:
		return ipInvalid
	}
	if s := r.newPropValue(p, &q); s != statusOK {
		return s
	}
	m.st.Props[p.key()] = q.value
	if q.persistent {
		m.st.SavedProps[p.key()] = q.value
		if q.reset {
			delete(m.st.SavedProps, p.key())
		}
	}
	if p.name == "forwarding" { // sets all interfaces, whatever they were
		for _, i := range m.st.Interfaces {
			if i.Active && i.Name != loopback {
				i.Props[p.key()] = q.value
			}
		}
	}
	if err := m.applyAllProps(ctx); err != nil {
		return r.backendFailed(err)
	}
	return statusOK
}

// newPropValue checks a new value, or fills in the default of a reset.
func (r *ipadmRun) newPropValue(p *ipProp, q *propRequest) status {
	if q.reset {
		q.value = p.def
	} else if s := p.valid(q.value); s != statusOK {
		return s
	}
	if !p.simulated {
		r.Errf("%sproperty %s of %s can only be shown\n", simulatedRefusal, p.name, p.proto)
		return ipNotSup
	}
	return statusOK
}

func (r *ipadmRun) setOnInterface(ctx context.Context, q propRequest) status {
	m := r.m
	i := m.iface(q.object)
	switch {
	case i == nil || !i.Active:
		return ipNoInterface
	case q.persistent && !i.Persistent:
		return ipTemporary
	}
	p, s := findIPProp(q.name, q.proto)
	switch {
	case s != statusOK:
		return s
	case p.private:
		return ipUnknownProp
	case !p.iface:
		return ipInvalid
	}
	if s := r.newPropValue(p, &q); s != statusOK {
		return s
	}
	i.Props[p.key()] = q.value
	if q.persistent {
		i.Saved[p.key()] = q.value
		if q.reset {
			delete(i.Saved, p.key())
		}
	}
	if i.Name == loopback {
		return statusOK
	}
	if err := m.backend.SetForwarding(ctx, i.Name, p.proto == "ipv6", q.value == "on"); err != nil {
		return r.backendFailed(err)
	}
	return statusOK
}

// applyAllProps makes forwarding and redirects what the properties say.
func (m *Model) applyAllProps(ctx context.Context) error {
	var errs []error
	for _, i := range m.st.Interfaces {
		if !i.Active || i.Name == loopback {
			continue
		}
		for _, proto := range []string{"ipv4", "ipv6"} {
			v, ok := i.Props[proto+" forwarding"]
			if !ok {
				v = m.prop(proto + " forwarding")
			}
			errs = append(errs, m.backend.SetForwarding(ctx, i.Name, proto == "ipv6", v == "on"))
		}
	}
	errs = append(errs, m.backend.SetRedirects(ctx, m.prop("ipv4 _send_redirects") == "1"))
	return errors.Join(errs...)
}
