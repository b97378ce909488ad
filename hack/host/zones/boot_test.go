package zones

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// fakeLinks is a set of links by name.
type fakeLinks struct {
	mu     sync.Mutex
	refuse map[string]error // by link, of CheckAssign
	assign error
	log    []string
}

func (f *fakeLinks) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

func (f *fakeLinks) CheckAssign(link string) error { return f.refuse[link] }

func (f *fakeLinks) Assign(_ context.Context, zone string, id int, _ string, c LinkConfig) error {
	f.note("assign %s to %s %d allowed %v", c.Physical, zone, id, c.Allowed)
	return f.assign
}

func (f *fakeLinks) Plumb(_ context.Context, _ string, _ int, _ string, c LinkConfig) error {
	f.note("plumb %s %v via %v", c.Physical, c.Addresses, c.Routers)
	return nil
}

func (f *fakeLinks) Return(_ context.Context, zone string, id int) error {
	f.note("return %s %d", zone, id)
	return nil
}

const netConfig = `create -b; set brand=lx; set zonepath=/zones/web; set ip-type=exclusive;
add attr; set name=docker; set type=boolean; set value=true; end;
add net; set physical=rdw1; set allowed-address=10.0.0.2/24; set defrouter=10.0.0.1;
add property (name=ips,value="10.9.9.9/16,fd00::9/64"); add property (name=gateway,value="10.9.0.1"); add property (name=primary,value="true"); end`

func linkHost(t *testing.T, d Distro, f *fakeLinks) *host {
	h := newHost(t, d, func(c *Config) { c.Links = f })
	h.must("zonecfg", "-z", "web", netConfig)
	h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
	return h
}

// TestPlumbing: OmniOS' lxinit plumbs allowed-address, SmartOS' the
// properties, and both before init runs.
func TestPlumbing(t *testing.T) {
	for d, plumb := range map[Distro]string{
		OmniOS:  "plumb rdw1 [10.0.0.2/24] via [10.0.0.1]",
		SmartOS: "plumb rdw1 [10.9.9.9/16 fd00::9/64] via [10.9.0.1]",
	} {
		f := &fakeLinks{}
		h := linkHost(t, d, f)
		h.backend.OnBoot = func(_ int, init []string, _ func(int)) error { f.note("init %s", init[0]); return nil }
		h.must("zoneadm", "-z", "web", "boot")
		h.must("zoneadm", "-z", "web", "halt")
		want := []string{"assign rdw1 to web 1 allowed [10.0.0.2/24]", plumb, "init /sbin/init", "return web 1"}
		if !slices.Equal(f.log, want) {
			t.Errorf("%s:\ngot  %q\nwant %q", d, f.log, want)
		}
	}
}

// TestPlumbingFallsBack: without allowed-address OmniOS takes the properties.
func TestPlumbingFallsBack(t *testing.T) {
	f := &fakeLinks{}
	h := linkHost(t, OmniOS, f)
	h.must("zonecfg", "-z", "web", "select net physical=rdw1; clear allowed-address; clear defrouter; end")
	h.must("zoneadm", "-z", "web", "boot")
	if want := "plumb rdw1 [10.9.9.9/16 fd00::9/64] via [10.9.0.1]"; !slices.Contains(f.log, want) {
		t.Errorf("got %q, want %q", f.log, want)
	}
}

// TestLinkRefused: a link that is missing or used fails the boot, except on
// SmartOS, where the zone comes up without it.
func TestLinkRefused(t *testing.T) {
	inUse := errors.New("WARNING: skipping network interface 'rdw1' which is used in the global zone")
	for _, tt := range []struct {
		distro Distro
		refuse error
		assign error
		code   int
		stderr string
	}{
		{OmniOS, inUse, nil, 1, inUse.Error() + ".\nzone 'web': " + inUse.Error() + "\n" +
			"zone 'web': failed to add network device: No such file or directory\nzoneadm: zone 'web': call to zoneadmd failed\n"},
		{OmniOS, errors.New("no such data link"), nil, 1, "WARNING: skipping network interface 'rdw1': object not found\n" +
			"zone 'web': failed to add network device: No such file or directory\nzoneadm: zone 'web': call to zoneadmd failed\n"},
		{OmniOS, nil, errors.New("Protection is already set"), 1, "zone 'web': Protection is already set\n" +
			"zone 'web': failed to add address: Invalid argument\nzoneadm: zone 'web': call to zoneadmd failed\n"},
		{SmartOS, inUse, nil, 0, inUse.Error() + ".\n"},
	} {
		f := &fakeLinks{refuse: map[string]error{"rdw1": tt.refuse}, assign: tt.assign}
		h := linkHost(t, tt.distro, f)
		if r := h.run("zoneadm", "-z", "web", "boot"); r.code != tt.code || r.err != tt.stderr {
			t.Errorf("%s, %v, %v: exit code %d, stderr:\n%s\nwant %d:\n%s", tt.distro, tt.refuse, tt.assign, r.code, r.err, tt.code, tt.stderr)
		}
		if st, _ := h.stateOf("web"); (st == stateRunning) != (tt.code == 0) {
			t.Errorf("%s, %v: zone is %s", tt.distro, tt.refuse, st)
		}
		if tt.code != 0 && len(h.Active()) != 0 {
			t.Errorf("%v: the kernel still has %v", tt.refuse, h.Active())
		}
	}
}

