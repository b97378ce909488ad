package datalink

import (
	"context"
	"strconv"
	"strings"
)

func (r *dladmRun) linkFields() []field {
	f := []field{{"LINK", 12}, {"CLASS", 10}, {"MTU", 7}, {"STATE", 9}, {"BRIDGE", 11}, {"OVER", 32}}
	if r.m.distro == "openindiana" {
		return f
	}
	return append(f, field{"ZONE", 20})
}

var statFields = []field{{"LINK", 15}, {"IPACKETS", 10}, {"RBYTES", 8}, {"IERRORS", 10}, {"OPACKETS", 12}, {"OBYTES", 12}, {"OERRORS", 8}}

// showOptions are the options that the show subcommands share.
type showOptions struct {
	parsable, persistent, stats, zone bool
	fields                            string
	hasFields                         bool
	over                              string
}

// readShow reads them; it returns false after an error was printed.
func (r *dladmRun) readShow(opts []option) (showOptions, bool) {
	var s showOptions
	seen := map[byte]bool{}
	for _, o := range opts {
		if seen[o.name] && strings.IndexByte("psPi", o.name) >= 0 {
			r.die("the option -%c cannot be specified more than once", o.name)
			return s, false
		}
		seen[o.name] = true
		switch o.name {
		case 'p':
			s.parsable = true
		case 'P':
			s.persistent = true
		case 's':
			s.stats = true
		case 'Z':
			s.zone = true
		case 'o':
			s.fields, s.hasFields = o.value, true
		case 'l':
			s.over = o.value
		case 'i':
			if n, err := strconv.Atoi(o.value); err != nil || n <= 0 {
				r.die("invalid interval value '%s'", o.value)
				return s, false
			}
		}
	}
	switch {
	case seen['i'] && !s.stats:
		r.die("the option -i can be used only with -s")
		return s, false
	case seen['i']:
		r.Errf("%sstatistics at intervals are not simulated\n", simulatedRefusal)
		return s, false
	}
	return s, true
}

// zoneFlag is the letter of the option that adds the column ZONE; OmniOS has it.
func (r *dladmRun) zoneFlag() string {
	if r.m.distro == "omnios" {
		return "Z"
	}
	return ""
}

func (r *dladmRun) showLink(ctx context.Context, args []string) int {
	opts, operands, ok := r.options(args, "pPsi:o:"+r.zoneFlag())
	if !ok {
		return 1
	}
	s, ok := r.readShow(opts)
	if !ok {
		return 1
	}
	if s.stats && s.persistent {
		return r.die("the option -P cannot be used with -s")
	}
	if len(operands) > 1 {
		return r.usage()
	}
	links := r.m.st.Links
	if len(operands) == 1 {
		l := r.m.link(operands[0])
		if l == nil {
			return r.dieStatus(statusNotFound, "link %s is not valid", operands[0])
		}
		if s.persistent && !l.Persistent {
			return r.dieStatus(statusBadArg, "link %s is a temporary link", l.Name)
		}
		if !s.persistent && !l.Active {
			return r.dieStatus(statusBadArg, "link %s is temporarily removed", l.Name)
		}
		links = []*link{l}
	}
	if s.parsable && !s.hasFields {
		return r.die("-p requires -o")
	}
	if s.parsable && strings.EqualFold(s.fields, "all") {
		return r.die("\"-o all\" is invalid with -p")
	}
	if s.stats {
		return r.linkStats(ctx, links, s)
	}
	return r.listLinks(links, s)
}

func (r *dladmRun) listLinks(links []*link, s showOptions) int {
	spec := s.fields
	if !s.hasFields || strings.EqualFold(spec, "all") {
		spec = "link,class,mtu,state,bridge,over"
		if s.persistent {
			spec = "link,class,bridge,over"
		}
		if s.zone {
			spec = "link,zone,class,mtu,state,bridge,over"
		}
	}
	t := newTable(r.Invocation, "dladm", spec, r.linkFields(), s.parsable, true)
	if t == nil {
		return 1
	}
	for _, l := range links {
		if s.persistent && l.Persistent || !s.persistent && l.Active {
			t.row(func(c string) string { return l.showLink(c, s.persistent) })
		}
	}
	return 0
}

// showLink is what show-link prints in a column.
func (l *link) showLink(column string, persistent bool) string {
	switch column {
	case "LINK":
		return l.Name
	case "CLASS":
		return string(l.Class)
	case "OVER":
		return l.Over
	case "ZONE":
		return zoneOr(l.Zone)
	}
	if persistent {
		return ""
	}
	switch column {
	case "MTU":
		return strconv.Itoa(l.mtu())
	case "STATE":
		if l.Class == classEtherstub {
			return "unknown"
		}
		return "up"
	}
	return ""
}

func zoneOr(zone string) string {
	if zone == "" {
		return "global"
	}
	return zone
}

func (r *dladmRun) linkStats(ctx context.Context, links []*link, s showOptions) int {
	spec := s.fields
	if !s.hasFields {
		spec = "all"
	}
	if strings.EqualFold(spec, "all") {
		spec = "link,ipackets,rbytes,ierrors,opackets,obytes,oerrors"
	}
	t := newTable(r.Invocation, "dladm", spec, statFields, s.parsable, false)
	if t == nil {
		return 1
	}
	for _, l := range links {
		if !l.Active {
			continue
		}
		c, err := r.m.backend.Counters(ctx, l.Name)
		if err != nil {
			return r.dieBackend(err, "failed to show link %s", l.Name)
		}
		t.row(func(column string) string { return statColumn(l.Name, c, column) })
	}
	return 0
}

