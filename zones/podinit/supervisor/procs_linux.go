package supervisor

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"
)

// processes lists the living processes. One that ends meanwhile is left out,
// and so are zombies: what waits for them is their parent's business.
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

func readProc(pid int) (proc, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	data, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return proc{}, false
	}
	p, ok := parseStat(pid, data)
	if !ok {
		return proc{}, false
	}
	p.root, _ = os.Readlink(dir + "/root")   //nolint:errcheck // empty says it
	p.program, _ = os.Readlink(dir + "/exe") //nolint:errcheck // empty says it
	return p, true
}

// userHZ is the unit of the times in stat.
const userHZ = 100

// parseStat reads proc(5)'s stat. The second field is a name in parentheses
// that may itself hold blanks and parentheses.
func parseStat(pid int, data []byte) (proc, bool) {
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return proc{}, false
	}
	f := strings.Fields(string(data[i+1:]))
	if len(f) < 4 || f[0] == "Z" || f[0] == "X" {
		return proc{}, false
	}
	p := proc{pid: pid}
	for i, into := range []*int{&p.ppid, &p.pgid, &p.sid} {
		n, err := strconv.Atoi(f[i+1])
		if err != nil {
			return proc{}, false
		}
		*into = n
	}
	// utime, stime, cutime and cstime are fields 14 to 17, rss is field 24; the
	// state, f[0], is field 3.
	if len(f) < 22 {
		return p, true
	}
	for _, ticks := range f[11:15] {
		n, err := strconv.ParseUint(ticks, 10, 63)
		if err != nil {
			return proc{}, false
		}
		p.cpu += time.Duration(n) * (time.Second / userHZ)
	}
	pages, err := strconv.ParseInt(f[21], 10, 64)
	if err != nil {
		return proc{}, false
	}
	p.rss = uint64(max(0, pages)) * uint64(os.Getpagesize())
	return p, true
}
