package podinit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Signal is a signal by its name, because numbers differ between systems. The
// zone's side translates it.
type Signal string

// signals are those that Kubernetes has names for, without SIG and without the
// real-time signals.
var signals = []string{
	"ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT",
	"SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
}

// realTimes is how many real-time signals a system has at most.
const realTimes = 33

// ParseSignal accepts "SIGTERM", "TERM", "15" and "SIGRTMIN+3", in any case, and
// refuses what is no signal. One that only the zone's system lacks is refused there.
func ParseSignal(s string) (Signal, error) {
	up := strings.ToUpper(s)
	if n, err := strconv.Atoi(up); err == nil && n > 0 && n < 65 {
		return Signal(strconv.Itoa(n)), nil
	}
	name := strings.TrimPrefix(up, "SIG")
	if slices.Contains(signals, name) || realTime(name, "RTMIN", "+") || realTime(name, "RTMAX", "-") {
		return Signal("SIG" + name), nil
	}
	return "", fmt.Errorf("bad signal %.32q", s)
}

// realTime reports whether name is base, alone or with an offset.
func realTime(name, base, sign string) bool {
	offset, ok := strings.CutPrefix(name, base)
	if !ok || offset == "" {
		return ok
	}
	n, err := strconv.Atoi(strings.TrimPrefix(offset, sign))
	return err == nil && n > 0 && n < realTimes && offset == sign+strconv.Itoa(n)
}
