package supervisor

import (
	"runtime/debug"
	"time"
)

// tidyTime is how long podinit leaves the garbage of programs that it has run. Giving
// it back costs some milliseconds of processor time.
const tidyTime = time.Minute

// tidy gives memory back some time after programs were run for clients. The
// collector begins only when a megabyte of garbage has come together, whatever its
// percentage, and that is nearly as much as podinit needs in all: every zone would
// keep it for the sake of a probe.
func (s *Supervisor) tidy() {
	for {
		select {
		case <-s.active:
		case <-s.ctx.Done():
			return
		}
		select {
		case <-time.After(tidyTime): // what comes until then goes with it
		case <-s.ctx.Done():
			return
		}
		debug.FreeOSMemory()
	}
}

// stir says that there will be something to tidy.
func (s *Supervisor) stir() {
	select {
	case s.active <- struct{}{}:
	default:
	}
}
