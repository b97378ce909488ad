package supervisor

import (
	"encoding/binary"
	"io"
	"os"
	"strconv"
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

// psinfoHead is the beginning of psinfo_t (proc(5)): flag, nlwp, pid, ppid,
// pgid, sid, each an int.
const psinfoHead = 6 * 4

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
	p.root, _ = os.Readlink(dir + "/path/root")     //nolint:errcheck // empty says it
	p.program, _ = os.Readlink(dir + "/path/a.out") //nolint:errcheck // empty says it
	return p, true
}
