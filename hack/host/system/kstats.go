package system

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// statistic is one named value of a kstat, in printed form; text says that it
// is a string.
type statistic struct {
	name, value string
	text        bool
}

// kstat is one kstat. kind is its type as JSON output numbers it: 1 is named.
type kstat struct {
	module     string
	instance   int
	name       string
	class      string
	created    time.Duration // since boot
	statistics []statistic
}

// maxKstatName is the longest name of a kstat, KSTAT_STRLEN less its
// terminator.
const maxKstatName = 30

func number(name string, v uint64) statistic {
	return statistic{name, strconv.FormatUint(v, 10), false}
}

func text(name, v string) statistic { return statistic{name, v, true} }

// arcLeast is what ZFS' cache holds at the least, arc_c_min.
const arcLeast = 64 << 20

// pageSize is that of i86pc.
const pageSize = 4096

// kstats reads every kstat, in the order in which kstat(8) prints them.
func (m *Model) kstats(ctx context.Context) ([]kstat, error) {
	var all []kstat
	var used Usage
	global := Zone{Name: "global", Booted: m.bootTime()}
	all = append(all, m.zoneKstats(global, Usage{})...)
	for _, z := range m.cfg.Zones.Active(ctx) {
		u, err := m.cfg.Zones.Usage(ctx, z.ID)
		if err != nil {
			continue // it has just halted, and its kstats with it
		}
		all = append(all, m.zoneKstats(z, u)...)
		used.RSS += u.RSS
		used.Processes += u.Processes
		m.mu.Lock()
		m.spent[z.ID] = max(m.spent[z.ID], u.CPUNanoseconds)
		m.mu.Unlock()
	}
	all = append(all, m.machineKstats(used)...)
	links, err := m.cfg.Links.Stats(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		all = append(all, linkKstat(l))
	}
	slices.SortStableFunc(all, func(a, b kstat) int {
		return cmp.Or(cmp.Compare(a.module, b.module), cmp.Compare(a.instance, b.instance), cmp.Compare(a.name, b.name))
	})
	return all, nil
}

func (m *Model) bootTime() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.booted
}

// globalProcesses is how many processes the global zone is said to have.
const globalProcesses = 40

// maxProcesses is v_proc of a machine that was not tuned.
const maxProcesses = 30000

// machineKstats are those of the whole machine, whose zones use so much. What
// they do not use is free: there is no kernel and no cache here that would.
func (m *Model) machineKstats(used Usage) []kstat {
	boot := m.bootTime()
	pages := m.cfg.Memory / pageSize
	free := (m.cfg.Memory - min(m.cfg.Memory, used.RSS)) / pageSize
	up := uint64(m.now().Sub(boot))
	var busy uint64
	m.mu.Lock()
	for _, n := range m.spent {
		busy += n
	}
	m.mu.Unlock()
	busy /= uint64(m.cfg.CPUs)
	all := []kstat{
		{module: "unix", name: "system_misc", class: "misc", statistics: []statistic{
			number("avenrun_15min", 0), number("avenrun_1min", 0), number("avenrun_5min", 0),
			number("boot_time", uint64(boot.Unix())), number("ncpus", uint64(m.cfg.CPUs)),
			number("nproc", uint64(globalProcesses+used.Processes)),
		}},
		{module: "unix", name: "system_pages", class: "pages", statistics: []statistic{
			number("freemem", free), number("pagesfree", free), number("pagestotal", pages), number("physmem", pages),
		}},
		{module: "unix", name: "var", class: "misc", statistics: []statistic{
			number("v_maxup", maxProcesses-5), number("v_maxupttl", maxProcesses-1), number("v_proc", maxProcesses),
		}},
		{module: "zfs", name: "arcstats", class: "misc", statistics: []statistic{
			number("c", arcLeast), number("c_max", m.cfg.Memory/2), number("c_min", arcLeast), number("size", arcLeast),
		}},
	}
	for i := range m.cfg.CPUs {
		all = append(all, kstat{module: "cpu_info", instance: i, name: fmt.Sprintf("cpu_info%d", i), class: "misc", statistics: []statistic{
			text("brand", "Simulated processor"), number("chip_id", 0), number("clock_MHz", 1000), number("core_id", uint64(i)),
			text("cpu_type", "i386"), text("fpu_type", "i387 compatible"), text("implementation", "x86 (simulated clock 1000 MHz)"),
			text("state", "on-line"), number("state_begin", uint64(boot.Unix())),
		}}, kstat{module: "cpu", instance: i, name: "sys", class: "misc", statistics: []statistic{
			number("cpu_nsec_dtrace", 0), number("cpu_nsec_idle", up-min(up, busy)), number("cpu_nsec_intr", 0),
			number("cpu_nsec_kernel", 0), number("cpu_nsec_user", busy),
		}})
	}
	return all
}

