package zones

// Distro names the illumos distribution whose commands the model speaks.
type Distro string

// The distributions that differ in what the model does.
const (
	OmniOS      Distro = "omnios"
	SmartOS     Distro = "smartos"
	OpenIndiana Distro = "openindiana" // also plain illumos-gate
)

// Known reports whether d is one of the distributions above.
func (d Distro) Known() bool { return d == OmniOS || d == SmartOS || d == OpenIndiana }

// gate reports whether d has illumos-gate's zone commands without Joyent's
// additions, which OmniOS took over.
func (d Distro) gate() bool { return d == OpenIndiana }

// defaultBrand is the brand of a zone made by `create` or `create -b`.
func (d Distro) defaultBrand() string {
	if d == SmartOS {
		return "joyent"
	}
	return "ipkg"
}

// globalBrand is the brand that zoneadm list shows for the global zone.
func (d Distro) globalBrand() string {
	if d == SmartOS {
		return "liveimg"
	}
	return "ipkg"
}

// lastExited reports whether zoneadmd writes ZONEPATH/lastexited.
func (d Distro) lastExited() bool { return !d.gate() }

// skipsLinks reports whether a link that cannot be assigned is left out of the
// zone instead of failing its boot.
func (d Distro) skipsLinks() bool { return d == SmartOS }

// alias is one of the short names that zonecfg has for resource controls.
type alias struct {
	name, rctl, action string
	low                uint64 // the smallest value accepted
}

// aliases returns the table of libzonecfg.c.
func (d Distro) aliases() []alias {
	all := []alias{
		{"max-lwps", "zone.max-lwps", "deny", 100},
		{"max-shm-memory", "zone.max-shm-memory", "deny", 0},
		{"max-shm-ids", "zone.max-shm-ids", "deny", 0},
		{"max-msg-ids", "zone.max-msg-ids", "deny", 0},
		{"max-sem-ids", "zone.max-sem-ids", "deny", 0},
		{"locked", "zone.max-locked-memory", "deny", 0},
		{"swap", "zone.max-swap", "deny", 0},
		{"cpu-shares", "zone.cpu-shares", "none", 0},
		{"cpu-cap", "zone.cpu-cap", "deny", 0},
		{"max-processes", "zone.max-processes", "deny", 100},
	}
	if !d.gate() {
		all = append(all,
			alias{"physical", "zone.max-physical-memory", "deny", 1 << 20},
			alias{"zfs-io-priority", "zone.zfs-io-priority", "none", 0})
	}
	return all
}

func (d Distro) alias(name string) (alias, bool) {
	for _, a := range d.aliases() {
		if a.name == name {
			return a, true
		}
	}
	return alias{}, false
}

// rctls are the zone-wide resource controls that the kernel knows.
func (d Distro) rctls() []string {
	all := []string{"zone.cpu-shares", "zone.cpu-cap", "zone.max-lwps", "zone.max-processes",
		"zone.max-msg-ids", "zone.max-sem-ids", "zone.max-shm-ids", "zone.max-shm-memory",
		"zone.max-locked-memory", "zone.max-swap", "zone.max-lofi"}
	if !d.gate() {
		all = append(all, "zone.max-physical-memory", "zone.zfs-io-priority")
	}
	if d == SmartOS {
		all = append(all, "zone.cpu-baseline", "zone.cpu-burst-time")
	}
	return all
}
