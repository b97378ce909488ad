package datalink

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
)

func (r *dladmRun) createEtherstub(ctx context.Context, args []string) int {
	opts, operands, ok := r.options(args, "tR:")
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
	if len(operands) != 1 {
		return r.usage()
	}
	name := operands[0]
	if code := r.checkNewName(name); code != 0 {
		return code
	}
	const what = "etherstub creation failed"
	if r.m.link(name) != nil {
		return r.dieStatus(statusExist, what)
	}
	l := &link{Name: name, Class: classEtherstub, MTU: 9000, Active: true, Persistent: persistent}
	if err := r.m.create(ctx, l); err != nil {
		return r.dieBackend(err, what)
	}
	l.ID = r.m.nextID()
	r.m.st.Links = append(r.m.st.Links, l)
	return 0
}

// checkNewName refuses names that cannot be given to a link.
func (r *dladmRun) checkNewName(name string) int {
	if len(name) >= maxLinkName {
		return r.die("link name too long '%s'", name)
	}
	if !validLinkName(name) {
		return r.die("invalid link name '%s'", name)
	}
	return 0
}

// vnicRequest is what the options of create-vnic ask for.
type vnicRequest struct {
	persistent bool
	over       string
	macType    string // auto, fixed, random, factory or vrrp; "" when -m is missing
	mac        net.HardwareAddr
	prefix     net.HardwareAddr
	slot, vid  int
	force      bool
	vrrp       bool // -V or -A was given
	props      []propArg
}

func (r *dladmRun) createVNIC(ctx context.Context, args []string) int {
	opts, operands, ok := r.options(args, "tfR:l:m:n:p:r:v:V:A:H")
	if !ok {
		return 1
	}
	q := vnicRequest{persistent: true, slot: -1}
	for _, o := range opts {
		if code := r.vnicOption(&q, o); code != 0 {
			return code
		}
	}
	text, fits := joinProps(opts)
	switch {
	case !fits:
		return r.die("property list too long '%s'", text[:1023])
	case q.force && q.vid == 0:
		return r.die("-f option can only be used with -v")
	}
	if q.macType == "" {
		q.macType = "auto"
	}
	if q.prefix != nil && q.macType != "random" && q.macType != "fixed" || q.vrrp != (q.macType == "vrrp") ||
		q.over == "" || q.slot != -1 && q.macType != "factory" || len(operands) != 1 {
		return r.usage()
	}
	if code := r.checkNewName(operands[0]); code != 0 {
		return code
	}
	if r.m.link(q.over) == nil {
		return r.die("invalid link name '%s'", q.over)
	}
	if q.props, ok = parseProps(text, false); !ok {
		return r.die("invalid vnic property")
	}
	return r.makeVNIC(ctx, operands[0], q)
}

// vnicOption reads one option of create-vnic.
func (r *dladmRun) vnicOption(q *vnicRequest, o option) int {
	switch o.name {
	case 't':
		q.persistent = false
	case 'f':
		q.force = true
	case 'R':
		return r.altroot()
	case 'l':
		if len(o.value) >= maxLinkName {
			return r.die("link name too long")
		}
		q.over = o.value
	case 'm':
		return r.macOption(q, o.value)
	case 'n':
		n, err := strconv.Atoi(o.value)
		if err != nil {
			return r.die("invalid slot number")
		}
		q.slot = n
	case 'r':
		mac, ok := parseMAC(o.value)
		if !ok {
			return r.die("invalid MAC address")
		}
		q.prefix = mac
	case 'V', 'A':
		q.vrrp = true
	case 'v':
		if q.vid != 0 {
			return r.die("the option -v cannot be specified more than once")
		}
		n, err := strconv.Atoi(o.value)
		if err != nil || n < 1 || n > 4094 {
			return r.die("invalid VLAN identifier '%s'", o.value)
		}
		q.vid = n
	}
	return 0
}

