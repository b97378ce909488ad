package supervisor

import (
	"encoding/binary"
	"io"
	"os"
	"strconv"
	"time"
)

// processes lists the living processes of the zone.
func processes() []proc {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close() //nolint:errcheck // only read
	names, _ := d.Readdirnames(-1)
	var all []proc
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := readProc(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

// psinfoHead is the beginning of psinfo_t (proc(5)) of a 64-bit program: flag,
// nlwp, pid, ppid, pgid and sid, each an int; four ids; addr, size and rssize,
// which counts KiB, and a pad; the terminal and two percentages, to 88; then
// start, time and ctime, each of seconds and nanoseconds.
const (
	psinfoRSS   = 56
	psinfoTime  = 104
	psinfoCTime = 120
	psinfoHead  = 136
)

func readProc(pid int) (proc, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	f, err := os.Open(dir + "/psinfo")
	if err != nil {
		return proc{}, false
	}
	defer f.Close() //nolint:errcheck // only read
	var b [psinfoHead]byte
	if _, err := io.ReadFull(f, b[:]); err != nil {
		return proc{}, false
	}
	field := func(i int) int { return int(int32(binary.NativeEndian.Uint32(b[4*i:]))) }
	if field(1) == 0 { // no LWP is left: a zombie
		return proc{}, false
	}
	p := proc{pid: pid, ppid: field(3), pgid: field(4), sid: field(5)}
	wide := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	p.rss = wide(psinfoRSS) << 10
	for _, at := range []int{psinfoTime, psinfoCTime} {
		p.cpu += time.Duration(wide(at))*time.Second + time.Duration(wide(at+8))
	}
	p.root, _ = os.Readlink(dir + "/path/root")     //nolint:errcheck // empty says it
	p.program, _ = os.Readlink(dir + "/path/a.out") //nolint:errcheck // empty says it
	return p, true
}
