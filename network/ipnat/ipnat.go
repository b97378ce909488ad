// Package ipnat makes a node's Services work: it compiles them to rules of
// ipnat(5), and keeps the rules that the kernel has equal to what was compiled.
//
// It is no Kubernetes package. A [Service] here is addresses, ports and
// endpoints; [Compile] is a pure function of them, [Table] is the same for one
// Service at a time, and a [Loader] speaks to ipnat(8) and ipf(8).
//
// Its one surprising rule: the meaning of a compiled set does not depend on the
// order of its rules. ipnat can only append, and moves rules of a rotation
// around by itself, so rules that had to stand before others would not stay
// there. README.md follows a packet through the rules.
package ipnat

import "errors"

// What a caller may want to tell apart.
var (
	// ErrOff means that the packet filter is there but not enabled. See
	// [Loader.Enable].
	ErrOff = errors.New("ipfilter is not enabled")
	// ErrNoDevice means that the host has no packet filter at all.
	ErrNoDevice = errors.New("ipnat is not available")
	// ErrDrift means that the kernel's rules are not what this program left
	// there. [Loader.Sync] repairs it.
	ErrDrift = errors.New("rules differ from what was loaded")
	// ErrSyntax means that a line is not a rule of a form that this package
	// writes.
	ErrSyntax = errors.New("not a rule of ours")
)