func (r *dladmRun) macOption(q *vnicRequest, value string) int {
	if q.macType != "" {
		return r.die("cannot specify -m option twice")
	}
	switch value {
	case "fixed":
		return r.die("'fixed' is not a valid MAC address")
	case "auto", "random", "factory", "vrrp":
		q.macType = value
	default:
		mac, ok := parseMAC(value)
		if !ok {
			return r.die("invalid MAC address")
		}
		q.macType, q.mac = "fixed", mac
	}
	return 0
}

// makeVNIC does what dladm_vnic_create() and the kernel do.
func (r *dladmRun) makeVNIC(ctx context.Context, name string, q vnicRequest) int {
	m := r.m
	fail := func(s status) int { return r.dieStatus(s, "vnic creation over %s failed", q.over) }
	over := m.link(q.over)
	switch {
	case over.Class == classVNIC:
		return fail(statusBadArg)
	case m.link(name) != nil:
		return fail(statusExist)
	case !over.Active:
		return fail(statusNotFound)
	}
	if over.Class == classPhys || q.vid != 0 || q.vrrp {
		r.Errf("%sonly VNICs over an etherstub, without VLAN and VRRP, are simulated\n", simulatedRefusal)
		return fail(statusNotSup)
	}
	l := &link{Name: name, Class: classVNIC, Over: q.over, MTU: over.MTU, Active: true, Persistent: q.persistent,
		Props: map[string]string{}, Saved: map[string]string{}}
	if s := m.chooseMAC(l, q); s != statusOK {
		return fail(s)
	}
	for _, p := range q.props {
		v, s := m.checkProp(l, p.name, p.values)
		if s == statusNotFound {
			s = "invalid property" // DLADM_STATUS_BADPROP
		}
		if s == statusOK && p.name == "zone" {
			s = m.zoneAtCreation()
		}
		if s != statusOK {
			return fail(s)
		}
		r.noteIdle(p.name, v)
		storeProp(l, p.name, v, q.persistent)
	}
	if err := m.create(ctx, l); err != nil {
		return r.dieBackend(err, "vnic creation over %s failed", q.over)
	}
	l.ID = m.nextID()
	m.st.Links = append(m.st.Links, l)
	return 0
}

// zoneAtCreation refuses -p zone=: the model learns of zones only when they
// boot, so it cannot know whether the zone runs.
func (m *Model) zoneAtCreation() status { return statusNotSup }

// chooseMAC sets the address of a new VNIC.
func (m *Model) chooseMAC(l *link, q vnicRequest) status {
	switch q.macType {
	case "factory":
		return statusNoFactory
	case "fixed":
		if len(q.mac) != 6 {
			return statusBadMACLen
		}
		if q.mac[0]&1 != 0 {
			return statusBadMAC
		}
		l.MAC, l.MACType = q.mac.String(), "fixed"
		if m.macUsed(l.Over, l.MAC) {
			return statusMACInUse
		}
		return statusOK
	}
	// Random addresses begin with 2:8:20 and are drawn here from a sequence
	// that looks random, so that a host's transcript is the same every time.
	prefix := net.HardwareAddr{0x02, 0x08, 0x20}
	if q.prefix != nil {
		prefix = q.prefix
		if len(prefix) >= 6 || prefix[0]&1 != 0 {
			return statusBadPrefix
		}
	}
	for {
		m.st.NextMAC++
		x := m.st.NextMAC * 0x9E3779B1
		mac := append(slices.Clone(prefix), byte(x>>8), byte(x>>16), byte(x>>24), byte(x), byte(x>>12))[:6]
		if l.MAC, l.MACType = mac.String(), "random"; !m.macUsed(l.Over, l.MAC) {
			return statusOK
		}
	}
}

// macUsed says whether another VNIC over the same link has the address.
func (m *Model) macUsed(over, mac string) bool {
	for _, l := range m.st.Links {
		if l.Over == over && l.MAC == mac {
			return true
		}
	}
	return false
}

func (r *dladmRun) deleteVNIC(ctx context.Context, args []string) int {
	return r.deleteLink(ctx, args, classVNIC)
}

