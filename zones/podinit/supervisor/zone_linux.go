package supervisor

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/zones/podinit"
)

// setUpZone sets what belongs to the zone as a whole. zone says whether this is
// a zone of our own.
func (s *Supervisor) setUpZone(spec podinit.Spec, zone bool) error {
	if !zone {
		// Without being process 1, orphans are ours only if we ask. An lx zone
		// knows no such request, but there we are process 1.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("podinit: it must be process 1 here: %w", err)
		}
		return nil
	}
	if spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("podinit: hostname: %w", err)
		}
	}
	if spec.Network != nil {
		// Not in an lx zone, whose network is set up before its init: this is a
		// native zone of a simulated host, which cannot run illumos' programs.
		s.log.Printf("this is podinit for Linux in a native zone: the host is a simulated one")
		defer s.reapMeanwhile()()
		if err := s.setUpNetwork(*spec.Network); err != nil {
			return fmt.Errorf("podinit: network: %w", err)
		}
	}
	return nil
}

// EndZone ends the zone of which this is process 1, where its end alone would
// not do that: the lx brand starts its init again.
func EndZone() {
	if isLX() {
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) //nolint:errcheck // the agent halts what is left
	}
}