func TestJoinLinks(t *testing.T) {
	net := func(physical, allowed, router string) *resource {
		return &resource{Values: map[string]string{"physical": physical, "allowed-address": allowed, "defrouter": router}}
	}
	links, fault := joinLinks([]*resource{net("a0", "10.0.0.2/24", "10.0.0.1"), net("b0", "192.168.0.1", ""), net("a0", "fd00::2/64", "fd00::1")})
	want := []LinkConfig{
		{Physical: "a0", Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
			Routers: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}},
		{Physical: "b0", Allowed: []netip.Prefix{netip.MustParsePrefix("192.168.0.1/24")}},
	}
	if fault != "" || fmt.Sprint(links) != fmt.Sprint(want) {
		t.Errorf("joinLinks = %v, %q; want %v", links, fault, want)
	}
	for _, tt := range []struct{ addresses, want string }{
		{"10.0.0.1/24,10.0.0.2/24", "invalid address [10.0.0.1]"},
		{"host", "invalid address [host]"},
		{"10.244.10.2/24 10.244.10.3/24 10.244.10.4/24", ""}, // 46 bytes are just enough
		{"10.244.10.2/24 10.244.10.3/24 10.244.10.4/24 10.244.10.5/24", addressFault},
		{"10.100.100.100/24 10.100.100.101/24 10.100.100.102/24", addressFault},
	} {
		var nets []*resource
		for a := range strings.FieldsSeq(tt.addresses) {
			nets = append(nets, net("a0", a, ""))
		}
		if _, fault := joinLinks(nets); !strings.HasPrefix(fault, tt.want) || tt.want == "" && fault != "" {
			t.Errorf("joinLinks of %s: %q, want %q", tt.addresses, fault, tt.want)
		}
	}
}

// fakeDatasets has what zoneadm may find wrong.
type fakeDatasets struct {
	mu      sync.Mutex
	busy    map[string]int
	missing map[string]error
	below   []string
}

func (f *fakeDatasets) Source(dataset, zone string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.missing[dataset]; err != nil {
		return "", err
	}
	f.busy[zone]++
	return "/data/" + dataset, nil
}

func (f *fakeDatasets) Release(zone string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, zone)
}

func (f *fakeDatasets) MountpointOf(string) (string, bool) { return "", false }
func (f *fakeDatasets) MountsBelow(string) []string        { return f.below }

