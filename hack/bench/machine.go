package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cost is what the agent and the podinits use, read from /proc: the lab sees
// the processes of its hosts.
type cost struct {
	agentPSS, podinitPSS int64 // bytes
	podinits             int
	agentCPU             time.Duration
}

func (b *bench) cost(context.Context) (cost, error) {
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
		switch {
		case len(argv) > 1 && filepath.Base(argv[0]) == "reddwarf" && argv[1] == "node":
			found = true
			c.agentPSS = pss(dir)
			c.agentCPU = cpuTime(dir)
		case argv[0] == "/sbin/init":
			c.podinits++
			c.podinitPSS += pss(dir)
		}
	}
	if !found {
		return c, fmt.Errorf("the agent is not among the processes of the lab")
	}
	return c, nil
}

// pss is the proportional set size: shared pages count once in all.
func pss(dir string) int64 {
	text, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// cpuTime is user and system time; the kernel counts in hundredths of a second.
func cpuTime(dir string) time.Duration {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0
	}
	_, after, ok := strings.Cut(string(text), ") ")
	f := strings.Fields(after)
	if !ok || len(f) < 13 {
		return 0
	}
	var ticks int64
	for _, s := range f[11:13] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// hostTime is how long at least one host command was running between from and
// to, according to the host's trace.
func (b *bench) hostTime(from, to time.Time) (time.Duration, error) {
	file, err := os.Open(b.host.TraceFile())
	if err != nil {
		return 0, err
	}
	defer file.Close()
	type span struct{ from, to time.Time }
	var spans []span
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c struct {
			Time time.Time `json:"time"`
			MS   float64   `json:"ms"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return 0, fmt.Errorf("trace: %w", err)
		}
		s := span{c.Time, c.Time.Add(time.Duration(c.MS * float64(time.Millisecond)))}
		if s.to.After(from) && s.from.Before(to) {
			spans = append(spans, s)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var busy time.Duration
	at := from
	for _, s := range spans {
		if s.from.After(at) {
			at = s.from
		}
		if end := earlier(s.to, to); end.After(at) {
			busy += end.Sub(at)
			at = end
		}
	}
	return busy, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// calibrate measures the machine itself, so that figures of different runs can be compared.
func calibrate() string {
	steal := stolen()
	began := time.Now()
	block := make([]byte, 1<<20)
	for range 256 {
		sha256.Sum256(block)
	}
	return fmt.Sprintf("calibration: 256 MiB of SHA-256 in %.2f s, steal %.1f %%", time.Since(began).Seconds(), stolen().since(steal))
}

// cpuCount is the machine's CPU time in ticks.
type cpuCount struct{ steal, all float64 }

func stolen() cpuCount {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuCount{}
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var c cpuCount
	for i, f := range strings.Fields(line)[1:] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return cpuCount{}
		}
		if i == 7 {
			c.steal = n
		}
		if i < 8 {
			c.all += n
		}
	}
	return c
}

// since is the share of time that the hypervisor gave to others, in percent.
func (c cpuCount) since(before cpuCount) float64 {
	if c.all <= before.all {
		return 0
	}
	return 100 * (c.steal - before.steal) / (c.all - before.all)
}
