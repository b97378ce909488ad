package globalzone

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"reddwarf.io/reddwarf/zones/command"
)

// Usage is what a machine and its zones have used, as kstat(8) tells. Counters
// run since the machine, the zone or the link came up.
type Usage struct {
	At        time.Time
	Booted    time.Time
	CPU       time.Duration // of all processors together
	Memory    int64         // bytes that the machine has
	Free      int64         // bytes of them that hold nothing
	Available int64         // bytes of memory that could be given out: free, or in ZFS' cache and more than that insists on
	Processes int64
	MaxProcs  int64 // 0 if the kernel does not say

	Zones map[int]ZoneUsage // by the zone's number, which is new at every boot
	Links map[string]LinkUsage
}

// ZoneUsage is what one zone has used since it was booted.
type ZoneUsage struct {
	CPU       time.Duration
	Processes int64

	// RSS is in bytes, and HasRSS false where the kernel keeps no such count.
	RSS    int64
	HasRSS bool

	// Swap is what the zone's processes have reserved, in bytes: anonymous
	// memory and tmpfs.
	Swap int64

	// Refused counts the allocations that zone.max-swap made fail. No process
	// is killed for want of memory here; it is told ENOMEM.
	Refused uint64
}

// LinkUsage is what has passed a data link, seen from the link's own side.
type LinkUsage struct {
	RxBytes, TxBytes, RxErrors, TxErrors uint64
}

// pageSize is the unit of the kernel's page counts; illumos has no other on
// amd64.
const pageSize = 4096

// usageKstats select what Usage is made of. A name that a release does not
// have matches nothing, which is no error.
var usageKstats = []string{
	"cpu::sys:cpu_nsec_user", "cpu::sys:cpu_nsec_kernel",
	"unix:0:system_pages:freemem", "unix:0:system_pages:physmem", "zfs:0:arcstats:size", "zfs:0:arcstats:c_min",
	"unix:0:system_misc:nproc", "unix:0:system_misc:boot_time", "unix:0:var:v_proc",
	"zones:::nsec_user", "zones:::nsec_sys",
	"memory_cap:::rss", "memory_cap:::anon_alloc_fail",
	"caps::swapresv_zone_*:usage", "caps::nprocs_zone_*:usage",
}

// ReadUsage asks kstat(8) once for everything. links is a pattern of the links
// to tell about, in kstat's form, such as rdw*.
func ReadUsage(ctx context.Context, r command.Runner, links string) (Usage, error) {
	args := []string{"-p"}
	args = append(args, usageKstats...)
	for _, s := range []string{"rbytes64", "obytes64", "ierrors", "oerrors"} {
		args = append(args, "link:0:"+links+":"+s)
	}
	out, err := r.Run(ctx, command.New("kstat", args...))
	at := time.Now()
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	u, err := parseUsage(out)
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	u.At = at
	return u, nil
}

// ReadRefused returns how many allocations of a running zone its cap on swap
// has made fail.
func ReadRefused(ctx context.Context, r command.Runner, zone int) (uint64, error) {
	out, err := r.Run(ctx, command.New("kstat", "-p", fmt.Sprintf("memory_cap:%d::anon_alloc_fail", zone)))
	if err != nil {
		return 0, fmt.Errorf("read memory of zone %d: %w", zone, err)
	}
	u, err := parseUsage(out)
	if err != nil {
		return 0, fmt.Errorf("read memory of zone %d: %w", zone, err)
	}
	return u.Zones[zone].Refused, nil
}

// parseUsage reads the lines module:instance:name:statistic<TAB>value of
// kstat -p.
func parseUsage(out []byte) (Usage, error) {
	u := Usage{Zones: map[int]ZoneUsage{}, Links: map[string]LinkUsage{}}
	var arc, arcLeast uint64
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		name, value, ok := strings.Cut(line, "\t")
		key := strings.Split(name, ":")
		if !ok || len(key) != 4 {
			return Usage{}, fmt.Errorf("kstat printed %q", line)
		}
		instance, err := strconv.Atoi(key[1])
		if err != nil {
			return Usage{}, fmt.Errorf("kstat printed %q: instance: %w", line, err)
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("kstat printed %q: value: %w", line, err)
		}
		switch key[0] {
		case "cpu":
			u.CPU += time.Duration(n)
		case "zones", "memory_cap", "caps":
			z := u.Zones[instance]
			z.add(key[2], key[3], n)
			u.Zones[instance] = z
		case "link":
			l := u.Links[key[2]]
			l.add(key[3], n)
			u.Links[key[2]] = l
		default:
			switch key[3] {
			case "freemem":
				u.Free = int64(n) * pageSize
			case "physmem":
				u.Memory = int64(n) * pageSize
			case "boot_time":
				u.Booted = time.Unix(int64(n), 0)
			case "size":
				arc = n
			case "c_min":
				arcLeast = n
			case "nproc":
				u.Processes = int64(n)
			case "v_proc":
				u.MaxProcs = int64(n)
			}
		}
	}
	u.Available = u.Free + int64(arc-min(arc, arcLeast))
	return u, nil
}

// add takes in one statistic of a zone.
func (z *ZoneUsage) add(kstat, statistic string, n uint64) {
	switch statistic {
	case "nsec_user", "nsec_sys":
		z.CPU += time.Duration(n)
	case "rss":
		z.RSS, z.HasRSS = int64(n), true
	case "anon_alloc_fail":
		z.Refused = n
	case "usage":
		if strings.HasPrefix(kstat, "nprocs_") {
			z.Processes = int64(n)
		} else {
			z.Swap = int64(n)
		}
	}
}

// add takes in one statistic of a link.
func (l *LinkUsage) add(statistic string, n uint64) {
	switch statistic {
	case "rbytes64":
		l.RxBytes = n
	case "obytes64":
		l.TxBytes = n
	case "ierrors":
		l.RxErrors = n
	case "oerrors":
		l.TxErrors = n
	}
}
