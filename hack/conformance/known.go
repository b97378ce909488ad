package main

import "regexp"

// cause is what is behind failures that have been looked into.
type cause struct {
	tests *regexp.Regexp // names of the tests
	why   string
	// plan is what makes the tests pass. Without one it is impossible, and why
	// is the argument.
	plan string
}

func (c cause) impossible() bool { return c.plan == "" }

// causes returns what is known, the first that fits a test counts. It says
// nothing of tests that pass: they may stay in here until somebody tidies up,
// but they are run like all others.
func causes() []cause {
	of := regexp.MustCompile
	return []cause{
		{
			tests: of(`pod uses host network|hostNetwork is enabled|node-pod communication`),
			why: "The pod asks for the host's network (hostNetwork). A pod is a zone with a network stack of its own; " +
				"zones that share the global zone's stack can have no VNIC and could not be told apart by address.",
		},
		{
			tests: of(`PLR Pod InPlace Resize`),
			why: "The test mounts /sys/fs/cgroup of the node by hostPath and reads the pod's cgroup there. illumos has no cgroups: " +
				"limits are resource controls of zones and projects, which no file shows.",
		},
		{
			tests: of(`Sysctls .* should support sysctls`),
			why:   "The test sets and reads /proc/sys/kernel/shm_rmid_forced, a parameter of the Linux kernel. illumos has nothing like it.",
		},
	}
}

// causeOf returns the cause of a test's failure, or nil.
func causeOf(known []cause, name string) *cause {
	for i := range known {
		if known[i].tests.MatchString(name) {
			return &known[i]
		}
	}
	return nil
}
