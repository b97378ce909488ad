package supervisor

import (
	"strconv"
	"strings"
	"syscall"

	"reddwarf.io/reddwarf/zones/podinit"
)

// signalNumber translates a name, or a number as it is.
func signalNumber(s podinit.Signal) (syscall.Signal, bool) {
	name := string(s)
	if n, err := strconv.Atoi(name); err == nil {
		return syscall.Signal(n), true
	}
	if n, ok := signalNames()[name]; ok {
		return n, true
	}
	if plus, ok := strings.CutPrefix(name, "SIGRTMIN"); ok {
		return realTime(plus, rtMin, 1)
	}
	if minus, ok := strings.CutPrefix(name, "SIGRTMAX"); ok {
		return realTime(minus, rtMax, -1)
	}
	return 0, false
}

func realTime(offset string, base, sign int) (syscall.Signal, bool) {
	n := 0
	if offset != "" {
		var err error
		if n, err = strconv.Atoi(offset); err != nil || n*sign < 0 {
			return 0, false
		}
	}
	sig := base + n
	return syscall.Signal(sig), sig >= rtMin && sig <= rtMax
}

// signalNames has the signals that Kubernetes has names for, by this system's
// numbers.
func signalNames() map[string]syscall.Signal {
	names := map[string]syscall.Signal{
		"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT, "SIGQUIT": syscall.SIGQUIT, "SIGILL": syscall.SIGILL,
		"SIGTRAP": syscall.SIGTRAP, "SIGABRT": syscall.SIGABRT, "SIGBUS": syscall.SIGBUS, "SIGFPE": syscall.SIGFPE,
		"SIGKILL": syscall.SIGKILL, "SIGUSR1": syscall.SIGUSR1, "SIGSEGV": syscall.SIGSEGV, "SIGUSR2": syscall.SIGUSR2,
		"SIGPIPE": syscall.SIGPIPE, "SIGALRM": syscall.SIGALRM, "SIGTERM": syscall.SIGTERM, "SIGCHLD": syscall.SIGCHLD,
		"SIGCONT": syscall.SIGCONT, "SIGSTOP": syscall.SIGSTOP, "SIGTSTP": syscall.SIGTSTP, "SIGTTIN": syscall.SIGTTIN,
		"SIGTTOU": syscall.SIGTTOU, "SIGURG": syscall.SIGURG, "SIGXCPU": syscall.SIGXCPU, "SIGXFSZ": syscall.SIGXFSZ,
		"SIGVTALRM": syscall.SIGVTALRM, "SIGPROF": syscall.SIGPROF, "SIGWINCH": syscall.SIGWINCH,
		"SIGIO": syscall.SIGIO, "SIGPWR": syscall.SIGPWR, "SIGSYS": syscall.SIGSYS,
		"SIGCLD": syscall.SIGCLD, "SIGIOT": syscall.SIGIOT, "SIGPOLL": syscall.SIGPOLL,
	}
	if stackFault != 0 {
		names["SIGSTKFLT"] = stackFault
	}
	return names
}
