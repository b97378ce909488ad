package supervisor

import (
	"fmt"

	"reddwarf.io/reddwarf/zones/podinit"
)

// hostnameProgram is the global zone's, which the brand mounts into the zone.
const hostnameProgram = "/usr/bin/hostname"

// setUpZone sets what belongs to the zone as a whole. zone says whether this is
// a zone of our own, in which nothing else does these things.
func (s *Supervisor) setUpZone(spec podinit.Spec, zone bool) error {
	if !zone {
		return nil
	}
	defer s.reapMeanwhile()()
	if spec.Hostname != "" {
		if err := s.reaper.command(hostnameProgram, []string{spec.Hostname}); err != nil {
			return fmt.Errorf("podinit: hostname: %w", err)
		}
	}
	if spec.Network != nil {
		if err := s.setUpNetwork(*spec.Network); err != nil {
			return fmt.Errorf("podinit: network: %w", err)
		}
	}
	return nil
}

// EndZone ends the zone of which this is process 1. Our brand halts with its
// init, so there is nothing to do.
func EndZone() {}