func (r *dladmRun) deleteEtherstub(ctx context.Context, args []string) int {
	return r.deleteLink(ctx, args, classEtherstub)
}

// deleteLink is delete-vnic and delete-etherstub, which are one function.
func (r *dladmRun) deleteLink(ctx context.Context, args []string, want class) int {
	opts, operands, ok := r.options(args, "R:t")
	if !ok {
		return 1
	}
	both := true // the running and the persistent link
	for _, o := range opts {
		switch o.name {
		case 't':
			both = false
		case 'R':
			return r.altroot()
		}
	}
	if len(operands) != 1 {
		return r.usage()
	}
	l := r.m.link(operands[0])
	if l == nil {
		return r.die("invalid link name '%s'", operands[0])
	}
	const what = "vnic deletion failed"
	switch {
	case l.Class == classPhys:
		return r.dieStatus(statusBadArg, what)
	case l.Class != want && l.Class == classVNIC:
		return r.die("'%s' is not an etherstub", l.Name)
	case l.Class != want:
		return r.die("'%s' is not a vnic", l.Name)
	}
	if l.Active {
		if r.m.busy(l) {
			return r.dieStatus(statusBusy, what)
		}
		if err := r.m.destroy(ctx, l); err != nil {
			return r.dieBackend(err, what)
		}
		l.Active, l.Props = false, nil
	} else if !both {
		return r.dieStatus(statusNotFound, what)
	}
	if both {
		l.Persistent = false
	}
	if !l.Persistent {
		r.m.st.Links = slices.DeleteFunc(r.m.st.Links, func(x *link) bool { return x == l })
	}
	return 0
}

// busy says whether something in the kernel holds the link.
func (m *Model) busy(l *link) bool {
	if l.Zone != "" || m.plumbed(l.Name) {
		return true
	}
	for _, x := range m.st.Links {
		if x.Active && x.Over == l.Name {
			return true
		}
	}
	return false
}

// create makes a link real, with its properties.
func (m *Model) create(ctx context.Context, l *link) error {
	switch l.Class {
	case classEtherstub:
		return m.backend.CreateStub(ctx, l.Name)
	case classVNIC:
		if err := m.backend.CreateVNIC(ctx, l.vnic()); err != nil {
			return err
		}
		g := l.guard()
		if !g.MACNospoof && !g.Restricted && !g.IPNospoof && g.BitsPerSecond == 0 {
			return nil
		}
		if err := m.backend.SetGuard(ctx, l.Name, g); err != nil {
			return errors.Join(err, m.backend.DeleteVNIC(ctx, l.Name))
		}
	}
	return nil
}

// destroy takes a link away.
func (m *Model) destroy(ctx context.Context, l *link) error {
	switch l.Class {
	case classEtherstub:
		return m.backend.DeleteStub(ctx, l.Name)
	case classVNIC:
		return m.backend.DeleteVNIC(ctx, l.Name)
	}
	return nil
}

func (l *link) vnic() VNIC {
	mac, _ := parseMAC(l.MAC)
	return VNIC{Name: l.Name, Over: l.Over, MAC: mac, MTU: l.mtu()}
}

// mtu is the MTU in use: the property, else what the link was made with.
func (l *link) mtu() int {
	if n, err := strconv.Atoi(l.Props["mtu"]); err == nil {
		return n
	}
	return l.MTU
}

// guard is what the link's properties allow it to send.
func (l *link) guard() Guard {
	var g Guard
	g.MAC, _ = parseMAC(l.MAC)
	for p := range strings.SplitSeq(l.Props["protection"], ",") {
		switch p {
		case "mac-nospoof":
			g.MACNospoof = true
		case "restricted":
			g.Restricted = true
		case "ip-nospoof":
			g.IPNospoof = true
		}
	}
	g.Allowed = parseAllowed(l.Props["allowed-ips"])
	g.BitsPerSecond = printedBandwidth(l.Props["maxbw"])
	return g
}
