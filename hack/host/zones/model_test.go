package zones

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"reddwarf.io/reddwarf/hack/host/program"
)

// TestParallel drives many zones from many goroutines, with several zoneadm
// for each zone at once.
func TestParallel(t *testing.T) {
	h := newHost(t, OmniOS)
	try := func(argv ...string) { // not must: only the test's own goroutine may end it
		if r := h.run(argv...); r.code != 0 {
			t.Errorf("%q: exit code %d, stderr:\n%s", argv, r.code, r.err)
		}
	}
	var wg sync.WaitGroup
	const zoneCount = 8
	for i := range zoneCount {
		name := fmt.Sprintf("z%d", i)
		wg.Go(func() {
			for range 5 {
				try("zonecfg", "-z", name, "create -b; set zonepath=/zones/"+name)
				try("zoneadm", "-z", name, "mark", "-F", "installed")
				var both sync.WaitGroup
				for range 2 {
					both.Go(func() { try("zoneadm", "-z", name, "boot") })
				}
				both.Wait()
				try("zlogin", name, "true")
				for range 2 {
					both.Go(func() { try("zoneadm", "-z", name, "halt") })
				}
				both.Wait()
				try("zoneadm", "-z", name, "mark", "-F", "configured")
				try("zonecfg", "-z", name, "delete", "-F")
			}
		})
		wg.Go(func() {
			for range 20 {
				try("zoneadm", "list", "-cp")
				h.List()
				if _, err := h.Save(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if all := h.List(); len(all) != 1 {
		t.Errorf("left behind: %+v", all)
	}
	h.must("zonecfg", "-z", "last", "create -b; set zonepath=/zones/last")
	h.must("zoneadm", "-z", "last", "mark", "-F", "installed")
	h.must("zoneadm", "-z", "last", "boot")
	if id := h.Active()[0].ID; id != 5*zoneCount+1 {
		t.Errorf("id = %d after %d boots", id, 5*zoneCount)
	}
}

func TestSaveLoadReboot(t *testing.T) {
	h := newHost(t, OmniOS)
	h.file("/tmp/z", podConfig)
	h.must("zonecfg", "-z", "rdw-1", "-f", "/tmp/z")
	h.must("zoneadm", "-z", "rdw-1", "mark", "-F", "installed")
	h.must("zonecfg", "-z", "db", "create -b; set zonepath=/zones/db")
	h.must("zoneadm", "-z", "rdw-1", "boot")
	if err := h.Load([]byte("{}")); err == nil {
		t.Error("Load while a zone runs succeeded")
	}
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.backend.Sandbox(1); ok || len(h.Active()) != 0 {
		t.Error("a zone has survived the reboot")
	}
	data, err := h.Save()
	if err != nil {
		t.Fatal(err)
	}
	other := newHost(t, OmniOS)
	if err := other.Load(data); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]string{{"zoneadm", "list", "-cp"}, {"zonecfg", "-z", "rdw-1", "export"}, {"zonecfg", "-z", "db", "info"}} {
		if got, want := other.must(cmd...), h.must(cmd...); got != want {
			t.Errorf("%q after Load:\n%s\nwant:\n%s", cmd, got, want)
		}
	}
	other.must("zoneadm", "-z", "rdw-1", "boot")
	if id := other.Active()[0].ID; id != 1 {
		t.Errorf("first id after a reboot = %d", id)
	}
	for _, bad := range []string{"", "[]", `{"Zones":[{"Name":"a b","Config":{}}]}`, `{"Zones":[{"Name":"a"}]}`, `{"Zones":[{"Name":"a","State":4,"Config":{}}]}`} {
		if err := newHost(t, OmniOS).Load([]byte(bad)); err == nil {
			t.Errorf("Load(%s) succeeded", bad)
		}
	}
}

func TestClosedModelDoesNothing(t *testing.T) {
	h := newHost(t, OmniOS)
	h.must("zonecfg", "-z", "web", "create -b; set zonepath=/zones/web")
	h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
	h.Close()
	if r := h.run("zoneadm", "-z", "web", "boot"); r.code != 1 {
		t.Errorf("boot after Close: %+v", r)
	}
}

func TestSetCapsAndUsage(t *testing.T) {
	h := newHost(t, OmniOS)
	h.must("zonecfg", "-z", "web", "create -b; set zonepath=/zones/web; set max-lwps=500")
	h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
	h.must("zoneadm", "-z", "web", "boot")
	if c := h.Active()[0].Caps; c.MaxLWPs != 500 || c.MaxProcesses != 500 {
		t.Errorf("caps = %+v", c)
	}
	if err := h.SetCaps(t.Context(), 1, Caps{CPU: 50}); err != nil {
		t.Fatal(err)
	}
	if c := h.Active()[0].Caps; c != (Caps{CPU: 50}) {
		t.Errorf("caps after SetCaps = %+v", c)
	}
	if u, err := h.Usage(t.Context(), 1); err != nil || u.Processes != 1 {
		t.Errorf("usage = %+v, %v", u, err)
	}
	if err := h.SetCaps(t.Context(), 9, Caps{}); err == nil {
		t.Error("SetCaps of an unknown zone succeeded")
	}
}

func TestBrandFiles(t *testing.T) {
	const good = `<brand name="own"><initname>/sbin/init</initname><restartinit>false</restartinit><restartinit0>true</restartinit0>` +
		`<login_cmd>/l</login_cmd><forcedlogin_cmd>/f %Z %u</forcedlogin_cmd><user_cmd>/u</user_cmd><install>/bin/true</install>` +
		`<privilege set="default" name="proc_fork"/><privilege set="required" name="sys_ip_config" ip-type="exclusive"/></brand>`
	const platform = `<platform name="own" allow-exclusive-ip="true"></platform>`
	for _, tt := range []struct{ name, config, platform, want string }{
		{"good", good, platform, ""},
		{"broken", good[:50], platform, "EOF"},
		{"order", strings.Replace(good, "<login_cmd>/l</login_cmd>", "", 1) + " ", platform, "element login_cmd is missing"},
		{"late restartinit", strings.Replace(strings.Replace(good, "<restartinit>false</restartinit>", "", 1), "<install>", "<install>/x</install><restartinit>false</restartinit><install>", 1), platform, "must come before"},
		{"unknown", strings.Replace(good, "<install>", "<magic/><install>", 1), platform, "unknown element magic"},
		{"other name", strings.Replace(good, `"own"`, `"other"`, 1), platform, "of brand"},
		{"no platform", good, "", "platform.xml"},
		{"other platform", good, `<platform name="x"/>`, "of brand"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t, OmniOS)
			h.file("/usr/lib/brand/own/config.xml", tt.config)
			if tt.platform != "" {
				h.file("/usr/lib/brand/own/platform.xml", tt.platform)
			}
			b, err := InstalledBrands(OmniOS)("own", testFiles{h.files})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error = %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if b.RestartInit || !b.RestartInit0 || !b.ExclusiveIP || b.BootsLikeLinux || b.LoginCmd != "/f %Z %u" || len(b.Privileges) != 2 {
				t.Errorf("brand = %+v", b)
			}
		})
	}
	for d, has := range map[Distro]bool{OmniOS: true, SmartOS: true, OpenIndiana: false} {
		if _, err := InstalledBrands(d)("lx", nil); (err == nil) != has {
			t.Errorf("%s: lx: %v", d, err)
		}
	}
	if _, err := InstalledBrands(OmniOS)("../lx", nil); err == nil {
		t.Error("a brand outside of its directory was found")
	}
}

func TestUnsimulatedHookIsRefused(t *testing.T) {
	h := newHost(t, OmniOS, func(c *Config) {
		c.Brands = func(name string, _ program.Files) (*Brand, error) {
			b, err := builtinBrand(OmniOS, "sparse")
			b.Hooks["prestatechange"] = "/usr/lib/brand/own/pre %z %R"
			return b, err
		}
	})
	h.must("zonecfg", "-z", "web", "create -b; set zonepath=/zones/web")
	h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
	if r := h.run("zoneadm", "-z", "web", "boot"); r.code != 1 || !strings.HasPrefix(r.err, "zone 'web': simulated host: the prestatechange of brand sparse is not simulated\n") {
		t.Errorf("boot: %+v", r)
	}
}

func TestCheckPrivileges(t *testing.T) {
	b, err := builtinBrand(OmniOS, "lx")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		limit, ipType, name string
		want                code
	}{
		{"", "exclusive", "", zOK},
		{"default", "exclusive", "", zOK},
		{"default,sys_time,!sys_nfs", "exclusive", "", zOK},
		{"default,PRIV_DTRACE_USER", "exclusive", "", zOK},
		{"default,proc_zone", "exclusive", "proc_zone", zPrivProhibited},
		{"default,!proc_fork", "exclusive", "proc_fork", zPrivRequired},
		{"default,fly", "exclusive", "fly", zPrivUnknown},
		{"basic,sys_mount", "exclusive", "sys_ip_config", zPrivRequired},
		{"basic,sys_mount", "shared", "", zOK},
		{"default,sys_ip_config", "shared", "sys_ip_config", zPrivProhibited},
		{"all", "exclusive", "dtrace_kernel", zPrivProhibited},
	} {
		if name, got := b.checkPrivileges(tt.limit, tt.ipType); got != tt.want || name != tt.name {
			t.Errorf("limitpriv %q, %s: %q, %v; want %q, %v", tt.limit, tt.ipType, name, got, tt.name, tt.want)
		}
	}
}

// TestHostPaths uses the real file system.
func TestHostPaths(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var p Paths = HostPaths{}
	zone := filepath.Join(dir, "a", "zone")
	if _, err := p.Lstat(zone); !os.IsNotExist(err) {
		t.Errorf("Lstat = %v", err)
	}
	if err := p.MkdirAll(zone, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.Chmod(zone, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.Chown(zone, os.Getuid()); err != nil {
		t.Fatal(err)
	}
	info, err := p.Lstat(zone)
	if err != nil || info.Mode != fs.ModeDir|0o700 || info.UID != os.Getuid() {
		t.Errorf("Lstat = %+v, %v", info, err)
	}
	if err := os.Symlink(zone, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Resolve(filepath.Join(dir, "link")); err != nil || got != zone {
		t.Errorf("Resolve = %s, %v", got, err)
	}
	if err := p.WriteFile(filepath.Join(zone, "lastexited"), []byte("x"), 0o644); err != nil {
		t.Error(err)
	}
}

// TestKilledCommandsReturn: a command that waits for a lock ends with its
// context.
func TestKilledCommandsReturn(t *testing.T) {
	h := newHost(t, OmniOS)
	h.must("zonecfg", "-z", "web", "create -b; set zonepath=/zones/web")
	h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
	if err := h.lock(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := h.runWith(ctx, "", "zoneadm", "-z", "web", "boot"); r.code != 1 {
		t.Errorf("boot: %+v", r)
	}
	if r := h.runWith(ctx, "", "zoneadm", "-z", "web", "mark", "-F", "configured"); r.code != 1 {
		t.Errorf("mark: %+v", r)
	}
	h.unlock("web")
	h.must("zoneadm", "-z", "web", "boot")
}

// TestRebootOfOwnBrand: a zone that reboots by itself finds its brand's files
// again.
func TestRebootOfOwnBrand(t *testing.T) {
	h := newHost(t, OmniOS)
	h.file("/usr/lib/brand/own/config.xml", `<brand name="own"><initname>/sbin/init</initname><restartinit>true</restartinit><restartinitreboot>true</restartinitreboot>`+
		`<login_cmd>/l</login_cmd><forcedlogin_cmd>/f</forcedlogin_cmd><user_cmd>/u</user_cmd><install>/bin/true</install><privilege set="default" name="proc_fork"/></brand>`)
	h.file("/usr/lib/brand/own/platform.xml", `<platform name="own" allow-exclusive-ip="true"/>`)
	exits := make(chan func(int), 2)
	h.backend.OnBoot = func(_ int, _ []string, f func(int)) error { exits <- f; return nil }
	h.must("zonecfg", "-z", "web", "create -b; set brand=own; set zonepath=/zones/web; set ip-type=exclusive")
	h.must("zoneadm", "-z", "web", "install")
	h.must("zoneadm", "-z", "web", "boot")
	(<-exits)(0)
	<-exits
	if active := h.Active(); len(active) != 1 || active[0].ID != 2 {
		t.Errorf("zones = %+v", active)
	}
}

func TestPlatformMounts(t *testing.T) {
	b := &Brand{Name: "own"}
	err := b.parsePlatform([]byte(`<platform name="own" allow-exclusive-ip="true">
		<global_mount special="/usr" directory="/usr" type="lofs" opt="ro,nodevices"/>
		<mount special="/proc" directory="/proc" type="proc"/><device match="null"/></platform>`))
	if err != nil {
		t.Fatal(err)
	}
	global := []Mount{{Type: "lofs", Special: "/usr", Dir: "/usr", Options: []string{"ro", "nodevices"}}}
	inside := []Mount{{Type: "proc", Special: "/proc", Dir: "/proc"}}
	if !reflect.DeepEqual(b.GlobalMounts, global) || !reflect.DeepEqual(b.Mounts, inside) {
		t.Errorf("mounts = %+v and %+v", b.GlobalMounts, b.Mounts)
	}
}
