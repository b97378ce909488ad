//go:build linux

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/zones"
)

// ErrNoController means that a cap cannot be enforced on this machine.
var ErrNoController = errors.New("cap cannot be enforced on this machine")

// cpuPeriod is the time over which a CPU quota is counted, in microseconds.
const cpuPeriod = 100_000

// lwpsPerProcess is what zoneadmd makes of a zone.max-processes alone
// (LWPS_PER_PROCESS in vplat.c). Linux counts tasks, never processes.
const lwpsPerProcess = 10

// setting is one cgroup file and its value.
type setting struct {
	cap        string // the illumos name, for errors
	controller string
	file       string // version 1
	value      string
	file2      string // version 2
	value2     string
	set        bool // false: back to none, which is fine without a controller
	bytes      uint64
}

// limit applies c. Swap space is memory here: illumos' swap cap counts every
// anonymous page, so the smaller of both memory caps is what binds.
func (z *group) limit(c zones.Caps) error {
	for _, s := range settings(c) {
		if err := z.apply(s); err != nil {
			return err
		}
	}
	return nil
}

func settings(c zones.Caps) []setting {
	bytes := c.Physical
	if c.Swap > 0 && (bytes == 0 || c.Swap < bytes) {
		bytes = c.Swap
	}
	tasks := c.MaxLWPs
	if c.MaxProcesses > 0 && (tasks == 0 || lwpsPerProcess*c.MaxProcesses < tasks) {
		tasks = lwpsPerProcess * c.MaxProcesses
	}
	quota := strconv.Itoa(c.CPU * cpuPeriod / 100)
	return []setting{
		{
			cap: "zone.cpu-cap", controller: cpu, set: c.CPU > 0,
			file: "cpu.cfs_quota_us", value: orNone(c.CPU > 0, quota, "-1"),
			file2: "cpu.max", value2: orNone(c.CPU > 0, quota, "max") + " " + strconv.Itoa(cpuPeriod),
		},
		{
			cap: "zone.cpu-shares", controller: cpu, set: c.CPUShares > 0,
			file: "cpu.shares", value: shares(c.CPUShares, 2, 262144, 1024),
			file2: "cpu.weight", value2: shares(c.CPUShares, 1, 10000, 100),
		},
		{
			cap: "zone.max-physical-memory", controller: memory, set: bytes > 0, bytes: bytes,
			file: "memory.limit_in_bytes", value: orNone(bytes > 0, strconv.FormatUint(bytes, 10), "-1"),
			file2: "memory.max", value2: orNone(bytes > 0, strconv.FormatUint(bytes, 10), "max"),
		},
		{
			cap: "zone.max-lwps", controller: pids, set: tasks > 0,
			file: "pids.max", value: orNone(tasks > 0, strconv.FormatUint(tasks, 10), "max"),
			file2: "pids.max", value2: orNone(tasks > 0, strconv.FormatUint(tasks, 10), "max"),
		},
	}
}

func orNone(set bool, value, none string) string {
	if set {
		return value
	}
	return none
}

// shares fits n into what the kernel takes; 0 is its default.
func shares(n, low, high, none uint64) string {
	if n == 0 {
		n = none
	}
	return strconv.FormatUint(min(max(n, low), high), 10)
}

func (z *group) apply(s setting) error {
	name, value := s.file, s.value
	if z.v2() {
		name, value = s.file2, s.value2
	}
	path, ok := z.file(s.controller, name)
	if !ok {
		if !s.set || z.of.lenient {
			return nil
		}
		return fmt.Errorf("%s: %w: cgroup controller %s: %s", s.cap, ErrNoController, s.controller, z.of.missing)
	}
	var err error
	if s.controller == memory && s.set {
		err = z.setMemory(path, s.bytes)
	} else {
		if s.controller == memory {
			z.setShort(false, 0)
		}
		err = os.WriteFile(path, []byte(value), 0)
	}
	if err != nil && !s.set && errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without this file has no such limit either
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.cap, err)
	}
	return nil
}

// usage adds up what the zone's processes use. Where a controller is missing,
// /proc is asked, which knows nothing of processes that have ended.
func (z *zone) usage() (zones.Usage, error) {
	var u zones.Usage
	procs, err := z.processes()
	if err != nil {
		return u, err
	}
	u.Processes = len(procs)
	for _, p := range procs {
		u.LWPs += p.threads
		u.RSS += p.rss
		u.Swap += p.anonymous
		u.CPUNanoseconds += p.cpu
	}
	if n, ok := z.group.cpuTime(); ok {
		u.CPUNanoseconds, u.SystemNanoseconds = n, min(n, z.group.systemTime())
	}
	u.CappedNanoseconds = z.group.cappedTime()
	if rss, swap, ok := z.group.memoryUse(); ok {
		u.RSS, u.Swap = rss, swap
	}
	u.AllocFailures = z.group.allocFailures()
	z.group.shrink()
	return u, nil
}

func (z *group) cpuTime() (uint64, bool) {
	if path, ok := z.file(cpuacct, "cpuacct.usage"); ok {
		return readNumber(path)
	}
	if !z.v2() {
		return 0, false
	}
	path, ok := z.file(cpu, "cpu.stat")
	if !ok {
		return 0, false
	}
	n, ok := readKey(path, "usage_usec")
	return n * 1000, ok
}

