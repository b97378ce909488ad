package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// cost is what the parts of the installation use, read from /proc: the lab sees
// the processes of its hosts.
type cost struct {
	agent                                                 memory
	podinitPSS, podinitAnon                               int64 // bytes, of all
	podinits                                              int
	agentCPU, commandCPU, hostCPU, podinitCPU, clusterCPU time.Duration
	zoneCPU                                               time.Duration // what podinits have waited for: the zones' programs that have ended
}

// memory is one process's, in bytes. Of the proportional set size, shared pages
// count once in all.
type memory struct{ rss, pss, anon int64 }

func (m memory) String() string {
	return fmt.Sprintf("%.1f MiB RSS (%.1f PSS, %.1f of it not of files)", mib(m.rss), mib(m.pss), mib(m.anon))
}

func (b *bench) cost() (cost, error) {
	var c cost
	found := false
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return c, err
	}
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue // it has ended
		}
		argv := strings.Split(string(cmdline), "\x00")
		own, children := cpuTime(dir)
		switch {
		case len(argv) > 1 && filepath.Base(argv[0]) == "reddwarf" && argv[1] == "node":
			found = true
			c.agent = memoryOf(dir)
			c.agentCPU, c.commandCPU = own, children
		case argv[0] == "/sbin/init":
			c.podinits++
			m := memoryOf(dir)
			c.podinitPSS, c.podinitAnon = c.podinitPSS+m.pss, c.podinitAnon+m.anon
			c.podinitCPU += own
			c.zoneCPU += children
		case strings.HasPrefix(argv[0], "(host-supervisor"):
			c.hostCPU += own + children
		case filepath.Base(argv[0]) == "devcluster" && len(argv) > 1 && argv[1] == "up":
			c.clusterCPU += own + children
		}
	}
	if !found {
		return c, errors.New("the agent is not among the processes of the lab")
	}
	return c, nil
}

func memoryOf(dir string) memory {
	var m memory
	text, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		return m // it has ended
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "Rss:":
			m.rss = kib << 10
		case "Pss:":
			m.pss = kib << 10
		case "Pss_Anon:":
			m.anon = kib << 10
		}
	}
	return m
}

// tick is the unit of CPU times: the kernel counts in hundredths of a second.
const tick = 10 * time.Millisecond

// cpuTime is a process's user and system time, and that of the children that it
// has waited for.
func cpuTime(dir string) (own, children time.Duration) {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, 0
	}
	_, after, ok := strings.Cut(string(text), ") ")
	f := strings.Fields(after)
	if !ok || len(f) < 15 {
		return 0, 0
	}
	var ticks [4]int64
	for i, s := range f[11:15] {
		if ticks[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return 0, 0
		}
	}
	return time.Duration(ticks[0]+ticks[1]) * tick, time.Duration(ticks[2]+ticks[3]) * tick
}

// machine names what the figures were measured on.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	return fmt.Sprintf("%d x %s, Linux %s, %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), time.Now().UTC().Format("2006-01-02 15:04 MST"))
}

// conditions are those under which a figure was measured.
type conditions struct {
	calibration string
	before      cpuCount
}

// observe calibrates and begins to count what the hypervisor steals.
func observe() conditions { return conditions{calibrate(), processors()} }

// end says how the machine was.
func (c conditions) end() string {
	return fmt.Sprintf("steal %.1f %%, before it %s", processors().stolenSince(c.before), c.calibration)
}

// calibrate measures the machine itself, so that figures of different runs can
// be compared: its processor, and what a process and a durable write cost.
func calibrate() string {
	began := time.Now()
	block := make([]byte, 1<<20)
	for range 256 {
		sha256.Sum256(block)
	}
	hash := time.Since(began)
	const times = 20
	began = time.Now()
	for range times {
		if err := exec.Command("true").Run(); err != nil {
			return fmt.Sprintf("no calibration: %v", err)
		}
	}
	process := time.Since(began) / times
	began = time.Now()
	for range times {
		if err := syncedWrite(); err != nil {
			return fmt.Sprintf("no calibration: %v", err)
		}
	}
	return fmt.Sprintf("SHA-256 %.0f MiB/s, process %.1f ms, fsync %.1f ms",
		256/hash.Seconds(), process.Seconds()*1000, (time.Since(began)/times).Seconds()*1000)
}

func syncedWrite() error {
	f, err := os.CreateTemp(os.Getenv("REDDWARF_BED"), "calibration-")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

// cpuCount is the machine's CPU time.
type cpuCount struct{ steal, busy, all time.Duration }

func processors() cpuCount {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuCount{}
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var c cpuCount
	for i, f := range strings.Fields(line)[1:] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return cpuCount{}
		}
		t := time.Duration(n) * tick
		switch {
		case i >= 8: // guests are in user time already
			continue
		case i == 7:
			c.steal = t
		case i != 3 && i != 4: // idle, and idle with a disk at work
			c.busy += t
		}
		c.all += t
	}
	return c
}

// stolenSince is the share of time that the hypervisor gave to others, in percent.
func (c cpuCount) stolenSince(before cpuCount) float64 {
	if c.all <= before.all {
		return 0
	}
	return 100 * float64(c.steal-before.steal) / float64(c.all-before.all)
}