// zoneKstats are those of one zone. A limit that is not set is the largest
// number there is, and has no kstat of module caps where illumos makes none.
func (m *Model) zoneKstats(z Zone, u Usage) []kstat {
	name := z.Name[:min(len(z.Name), maxKstatName)]
	since := max(0, z.Booted.Sub(m.bootTime()))
	if z.Booted.IsZero() {
		since = m.now().Sub(m.bootTime())
	}
	boot := uint64(0)
	if !z.Booted.IsZero() {
		boot = uint64(z.Booted.Unix())
	}
	memory := []statistic{
		number("anon_alloc_fail", u.AllocFailures), number("anonpgin", 0), number("execpgin", 0), number("fspgin", 0), number("pgpgin", 0),
	}
	if m.cfg.Distro != "openindiana" {
		memory = append(memory, number("nover", 0), number("pagedout", 0), number("physcap", orMax(z.Caps.Physical)),
			number("rss", u.RSS), number("swap", u.Swap), number("swapcap", orMax(z.Caps.Swap)))
	}
	zone := func(module, kstatName, class string, s ...statistic) kstat {
		return kstat{module: module, instance: z.ID, name: kstatName, class: class, created: since, statistics: append(s, text("zonename", z.Name))}
	}
	all := []kstat{
		zone("zones", name, "zone_misc",
			number("avenrun_15min", 0), number("avenrun_1min", 0), number("avenrun_5min", 0), number("boot_time", boot),
			number("forkfail_cap", 0), number("forkfail_misc", 0), number("forkfail_nomem", 0), number("forkfail_noproc", 0),
			number("init_pid", uint64(z.InitPID)), number("nested_interp", 0),
			number("nsec_sys", u.SystemNanoseconds), number("nsec_user", u.CPUNanoseconds-u.SystemNanoseconds),
			number("nsec_waitrq", u.CappedNanoseconds)),
		zone("memory_cap", name, "zone_memory_cap", memory...),
	}
	if z.Caps.CPU != 0 {
		usage, most := m.cpuUsage(z, u)
		above := u.CappedNanoseconds / 1e9
		below := uint64(max(0, m.now().Sub(z.Booted)).Seconds())
		all = append(all, zone("caps", fmt.Sprintf("cpucaps_zone_%d", z.ID), "zone_caps",
			number("above_sec", above), number("below_sec", below-min(below, above)), number("maxusage", most), number("nwait", 0), number("usage", usage),
			number("value", uint64(z.Caps.CPU))))
	}
	if m.cfg.Distro == "omnios" {
		all = append(all, zone("caps", fmt.Sprintf("physicalmem_zone_%d", z.ID), "zone_caps",
			number("usage", u.RSS), number("value", orMax(z.Caps.Physical))))
	}
	for _, c := range []struct {
		name         string
		usage, limit uint64
	}{
		{"lockedmem", 0, z.Caps.Locked}, {"swapresv", u.Swap, z.Caps.Swap},
		{"nprocs", uint64(u.Processes), orDefault(z.Caps.MaxProcesses, maxInt32)},
	} {
		all = append(all, zone("caps", fmt.Sprintf("%s_zone_%d", c.name, z.ID), "zone_caps",
			number("usage", c.usage), number("value", orMax(c.limit))))
	}
	return all
}

// cpuSample is what a zone had used at some time.
type cpuSample struct {
	booted time.Time // of the zone: ids are never given twice, but models can be loaded
	at     time.Time
	used   uint64
	rate   uint64 // percent of one CPU, up to then
	most   uint64
}

// cpuUsage is the zone's use of processors in percent of one, since it was
// looked at last, but for at least a second.
func (m *Model) cpuUsage(z Zone, u Usage) (usage, most uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.samples == nil {
		m.samples = map[int]cpuSample{}
	}
	s, seen := m.samples[z.ID]
	if !seen || !s.booted.Equal(z.Booted) {
		s = cpuSample{booted: z.Booted, at: z.Booted}
	}
	if now := m.now(); now.Sub(s.at) >= time.Second {
		s.rate = (u.CPUNanoseconds - min(s.used, u.CPUNanoseconds)) * 100 / uint64(now.Sub(s.at))
		s.at, s.used, s.most = now, u.CPUNanoseconds, max(s.most, s.rate)
	}
	m.samples[z.ID] = s
	return s.rate, s.most
}

const maxInt32 = 1<<31 - 1

// orMax gives "no limit" as the kernel does.
func orMax(n uint64) uint64 { return orDefault(n, ^uint64(0)) }

func orDefault(n, otherwise uint64) uint64 {
	if n == 0 {
		return otherwise
	}
	return n
}

func linkKstat(l Link) kstat {
	state := uint64(0)
	if l.Up {
		state = 1
	}
	return kstat{module: "link", name: l.Name[:min(len(l.Name), maxKstatName)], class: "net", statistics: []statistic{
		number("brdcstrcv", l.Broadcasts), number("brdcstxmt", 0), number("collisions", 0),
		number("ierrors", l.InErrors), number("ifspeed", l.BitsPerSecond),
		number("ipackets", l.InPackets&0xffffffff), number("ipackets64", l.InPackets),
		number("link_duplex", 2), number("link_state", state), number("multircv", l.Multicast), number("multixmt", 0),
		number("norcvbuf", 0), number("noxmtbuf", 0), number("obytes", l.OutBytes&0xffffffff), number("obytes64", l.OutBytes),
		number("oerrors", l.OutErrors), number("opackets", l.OutPackets&0xffffffff), number("opackets64", l.OutPackets),
		number("rbytes", l.InBytes&0xffffffff), number("rbytes64", l.InBytes), number("unknowns", 0),
	}}
}
