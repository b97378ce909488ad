package zones

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// ErrNotFound means that no zone of that name is configured.
var ErrNotFound = errors.New("no such zone")

// ErrState means that the zone is in a state that forbids the operation. It is
// worth looking again and retrying.
var ErrState = errors.New("wrong zone state")

// OpError says which operation failed for which zone.
type OpError struct {
	Op   string // boot, halt, configure …
	Zone string // empty for an operation on all
	Err  error
}

// Error returns "zone NAME: OP: cause".
func (e *OpError) Error() string {
	if e.Zone == "" {
		return fmt.Sprintf("zones: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("zone %s: %s: %v", e.Zone, e.Op, e.Err)
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// notFound is libzonecfg's text for Z_NO_ZONE, which zoneadm and zonecfg both
// print after "NAME: ".
const notFound = "No such zone configured"

// badState is the exit code by which zoneadm mark reports Z_BAD_ZONE_STATE.
const badState = 21

// wrongState matches what sanity_check of zoneadm.c says of states, zoneadm's
// and zonecfg's text for Z_BAD_ZONE_STATE, and what zonecfg says of a zone that
// is installed. The exit code is 1 for these as for most other failures.
var wrongState = regexp.MustCompile(`must be \w+ before|is already installed\.|zone is \w+; \w+ required|` +
	`operation is invalid for (?:\w+ zones|zones in state)|: not running|Zone state is invalid|` +
	`already installed; create not allowed|not in configured state; delete not allowed`)

// opError is the only place that reads zoneadm's and zonecfg's messages.
func opError(op, zone string, err error) error {
	if err == nil {
		return nil
	}
	var ce *command.Error
	if errors.As(err, &ce) && ce.ExitCode > 0 {
		switch {
		case strings.Contains(ce.Stderr, notFound):
			err = fmt.Errorf("%w: %w", ErrNotFound, err)
		case wrongState.MatchString(ce.Stderr), op == "mark" && ce.ExitCode == badState:
			err = fmt.Errorf("%w: %w", ErrState, err)
		}
	}
	return &OpError{Op: op, Zone: zone, Err: err}
}
