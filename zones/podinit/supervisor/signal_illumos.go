package supervisor

import "syscall"

// The range of real-time signals (signal.h(3HEAD)).
const (
	rtMin = 42
	rtMax = 74
)

// stackFault is SIGSTKFLT, which illumos does not have.
const stackFault = syscall.Signal(0)
