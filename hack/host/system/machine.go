package system

import (
	"context"
	"fmt"
	"strings"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// kernelVersion is uname -v of each distribution.
func kernelVersion(distro string) string {
	switch distro {
	case "smartos":
		return "joyent_20260305T000421Z"
	case "openindiana":
		return "illumos-4b8f1c2d7a"
	}
	return "omnios-r151056-6e2b9ac1d4"
}

// OSRelease returns the content of /etc/os-release of a distribution. For people
// it says that the machine is simulated.
func OSRelease(distro string) string {
	switch distro {
	case "smartos":
		return "NAME=\"SmartOS\"\nVERSION=\"20260305T000421Z\"\nID=smartos\nPRETTY_NAME=\"SmartOS 20260305T000421Z (simulated)\"\n" +
			"HOME_URL=\"https://smartos.org/\"\n"
	case "openindiana":
		return "NAME=\"OpenIndiana\"\nVERSION=\"2025.10\"\nID=openindiana\nVERSION_ID=\"2025.10\"\n" +
			"PRETTY_NAME=\"OpenIndiana Hipster 2025.10 (simulated)\"\nHOME_URL=\"https://openindiana.org/\"\n"
	}
	return "NAME=\"OmniOS\"\nPRETTY_NAME=\"OmniOS Community Edition v11 r151056 (simulated)\"\nCPE_NAME=\"cpe:/o:omniosce:omnios:11:151056:0\"\n" +
		"ID=omnios\nVERSION=r151056\nVERSION_ID=r151056\nBUILD_ID=151056.0.2026.01.05\nHOME_URL=\"https://omnios.org/\"\n"
}

// uname is the program uname(1).
func (m *Model) uname(_ context.Context, inv *program.Invocation) int {
	set, rest, bad := options(inv.Args(), "asnrpvmioS:X")
	if bad != 0 || len(rest) > 0 {
		inv.Errf("usage:\tuname [-snrvmapioX]\n\tuname [-S system name]\n")
		return 1
	}
	if has(set, 'S') || has(set, 'X') {
		return refuse(inv, "uname -S and -X are not simulated")
	}
	if has(set, 'a') {
		for _, flag := range []byte("snrvmpi") {
			set[flag] = []string{""}
		}
	}
	if len(set) == 0 {
		set['s'] = []string{""}
	}
	var words []string
	for _, f := range []struct {
		flag byte
		word string
	}{
		{'s', "SunOS"}, {'n', m.cfg.Hostname}, {'r', "5.11"}, {'v', kernelVersion(m.cfg.Distro)}, {'m', "i86pc"},
		{'p', "i386"}, {'i', "i86pc"}, {'o', "illumos"},
	} {
		if has(set, f.flag) {
			words = append(words, f.word)
		}
	}
	inv.Outf("%s\n", strings.Join(words, " "))
	return 0
}

// isainfo is the program isainfo(1).
func (m *Model) isainfo(_ context.Context, inv *program.Invocation) int {
	set, rest, bad := options(inv.Args(), "nbkvx")
	exclusive := 0
	for _, flag := range []byte("nbkx") {
		exclusive += len(set[flag])
	}
	if bad != 0 || len(rest) > 0 || exclusive > 1 || has(set, 'x') && has(set, 'v') {
		inv.Errf("usage: isainfo [ [-v] [-b | -n | -k] | [-x] ]\n")
		return 1
	}
	switch {
	case has(set, 'v') || has(set, 'x'):
		return refuse(inv, "isainfo -v and -x are not simulated")
	case has(set, 'b'):
		inv.Outf("64\n")
	case has(set, 'n'), has(set, 'k'):
		inv.Outf("amd64\n")
	default:
		inv.Outf("amd64 i386\n")
	}
	return 0
}

// stamp prints a time as psrinfo does.
func stamp(t time.Time) string { return t.Format("01/02/2006 15:04:05") }

// psrinfo is the program psrinfo(8): one chip, every processor on-line.
func (m *Model) psrinfo(_ context.Context, inv *program.Invocation) int {
	set, rest, bad := options(inv.Args(), "cpr:S:stv")
	wrong := func(complaint string) int {
		if complaint != "" {
			inv.Errf("psrinfo: %s\n", complaint)
		}
		inv.Errf("usage: \n\tpsrinfo -r propname\n\tpsrinfo [-v] [-p] [processor_id ...]\n\tpsrinfo -s [-p] processor_id\n\tpsrinfo -t [-S <state> | -c | -p]\n")
		return 2
	}
	if bad != 0 {
		return wrong("")
	}
	if has(set, 'r') {
		return refuse(inv, "psrinfo -r is not simulated")
	}
	if has(set, 't') {
		return m.psrinfoTotal(inv, set)
	}
	if has(set, 's') && len(rest) != 1 {
		return wrong("must specify exactly one processor if -s used")
	}
	wanted := map[string]bool{}
	for _, id := range rest {
		var n int
		if _, err := fmt.Sscanf(id, "%d", &n); err != nil || n < 0 || n >= m.cfg.CPUs {
			inv.Errf("psrinfo: processor %s: Invalid argument\n", id)
			return 2
		}
		wanted[id] = true
	}
	boot := m.bootTime()
	if has(set, 'p') && has(set, 'v') {
		return refuse(inv, "psrinfo -pv is not simulated")
	}
	if has(set, 'p') {
		inv.Outf("1\n")
		return 0
	}
	for i := range m.cfg.CPUs {
		if len(rest) > 0 && !wanted[fmt.Sprint(i)] {
			continue
		}
		switch {
		case has(set, 's'):
			inv.Outf("1\n")
		case has(set, 'v'):
			inv.Outf("Status of virtual processor %d as of: %s\n  on-line since %s.\n  The i386 processor operates at 1000 MHz,\n\tand has an i387 compatible floating point processor.\n",
				i, stamp(m.now()), stamp(boot))
		default:
			inv.Outf("%d\t%-8s  since %s\n", i, "on-line", stamp(boot))
		}
	}
	return 0
}

func (m *Model) psrinfoTotal(inv *program.Invocation, set map[byte][]string) int {
	n := m.cfg.CPUs
	switch state := last(set, 'S'); {
	case has(set, 'p'):
		n = 1
	case has(set, 'S') && state != "all" && state != "on-line":
		n = 0
	}
	inv.Outf("%d\n", n)
	return 0
}

// prtconf is the program prtconf(8), which is simulated for -m only.
func (m *Model) prtconf(_ context.Context, inv *program.Invocation) int {
	set, rest, bad := options(inv.Args(), "m")
	if bad != 0 || len(rest) > 0 || !has(set, 'm') {
		return refuse(inv, "prtconf is simulated for -m only")
	}
	inv.Outf("%d\n", m.cfg.Memory>>20)
	return 0
}

// swap is the program swap(8) on a machine without swap devices: swap is what
// memory gives.
func (m *Model) swap(ctx context.Context, inv *program.Invocation) int {
	set, rest, bad := options(inv.Args(), "khlsd:a:12")
	switch {
	case bad != 0 || len(rest) > 0 || !has(set, 'l') && !has(set, 's'):
		inv.Errf("Usage:\tswap -l\n\tsub option :\n\t\t-h : displays size in human readable format\n\t\t-k : displays size in KB\n" +
			"\tswap -s\n\tsub option :\n\t\t-h : displays size in human readable format rather than KB\n" +
			"\tswap -d <file name> [low block]\n\tswap -a <file name> [low block] [nbr of blocks]\n")
		return 1
	case has(set, 'a') || has(set, 'd') || has(set, 'h'):
		return refuse(inv, "swap is simulated for -l and -s only")
	case has(set, 'l'):
		inv.Errf("No swap devices configured\n")
		return 1
	}
	var used uint64
	for _, z := range m.cfg.Zones.Active(ctx) {
		if u, err := m.cfg.Zones.Usage(ctx, z.ID); err == nil {
			used += u.Swap
		}
	}
	used = min(used, m.cfg.Memory) >> 10
	inv.Outf("total: %dk bytes allocated + %dk reserved = %dk used, %dk available\n", used, 0, used, m.cfg.Memory>>10-used)
	return 0
}

// ps is the program ps(1), which is not simulated: what runs in the host's
// zones are processes of another system.
func (m *Model) ps(_ context.Context, inv *program.Invocation) int {
	return refuse(inv, "ps is not simulated")
}