func statColumn(name string, c Counters, column string) string {
	n := uint64(0)
	switch column {
	case "LINK":
		return name
	case "IPACKETS":
		n = c.InPackets
	case "RBYTES":
		n = c.InBytes
	case "IERRORS":
		n = c.InErrors
	case "OPACKETS":
		n = c.OutPackets
	case "OBYTES":
		n = c.OutBytes
	case "OERRORS":
		n = c.OutErrors
	}
	return strconv.FormatUint(n, 10)
}

func (r *dladmRun) showVNIC(ctx context.Context, args []string) int {
	return r.showVNICs(ctx, args, classVNIC)
}

func (r *dladmRun) showEtherstub(ctx context.Context, args []string) int {
	return r.showVNICs(ctx, args, classEtherstub)
}

// showVNICs is show-vnic and show-etherstub, which are one function. A name
// of the other kind prints nothing and succeeds.
func (r *dladmRun) showVNICs(ctx context.Context, args []string, want class) int {
	opts, operands, ok := r.options(args, "pPl:si:o:"+r.zoneFlag())
	if !ok {
		return 1
	}
	s, ok := r.readShow(opts)
	if !ok {
		return 1
	}
	if s.over != "" && want == classEtherstub {
		return r.die("option not supported for this command")
	}
	links := r.m.st.Links
	switch len(operands) {
	case 0:
	case 1:
		l := r.m.link(operands[0])
		if l == nil {
			return r.dieStatus(statusNotFound, "invalid vnic name '%s'", operands[0])
		}
		if l.Class == classPhys || s.persistent && !l.Persistent || !s.persistent && !l.Active {
			return r.dieStatus(statusNotFound, "failed to show vnic '%s'", operands[0])
		}
		links = []*link{l}
	default:
		return r.usage()
	}
	if s.over != "" && r.m.link(s.over) == nil {
		return r.dieStatus(statusNotFound, "invalid link name '%s'", s.over)
	}
	var chosen []*link
	for _, l := range links {
		if l.Class == want && (s.over == "" || l.Over == s.over) && (s.persistent && l.Persistent || !s.persistent && l.Active) {
			chosen = append(chosen, l)
		}
	}
	if s.stats {
		return r.linkStats(ctx, chosen, s)
	}
	return r.listVNICs(chosen, s, want)
}

func (r *dladmRun) listVNICs(links []*link, s showOptions, want class) int {
	fields := []field{{"LINK", 13}, {"OVER", 11}, {"SPEED", 6}, {"MACADDRESS", 18}, {"MACADDRTYPE", 12}, {"VID", 5}}
	if r.m.distro != "openindiana" {
		fields = append(fields, field{"ZONE", 20})
	}
	spec := s.fields
	switch {
	case want == classEtherstub && (!s.hasFields || strings.EqualFold(spec, "all")):
		spec = "link"
	case s.zone && !s.hasFields:
		spec = "link,zone,over,speed,macaddress,macaddrtype,vid"
	}
	t := newTable(r.Invocation, "dladm", spec, fields, s.parsable, false)
	if t == nil {
		return 1
	}
	for _, l := range links {
		t.row(func(c string) string { return l.showVNIC(c) })
	}
	return 0
}

// showVNIC is what show-vnic prints in a column.
func (l *link) showVNIC(column string) string {
	if column == "LINK" {
		return l.Name
	}
	if l.Class == classEtherstub {
		return ""
	}
	switch column {
	case "OVER":
		return l.Over
	case "SPEED":
		return "0" // an etherstub has none
	case "MACADDRESS":
		return printMAC(l.MAC)
	case "MACADDRTYPE":
		return l.MACType
	case "VID":
		return strconv.Itoa(l.VID)
	case "ZONE":
		return zoneOr(l.Zone)
	}
	return ""
}

var physFields = []field{{"LINK", 13}, {"MEDIA", 21}, {"STATE", 11}, {"SPEED", 7}, {"DUPLEX", 10}, {"DEVICE", 13}}
var physMACFields = []field{{"LINK", 13}, {"SLOT", 9}, {"ADDRESS", 19}, {"INUSE", 5}, {"CLIENT", 13}}

func (r *dladmRun) showPhys(_ context.Context, args []string) int {
	opts, operands, ok := r.options(args, "pPo:mH")
	if !ok {
		return 1
	}
	spec, parsable, macs := "", false, false
	for _, o := range opts {
		switch o.name {
		case 'p':
			parsable = true
		case 'o':
			spec = o.value
		case 'm':
			macs = true
		case 'H':
			r.Errf("%sdladm show-phys -H is not simulated\n", simulatedRefusal)
			return 1
		}
	}
	if len(operands) > 1 {
		return r.usage()
	}
	if parsable && spec == "" {
		return r.die("-p requires -o")
	}
	links := r.m.st.Links
	if len(operands) == 1 {
		l := r.m.link(operands[0])
		if l == nil {
			return r.dieStatus(statusNotFound, "link %s is not valid", operands[0])
		}
		links = []*link{l}
	}
	fields := physFields
	if macs {
		fields = physMACFields
	}
	t := newTable(r.Invocation, "dladm", spec, fields, parsable, false)
	if t == nil {
		return 1
	}
	for _, l := range links {
		if l.Class == classPhys {
			t.row(l.showPhys)
		}
	}
	return 0
}

// showPhys is what show-phys prints in a column, with and without -m.
func (l *link) showPhys(column string) string {
	switch column {
	case "LINK", "DEVICE", "CLIENT":
		return l.Name
	case "MEDIA":
		return "Ethernet"
	case "STATE":
		return "up"
	case "SPEED":
		return "1000"
	case "DUPLEX":
		return "full"
	case "SLOT":
		return "primary"
	case "ADDRESS":
		return printMAC(l.MAC)
	case "INUSE":
		return "yes"
	}
	return ""
}