// systemTime is the part of cpuTime that was spent in the kernel.
func (z *group) systemTime() uint64 {
	if path, ok := z.file(cpuacct, "cpuacct.usage_sys"); ok {
		n, _ := readNumber(path)
		return n
	}
	path, _ := z.file(cpu, "cpu.stat")
	n, _ := readKey(path, "system_usec")
	return n * 1000
}

// cappedTime is how long processes that could have run were kept from it.
func (z *group) cappedTime() uint64 {
	path, ok := z.file(cpu, "cpu.stat")
	if !ok {
		return 0
	}
	if z.v2() {
		n, _ := readKey(path, "throttled_usec")
		return n * 1000
	}
	n, _ := readKey(path, "throttled_time")
	return n
}

// memoryUse is what the zone's processes have in memory, without the file
// pages that the machine only keeps because nobody else wants the room, and
// what of it would need swap space on illumos: all that no file is behind,
// with what is in tmpfs.
func (z *group) memoryUse() (rss, swap uint64, ok bool) {
	path, ok := z.file(memory, "memory.stat")
	if !ok {
		return 0, 0, false
	}
	names := []string{"total_rss", "total_mapped_file", "total_shmem"}
	if z.v2() {
		names = []string{"anon", "file_mapped", "shmem"}
	}
	anonymous, ok := readKey(path, names[0])
	mapped, _ := readKey(path, names[1])
	shared, _ := readKey(path, names[2])
	return anonymous + mapped, anonymous + shared, ok
}

// allocFailures counts the times that the memory cap kept the zone from memory.
// Linux kills a process then; on illumos the process would have got ENOMEM.
func (z *group) allocFailures() uint64 {
	name := "memory.oom_control"
	if z.v2() {
		name = "memory.events"
	}
	path, ok := z.file(memory, name)
	if !ok {
		return 0
	}
	n, _ := readKey(path, "oom_kill")
	return n
}

// setMemory limits memory to what is wanted, or, where the zone uses more than
// that, to what it uses: illumos accepts such a cap, and the zone gets nothing
// more until it is below.
func (z *group) setMemory(path string, want uint64) error {
	current := "memory.usage_in_bytes"
	if z.v2() {
		current = "memory.current"
	}
	const slack, tries = 1 << 20, 10 // it goes on using memory meanwhile
	var err error
	for range tries {
		used := uint64(0)
		if now, ok := z.file(memory, current); ok {
			used, _ = readNumber(now)
		}
		limit := want
		if used > want {
			limit = used + slack
		}
		err = os.WriteFile(path, []byte(strconv.FormatUint(limit, 10)), 0)
		if err == nil {
			z.setShort(limit > want, want)
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return err
}

func (z *group) setShort(short bool, want uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.wanted = 0; short {
		z.wanted = want
	}
}

// shrink tries again to set a cap that the zone was above.
func (z *group) shrink() {
	z.mu.Lock()
	want := z.wanted
	z.mu.Unlock()
	if want == 0 {
		return
	}
	name := "memory.limit_in_bytes"
	if z.v2() {
		name = "memory.max"
	}
	if path, ok := z.file(memory, name); ok {
		_ = z.setMemory(path, want) // the cap that is in force stays
	}
}

func readNumber(path string) (uint64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

func readKey(path, key string) (uint64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, err := strconv.ParseUint(v, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// process is one process as /proc shows it.
type process struct {
	threads        int
	rss, anonymous uint64 // bytes
	cpu            uint64 // nanoseconds
}

// processes reads every process of the zone, also those of pid namespaces made
// inside it: all that are in its cgroup, else all in its pid namespace.
func (z *zone) processes() ([]process, error) {
	var all []process
	for _, controller := range []string{pids, memory, cpu} {
		path, ok := z.group.file(controller, "cgroup.procs")
		if !ok {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("usage: %w", err)
		}
		for _, pid := range bytes.Fields(b) {
			if p, ok := readProcess(filepath.Join("/proc", string(pid))); ok {
				all = append(all, p)
			}
		}
		return all, nil
	}
	var of, ns unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", z.cmd.Process.Pid), &of); err != nil {
		return nil, nil //nolint:nilerr // gone: nothing is used
	}
	dirs, err := filepath.Glob("/proc/[1-9]*")
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	for _, dir := range dirs {
		if unix.Stat(dir+"/ns/pid", &ns) != nil || ns.Ino != of.Ino {
			continue
		}
		if p, ok := readProcess(dir); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// readProcess reads one process, if it is still there.
func readProcess(dir string) (process, bool) {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, false
	}
	// The name in parentheses may hold anything, so count from its end:
	// state is field 3, utime 14, stime 15, threads 20.
	_, rest, ok := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 18 {
		return process{}, false
	}
	number := func(s string) uint64 { n, _ := strconv.ParseUint(s, 10, 64); return n }
	p := process{threads: int(number(f[17]))}
	p.cpu = (number(f[11]) + number(f[12])) * 10_000_000 // USER_HZ is 100
	statm, err := os.ReadFile(dir + "/statm")
	if err != nil {
		return p, true
	}
	if m := strings.Fields(string(statm)); len(m) >= 3 {
		page := uint64(os.Getpagesize())
		p.rss = number(m[1]) * page
		p.anonymous = p.rss - min(p.rss, number(m[2])*page)
	}
	return p, true
}
