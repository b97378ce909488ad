package zones

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// shutdownHost has a running zone web whose init obeys init 0.
func shutdownHost(t *testing.T) *host {
	brand := ownBrand(t, func(b *Brand) { b.RestartInit = false })
	h := newHost(t, OmniOS, func(c *Config) {
		c.Brands = func(string, program.Files) (*Brand, error) { return brand, nil }
	})
	var exit func(int)
	h.backend.OnBoot = func(_ int, _ []string, f func(int)) error { exit = f; return nil }
	h.backend.OnEnter = func(_ context.Context, _ int, e Entry) (int, error) {
		if got := strings.Join(e.Argv, " "); got != "/bin/sh -c /sbin/init 0" {
			t.Errorf("ran %q", got)
		}
		exit(0)
		return 0, nil
	}
	h.must("zonecfg", "-z", "web", "create -b; set zonepath=/zones/web")
	h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
	h.must("zoneadm", "-z", "web", "boot")
	return h
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := shutdownHost(t)
		h.must("zoneadm", "-z", "web", "shutdown")
		if st, _ := h.stateOf("web"); st != stateInstalled {
			t.Errorf("state = %s", st)
		}
		h.must("zoneadm", "-z", "web", "boot")
		h.must("zoneadm", "-z", "web", "shutdown", "-r", "--", "-m", "verbose")
		if active := h.Active(); len(active) != 1 || active[0].ID != 3 {
			t.Errorf("zones = %+v", active)
		}
	})
}

// TestShutdownFails: where init cannot be told or does not obey, zoneadm fails
// and the zone goes on.
func TestShutdownFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		wait   time.Duration
	}{
		{"no such program", 127 << 8, 0},
		{"disobedient", 0, shutdownTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := shutdownHost(t)
			h.backend.OnEnter = func(context.Context, int, Entry) (int, error) { return tt.status, nil }
			began := time.Now() // of the test's own time
			r := h.run("zoneadm", "-z", "web", "shutdown")
			if r.code != 1 || r.err != "zone 'web': unable to shutdown zone\n" || time.Since(began) != tt.wait {
				t.Errorf("%s: %+v after %s", tt.name, r, time.Since(began))
			}
			if st, _ := h.stateOf("web"); st != stateRunning {
				t.Errorf("%s: state = %s", tt.name, st)
			}
		})
	}
}
