package supervisor

import "syscall"

// The range of real-time signals (signal(7)), without those that libraries keep.
const (
	rtMin = 34
	rtMax = 64
)

// stackFault is SIGSTKFLT.
const stackFault = syscall.SIGSTKFLT