func TestDatasets(t *testing.T) {
	f := &fakeDatasets{busy: map[string]int{}, missing: map[string]error{}}
	h := newHost(t, OmniOS, func(c *Config) { c.Datasets = f })
	h.must("zonecfg", "-z", "web", "create -b; set brand=sparse; set zonepath=/zones/web; add fs; set dir=/c/main; set special=tank/c; set type=zfs; end;"+
		"add fs; set dir=/c/main/inner; set special=/s; set type=lofs; end")
	h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
	f.missing["tank/c"] = errors.New(`zfs 'tank/c' mountpoint is not "legacy"`)
	if r := h.run("zoneadm", "-z", "web", "boot"); r.code != 1 || r.err != "could not verify fs /c/main: zfs 'tank/c' mountpoint is not \"legacy\"\nzoneadm: zone web failed to verify\n" {
		t.Errorf("not legacy: %+v", r)
	}
	delete(f.missing, "tank/c")
	f.below = []string{"/zones/web/root/a", "/zones/web/root/b"}
	if r := h.run("zoneadm", "-z", "web", "boot"); r.code != 1 || r.err != "zone 'web': These file-systems are mounted on subdirectories of /zones/web/root:\n"+
		"zone 'web':   /zones/web/root/a\nzone 'web':   /zones/web/root/b\nzoneadm: zone 'web': call to zoneadmd failed\n" {
		t.Errorf("mounts below the root: %+v", r)
	}
	if r := h.run("zoneadm", "-z", "web", "uninstall", "-F"); r.code != 1 || !strings.HasPrefix(r.err, "zoneadm: zone 'web': These file systems are mounted on subdirectories of /zones/web/root.\n") {
		t.Errorf("uninstall: %+v", r)
	}
	f.below = nil
	// a mount point in a mounted file system is looked up there, and made there
	h.paths.Remove("/data/tank/c/inner")
	h.must("zoneadm", "-z", "web", "boot")
	if _, err := h.paths.Lstat("/data/tank/c/inner"); err != nil {
		t.Errorf("mount point: %v", err)
	}
	if f.busy["web"] != 1 {
		t.Errorf("the dataset is mounted %d times, want 1", f.busy["web"])
	}
	h.must("zoneadm", "-z", "web", "halt")
	if len(f.busy) != 0 {
		t.Errorf("busy after halt: %v", f.busy)
	}
	h.must("zonecfg", "-z", "web", "select fs dir=/c/main; add options ro; end")
	h.paths.Remove("/data/tank/c/inner")
	if r := h.run("zoneadm", "-z", "web", "boot"); r.code != 1 || !strings.HasPrefix(r.err, "zone 'web': Could not mkdir /zones/web/root/c/main/inner.\n") {
		t.Errorf("mount point in a read-only file system: %+v", r)
	}
}

// TestSameRoot: two zones cannot share a root.
func TestSameRoot(t *testing.T) {
	h := newHost(t, OmniOS)
	for _, z := range []string{"a", "b"} {
		h.must("zonecfg", "-z", z, "create -b; set zonepath=/zones/"+z)
		h.must("zoneadm", "-z", z, "mark", "-F", "installed")
	}
	h.must("zoneadm", "-z", "a", "boot")
	h.zones["b"].config.Root["zonepath"] = "/zones/a"
	h.zones["a"].config.Root["zonepath"] = "/zones/x" // so that zoneadm's own check is passed
	if r := h.run("zoneadm", "-z", "b", "boot"); r.code != 1 || r.err != "zone 'b': zone root /zones/a/root already in use by zone a\nzoneadm: zone 'b': call to zoneadmd failed\n" {
		t.Errorf("boot: %+v", r)
	}
}

// TestHaltStates: while a zone's processes are killed it is shutting_down,
// and a second zoneadm waits.
func TestHaltStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, OmniOS)
		h.must("zonecfg", "-z", "web", "create -b; set zonepath=/zones/web")
		h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
		h.must("zoneadm", "-z", "web", "boot")
		proceed := make(chan error)
		h.backend.OnHalt = func(int) error { return <-proceed }
		done, second := make(chan result, 1), make(chan result, 1)
		go func() { done <- h.run("zoneadm", "-z", "web", "halt") }()
		synctest.Wait()
		if st, _ := h.stateOf("web"); st != stateShuttingDown {
			t.Errorf("state while halting: %s", st)
		}
		if r := h.run("zlogin", "web", "id"); r.err != "zlogin: login allowed only to running zones (web is 'shutting_down').\n" {
			t.Errorf("zlogin: %+v", r)
		}
		if r := h.run("zoneadm", "-z", "web", "uninstall", "-F"); r.err != "zoneadm: zone 'web': uninstall operation is invalid for shutting_down zones.\n" {
			t.Errorf("uninstall: %+v", r)
		}
		go func() { second <- h.run("zoneadm", "-z", "web", "boot") }()
		synctest.Wait()
		if len(second) != 0 {
			t.Error("the second zoneadm did not wait")
		}
		proceed <- errors.New("processes are still there")
		first := <-done
		if first.code != 1 || first.err != "zone 'web': unable to unmount file systems in zone: processes are still there\nzone 'web': unable to destroy zone\n" {
			t.Errorf("failed halt: %+v", first)
		}
		if r := <-second; r.code != 0 || r.err != "zone 'web': zone is already booted\n" {
			t.Errorf("boot of a zone that is down: %+v", r)
		}
		if st, _ := h.stateOf("web"); st != stateDown {
			t.Errorf("state after a failed halt: %s", st)
		}
		go func() { done <- h.run("zoneadm", "-z", "web", "halt") }()
		proceed <- nil
		if r := <-done; r.code != 0 || r.err != "" {
			t.Errorf("second halt: %+v", r)
		}
		if st, _ := h.stateOf("web"); st != stateInstalled {
			t.Errorf("state after halt: %s", st)
		}
	})
}

