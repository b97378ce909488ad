// Package globalzone reads what an illumos machine is: its processors, its
// memory and its operating system, as seen from the global zone.
package globalzone

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// Facts are the properties of a machine that do not change while it runs,
// apart from processors being taken off-line.
type Facts struct {
	CPUs        int    // processors that are on-line
	MemoryBytes int64  // physical memory
	Kernel      string // uname -v, such as omnios-r151056-b6a3e5c
	Release     string // uname -r, such as 5.11
	Distro      string // os-release ID: omnios, smartos, openindiana
	PrettyName  string // os-release PRETTY_NAME, for people
}

// OSRelease is where distributions say what they are (os-release(5)).
const OSRelease = "/etc/os-release"

// Read asks psrinfo(8), prtconf(8) and uname(1), and reads OSRelease.
func Read(ctx context.Context, r command.Runner) (Facts, error) {
	var f Facts
	var err error
	if f.CPUs, err = Processors(ctx, r); err != nil {
		return f, err
	}
	out, err := r.Run(ctx, command.New("prtconf", "-m"))
	if err != nil {
		return f, fmt.Errorf("read memory size: %w", err)
	}
	if f.MemoryBytes, err = parsePrtconf(out); err != nil {
		return f, fmt.Errorf("read memory size: %w", err)
	}
	if out, err = r.Run(ctx, command.New("uname", "-v")); err != nil {
		return f, fmt.Errorf("read kernel version: %w", err)
	}
	f.Kernel = strings.TrimSpace(string(out))
	if out, err = r.Run(ctx, command.New("uname", "-r")); err != nil {
		return f, fmt.Errorf("read release: %w", err)
	}
	f.Release = strings.TrimSpace(string(out))
	text, err := os.ReadFile(OSRelease)
	if err != nil {
		return f, fmt.Errorf("read distribution: %w", err)
	}
	release := parseOSRelease(text)
	f.Distro, f.PrettyName = release["ID"], release["PRETTY_NAME"]
	return f, nil
}

// Processors counts the processors that are on-line now. Of the facts, it alone
// is worth to be asked again.
func Processors(ctx context.Context, r command.Runner) (int, error) {
	out, err := r.Run(ctx, command.New("psrinfo"))
	if err != nil {
		return 0, fmt.Errorf("count processors: %w", err)
	}
	n, err := parsePsrinfo(out)
	if err != nil {
		return 0, fmt.Errorf("count processors: %w", err)
	}
	return n, nil
}

// parsePsrinfo counts the lines "ID\ton-line   since …". A processor that is
// in no-intr state runs threads too.
func parsePsrinfo(out []byte) (int, error) {
	n := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if _, err := strconv.Atoi(fields[0]); err != nil {
			return 0, fmt.Errorf("psrinfo printed %q", strings.TrimSpace(line))
		}
		if fields[1] == "on-line" || fields[1] == "no-intr" {
			n++
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("psrinfo names no processor that is on-line")
	}
	return n, nil
}

// parsePrtconf reads the whole number of MiB that prtconf -m prints.
func parsePrtconf(out []byte) (int64, error) {
	mib, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil || mib <= 0 || mib > 1<<40 {
		return 0, fmt.Errorf("prtconf -m printed %q, want a number of MiB", strings.TrimSpace(string(out)))
	}
	return mib << 20, nil
}

// parseOSRelease reads KEY=VALUE lines; values may stand in single or double
// quotes. Lines that are not of that form are passed over, as os-release(5)
// asks of its readers.
func parseOSRelease(text []byte) map[string]string {
	values := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !ok || key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		values[key] = value
	}
	return values
}
