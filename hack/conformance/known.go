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

// causes returns what is known; the first that fits a test counts. It says
// nothing of tests that pass, and all tests are run whether they are named here
// or not.
func causes() []cause {
	of := regexp.MustCompile
	return []cause{
		{
			tests: of(`Pod InPlace Resize`),
			why: "Each of these tests, also those of resizes that are refused, first makes a pod and compares /sys/fs/cgroup/cpu.max (or cpu/cpu.cfs_quota_us) in every container " +
				"with its limit (VerifyContainerCPULimit, by createAndVerifyPod, createAndVerifyPodPLR or verifyInitContainerResources), before it resizes anything. " +
				"Those of resources of the pod (PLR) mount the node's /sys/fs/cgroup by hostPath, too, and look for the pod's cgroup there. illumos has no cgroups: limits are resource controls of zones, which no " +
				"file shows, and the cgroup file system of lx zones has no controllers (cgrps_vfsops.c). The agent could only invent such files.",
		},
		{
			tests: of(`pod uses host network|hostNetwork is enabled|KubeletManagedEtcHosts|when running a container with a new image|node-pod communication|HostPort validates`),
			why: "The test needs a Linux image in the host's network (hostNetwork). Pods of the host run in the global zone, which starts programs for illumos only, " +
				"and an lx zone cannot share the global zone's network stack (lxinit: lx zones do not support shared IP stacks).",
		},
		{
			tests: of(`Sysctls .* should support sysctls`),
			why:   "The test sets and reads /proc/sys/kernel/shm_rmid_forced, a parameter of the Linux kernel. illumos has nothing like it.",
		},
		{
			tests: of(`PrivilegedPod should enable privileged commands`),
			why: "The test makes a dummy network interface by Linux' netlink from inside a privileged container. No privilege gives that to an lx zone: " +
				"links are made in the global zone.",
		},
		{
			tests: of(`should cap back-off at MaxContainerBackOff`),
			why:   "Not the agent, as far as was seen: the API server did not answer in time at the end of the 27 minutes, on a machine that did a lot else.",
			plan:  "Run it on a quiet machine.",
		},
		{
			tests: of(`should not write to root filesystem`),
			why: "Not the agent: the test compares a message of busybox's shell, and the image's stand-in has bash for its shell, " +
				"because the shell of Debian's busybox (1.35, and 1.37 of the next release) drops variables with dashes in their names, which other tests need. " +
				"The file system is read-only, as the message says.",
			plan: "Find out what the shell of the official image is built with, and build that busybox from its source.",
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