// TestKilledZoneadm: zoneadmd goes on when zoneadm is killed.
func TestKilledZoneadm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, OmniOS)
		h.must("zonecfg", "-z", "web", "create -b; set zonepath=/zones/web")
		h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
		ready := make(chan struct{})
		h.backend.OnReady = func(Sandbox) error { <-ready; return nil }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan result)
		go func() { done <- h.runWith(ctx, "", "zoneadm", "-z", "web", "boot") }()
		synctest.Wait()
		cancel()
		if r := <-done; r.code == 0 {
			t.Errorf("killed zoneadm: %+v", r)
		}
		close(ready)
		synctest.Wait()
		if st, _ := h.stateOf("web"); st != stateRunning {
			t.Errorf("state = %s, want running", st)
		}
	})
}

// ownBrand returns a native brand with a change.
func ownBrand(t *testing.T, edit func(*Brand)) *Brand {
	b, err := builtinBrand(OmniOS, "sparse")
	if err != nil {
		t.Fatal(err)
	}
	b.Name = "own"
	edit(b)
	return b
}

// TestInitExit: what happens when init ends, by distribution and brand.
func TestInitExit(t *testing.T) {
	for _, tt := range []struct {
		name   string
		distro Distro
		edit   func(*Brand)
		attr   string
		status int
		alive  bool
		id     int
		last   string // content of lastexited
	}{
		{"restart", OmniOS, func(*Brand) {}, "", 0, true, 1, ""},
		{"no restart", OmniOS, func(b *Brand) { b.RestartInit = false }, "", 3 << 8, false, 0, "946684800.000000 768\n"},
		{"no restart on OpenIndiana", OpenIndiana, func(b *Brand) { b.RestartInit = false }, "", 3 << 8, false, 0, ""},
		{"restartinit0 after 0", OmniOS, func(b *Brand) { b.RestartInit0 = true }, "", 0, true, 1, ""},
		{"restartinit0 after a signal", OmniOS, func(b *Brand) { b.RestartInit0 = true }, "", 9, false, 0, "946684800.000000 9\n"},
		{"restartinitreboot", OmniOS, func(b *Brand) { b.RestartInitReboot = true }, "", 0, true, 2, ""},
		{"attr on SmartOS", SmartOS, func(*Brand) {}, "restart-init", 0, false, 0, "946684800.000000 0\n"},
		{"attr on OmniOS", OmniOS, func(*Brand) {}, "restart-init", 0, true, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				brand := ownBrand(t, tt.edit)
				h := newHost(t, tt.distro, func(c *Config) {
					c.Brands = func(string, program.Files) (*Brand, error) { return brand, nil }
				})
				boots := 0
				var exit func(int)
				h.backend.OnBoot = func(_ int, _ []string, f func(int)) error { boots++; exit = f; return nil }
				cfg := "create -b; set zonepath=/zones/web"
				if tt.attr != "" {
					cfg += "; add attr; set name=" + tt.attr + "; set type=boolean; set value=false; end"
				}
				h.must("zonecfg", "-z", "web", cfg)
				h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
				h.must("zoneadm", "-z", "web", "boot")
				first := exit
				first(tt.status)
				first(1) // has no effect
				synctest.Wait()
				if !tt.alive {
					if got := string(h.paths.Data("/zones/web/lastexited")); got != tt.last {
						t.Errorf("lastexited = %q, want %q", got, tt.last)
					}
				}
				time.Sleep(2 * restartPause)
				synctest.Wait()
				active := h.Active()
				if (len(active) == 1) != tt.alive || tt.alive && (active[0].ID != tt.id || boots != 2) {
					t.Errorf("zones = %+v after %d boots", active, boots)
				}
			})
		})
	}
}

// TestLastExitedAfterHalt: an administrator's halt leaves -1.
func TestLastExitedAfterHalt(t *testing.T) {
	h := newHost(t, OmniOS, func(c *Config) { c.Clock = func() time.Time { return time.Unix(12, 3456000) } })
	h.must("zonecfg", "-z", "web", "create -b; set zonepath=/zones/web")
	h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
	h.must("zoneadm", "-z", "web", "boot")
	h.must("zoneadm", "-z", "web", "halt")
	if got := string(h.paths.Data("/zones/web/lastexited")); got != "12.003456 -1\n" {
		t.Errorf("lastexited = %q", got)
	}
}
