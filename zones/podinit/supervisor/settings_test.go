//go:build linux

package supervisor_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/zonetest"
)

// output boots a zone with one container and returns what its log says.
func output(t *testing.T, z *zonetest.Zone, c podinit.Container) string {
	t.Helper()
	z.Boot(t, c)
	if st := until(t, z.Client(), c.Name, exited); st.StartError != "" {
		t.Fatal(st.StartError)
	}
	var out strings.Builder
	for line := range strings.Lines(readLog(t, z, c.Name+"/0.log")) {
		_, text, whole := strings.Cut(line, " F ")
		if !whole { // the last line had no end
			_, text, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " P ")
		}
		out.WriteString(text)
	}
	return out.String()
}

func id(n int64) *int64 { return &n }

func TestIdentity(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*podinit.Container)
		want string
	}{
		{"default", func(*podinit.Container) {}, "0 0 0 /root"},
		{"by-name", func(c *podinit.Container) { c.User = "web" }, "1000 1001 1001 2000 /home/web"},
		{"by-number", func(c *podinit.Container) { c.User = "1000" }, "1000 1001 1001 2000 /home/web"},
		{"unknown-number", func(c *podinit.Container) { c.User = "77:88" }, "77 88 88 /"},
		{"group-by-name", func(c *podinit.Container) { c.User = "77:extra" }, "77 2000 2000 /"},
		{"pod-wins", func(c *podinit.Container) {
			c.User, c.RunAsUser, c.RunAsGroup = "web", id(5), id(6)
			c.SupplementalGroups = []int64{42, 7}
		}, "5 6 6 7 42 /"},
		{"home-given", func(c *podinit.Container) { c.Env = append(c.Env, "HOME=/x") }, "0 0 0 /x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			z := zonetest.New(t)
			z.Busybox(t, "web")
			c := shell("web", `echo $(id -u) $(id -g) $(id -G) $HOME`)
			tt.edit(&c)
			if got := strings.TrimSpace(output(t, z, c)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			st := until(t, z.Client(), "web", exited)
			if want := strings.Fields(tt.want); len(want) > 1 && (itoa(st.UID) != want[0] || itoa(st.GID) != want[1]) {
				t.Errorf("the state says %d:%d", st.UID, st.GID)
			}
		})
	}
}

func itoa(n int64) string {
	var b []byte
	for ; n > 0 || b == nil; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func TestSurroundings(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	c := shell("web", `pwd; hostname; ls /proc/self/fd | tr '\n' ' '; echo; umask; readlink /proc/self/root; ls -d /reddwarf /c 2>/dev/null; cat /proc/1/comm; ls /dev/null`)
	c.Dir = "/made/for it"
	got := output(t, z, c)
	// ls has its directory open as 3.
	want := "/made/for it\npod-1\n0 1 2 3 \n0022\n/\ninit\n/dev/null\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLowPort has a user who is not root listen on a port below 1024.
func TestLowPort(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	c := shell("web", `nc -l -p 53 -w 1 2>&1`) // it gives up after a second
	c.RunAsUser = id(1000)
	if got := output(t, z, c); strings.Contains(got, "denied") {
		t.Errorf("with NET_BIND_SERVICE: %q", got)
	}
	z = zonetest.New(t)
	z.Busybox(t, "web")
	c.DropCapabilities = []string{"NET_BIND_SERVICE"}
	if got := output(t, z, c); !strings.Contains(got, "bind: Permission denied") {
		t.Errorf("without NET_BIND_SERVICE: %q", got)
	}
}

func TestPrivileges(t *testing.T) {
	const script = `grep -E 'Cap(Eff|Bnd|Inh)|NoNewPrivs' /proc/self/status | tr -s '\t\n' '  '`
	for _, tt := range []struct {
		name string
		edit func(*podinit.Container)
		want string
	}{
		{"default", func(*podinit.Container) {},
			"CapInh: 0000000000000000 CapEff: 00000000a80425fb CapBnd: 00000000a80425fb NoNewPrivs: 0 "},
		{"drop-all", func(c *podinit.Container) { c.DropCapabilities, c.NoNewPrivileges = []string{"ALL"}, true },
			"CapInh: 0000000000000000 CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1 "},
		{"drop-all-add-one", func(c *podinit.Container) {
			c.DropCapabilities, c.AddCapabilities = []string{"ALL"}, []string{"NET_BIND_SERVICE"}
		}, "CapInh: 0000000000000000 CapEff: 0000000000000400 CapBnd: 0000000000000400 NoNewPrivs: 0 "},
		{"add-one", func(c *podinit.Container) { c.AddCapabilities = []string{"CAP_NET_ADMIN"} },
			"CapInh: 0000000000000000 CapEff: 00000000a80435fb CapBnd: 00000000a80435fb NoNewPrivs: 0 "},
		{"not-root", func(c *podinit.Container) { c.RunAsUser = id(1000) },
			"CapInh: 0000000000000400 CapEff: 0000000000000400 CapBnd: 00000000a80425fb NoNewPrivs: 0 "},
		{"not-root-drop-all", func(c *podinit.Container) { c.RunAsUser, c.DropCapabilities = id(1000), []string{"ALL"} },
			"CapInh: 0000000000000000 CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 0 "},
		// As the manifest of CoreDNS has it.
		{"not-root-bind", func(c *podinit.Container) {
			c.RunAsUser, c.NoNewPrivileges = id(1000), true
			c.DropCapabilities, c.AddCapabilities = []string{"ALL"}, []string{"NET_BIND_SERVICE", "NET_RAW"}
		}, "CapInh: 0000000000000400 CapEff: 0000000000000400 CapBnd: 0000000000002400 NoNewPrivs: 1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			z := zonetest.New(t)
			z.Busybox(t, "web")
			c := shell("web", script)
			tt.edit(&c)
			if got := output(t, z, c); strings.TrimSpace(got) != strings.TrimSpace(tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestMounts(t *testing.T) {
	z := zonetest.New(t)
	root := z.Busybox(t, "web")
	// Links as images have them, and as a hostile image would.
	for link, to := range map[string]string{"var-run": "/run", "up": "../../../../..", "abs": "/"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	z.Write(t, "v/data/sub/file", "in sub\n")
	z.Write(t, "v/data/plain", "plain\n")
	if err := os.WriteFile(filepath.Join(z.Dir, "spec", "hosts"), []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := shell("web", `
cat /run/token/plain /etc/hosts /one /nested/inner/file
echo w >/nested/new && echo writable
(echo w >/run/token/x) 2>/dev/null || echo read-only
(echo w >/etc/hosts) 2>/dev/null || echo hosts read-only
ls /up-target
`)
	c.Mounts = []podinit.Mount{
		{Volume: "data", Target: "/var-run/token", ReadOnly: true},
		{File: "hosts", Target: "/etc/hosts"},
		{Volume: "data", SubPath: "plain", Target: "/one"},
		{Volume: "data", SubPath: "made/new", Target: "/nested"},
		{Volume: "data", SubPath: "sub", Target: "/nested/inner"},
		{Volume: "data", SubPath: "sub", Target: "/up/up-target"},
	}
	got := output(t, z, c)
	want := "plain\n127.0.0.1 localhost\nplain\nin sub\nwritable\nread-only\nhosts read-only\nfile\n"
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if _, err := os.Stat(z.Root("v/data/made/new/new")); err != nil {
		t.Errorf("what was written is not in the volume: %v", err)
	}
	if _, err := os.Stat(z.Root("up-target")); err == nil {
		t.Error("a mount point was made outside the container's root")
	}
}

// TestSubPaths: what leads out of a volume is refused, and the same attempt may
// be started again when that has been mended. Nothing outside is ever touched.
func TestSubPaths(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Write(t, "v/data/real/file", "of the volume\n")
	z.Write(t, "secret/file", "of the zone\n")
	for link, to := range map[string]string{
		"inside": "real", "deep/inside": "../real", "root": "/", "abs": "/v/data/real", "up": "../..", "rel": "../../secret",
		"file": "real/file", "loop": "loop", "dangling": "real/none", "out-file": "../../secret/file",
	} {
		if err := os.MkdirAll(filepath.Dir(z.Root("v/data", link)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, z.Root("v/data", link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(z.Root("v/data"), 0o770|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	z.Boot(t, shell("main", "sleep 1000"))
	c := z.Client()
	for i, tt := range []struct{ sub, want string }{
		{"real", "of the volume"}, {"inside", "of the volume"}, {"deep/inside", "of the volume"}, {"real/../real", "of the volume"},
		{"root", ""}, {"abs", ""}, {"up", ""}, {"rel", ""}, {"up/secret", ""}, {"loop", ""}, {"out-file", ""}, {"rel/made", ""},
		{"real/file/x", ""},
	} {
		web := shell("web", "cat /sub/file")
		web.Attempt = i
		web.Mounts = []podinit.Mount{{Volume: "data", SubPath: tt.sub, Target: "/sub"}}
		err := c.Start(t.Context(), web)
		if strings.Contains(tt.sub, "..") {
			if err == nil {
				t.Errorf("%s was accepted", tt.sub) // the API server refuses it before
			}
			continue
		}
		if tt.want != "" {
			if got := until(t, c, "web", func(s podinit.ContainerState) bool { return exited(s) && s.Attempt == i }); err != nil || got.ExitCode != 0 {
				t.Errorf("%s: %v, %+v", tt.sub, err, got)
			}
			continue
		}
		var refused *podinit.Error
		if !errors.As(err, &refused) || refused.Reason != podinit.ReasonConfig || !strings.Contains(refused.Message, "subPath") {
			t.Errorf("%s: %v", tt.sub, err)
		}
		state := until(t, c, "web", func(s podinit.ContainerState) bool { return s.Attempt == i })
		if state.Phase != podinit.Waiting || state.ConfigError == "" {
			t.Errorf("%s: the state is %+v", tt.sub, state)
		}
	}
	if _, err := os.Lstat(z.Root("secret/made")); err == nil {
		t.Error("SOMETHING WAS MADE OUTSIDE OF THE VOLUME")
	}

	// A file, a link to one, a directory that is missing, and one by another
	// try of the same attempt.
	last := shell("web", "cat /one /two; stat -c %a /three; readlink /four/link; cat /four/file")
	last.Attempt = 100
	last.Mounts = []podinit.Mount{
		{Volume: "data", SubPath: "real/file", Target: "/one"}, {Volume: "data", SubPath: "file", Target: "/two"},
		{Volume: "data", SubPath: "missing/too", Target: "/three", ReadOnly: true}, {Volume: "data", SubPath: "abs", Target: "/four"},
	}
	if err := c.Start(t.Context(), last); err == nil {
		t.Error("a link out of the volume was followed")
	}
	if err := errors.Join(os.Remove(z.Root("v/data/abs")), os.Symlink("real", z.Root("v/data/abs")), os.Symlink("/etc", z.Root("v/data/real/link"))); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	until(t, c, "web", func(s podinit.ContainerState) bool { return exited(s) && s.Attempt == 100 && s.ConfigError == "" })
	if log := readLog(t, z, "web/100.log"); strings.Count(log, "of the volume") != 3 || !strings.Contains(log, "F 2770\n") {
		t.Errorf("the log is %q", log)
	}
}

// TestSubPathUnderARace: a container that swaps a directory for a link to the
// zone's root while others are started with it as their subPath gets them either
// the directory or nothing.
func TestSubPathUnderARace(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Busybox(t, "flip")
	z.Write(t, "v/data/real/file", "of the volume\n")
	z.Write(t, "file", "OF THE ZONE\n")
	flip := shell("flip", "cd /data; while :; do ln -s / a; mv -T a sub; rm sub; cp -r real b; mv b sub; rm -r sub; done 2>/dev/null")
	flip.Mounts = []podinit.Mount{{Volume: "data", Target: "/data"}}
	z.Boot(t, flip)
	c := z.Client()
	until(t, c, "flip", running)
	ran, refused := 0, 0
	for i := range 60 {
		web := shell("web", "cat /sub/file; test -e /sub/reddwarf && echo OF THE ZONE")
		web.Attempt = i
		web.Mounts = []podinit.Mount{{Volume: "data", SubPath: "sub", Target: "/sub"}}
		if err := c.Start(t.Context(), web); err != nil {
			refused++
			continue
		}
		ran++
		until(t, c, "web", func(s podinit.ContainerState) bool { return exited(s) && s.Attempt == i })
		if log, err := os.ReadFile(filepath.Join(z.Dir, "logs/web", strconv.Itoa(i)+".log")); err == nil && strings.Contains(string(log), "OF THE ZONE") {
			t.Fatalf("THE CONTAINER SEES THE ZONE: %s", log)
		}
	}
	t.Logf("%d ran, %d were refused", ran, refused)
	if ran == 0 {
		t.Error("none ran: nothing was tested")
	}
}

// TestSpareRoot: a container that nobody knew of at the boot runs in a root
// that the host has put into one of the places for those.
func TestSpareRoot(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	tool := z.Busybox(t, "tool")
	if err := os.MkdirAll(z.Root("e"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tool, z.Root("e/3")); err != nil {
		t.Fatal(err)
	}
	z.Write(t, "v/data/file", "of the pod\n")
	z.Boot(t, shell("web", "sleep 1000"))
	c := z.Client()
	until(t, c, "web", running)

	spare := shell("tool", "cat /data/file; pidof sleep >/dev/null && echo sees web; echo message >/dev/termination-log; touch /data/new; exit 3")
	spare.Spare, spare.ReadOnlyRoot, spare.TerminationMessagePath = 3, true, "/dev/termination-log"
	spare.Mounts = []podinit.Mount{{Volume: "data", Target: "/data"}}
	if err := c.Start(t.Context(), spare); err != nil {
		t.Fatal(err)
	}
	got := until(t, c, "tool", exited)
	if got.ExitCode != 3 || got.Message != "message\n" || got.StartError != "" {
		t.Errorf("it ended as %+v", got)
	}
	if log := readLog(t, z, "tool/0.log"); !strings.Contains(log, "of the pod") || !strings.Contains(log, "sees web") {
		t.Errorf("its log is %q", log)
	}
	if _, err := os.Stat(z.Root("v/data/new")); err != nil {
		t.Error(err)
	}

	// One that still runs ends with the zone, and the next boot knows of both.
	spare.Name, spare.Spare = "second", 4
	spare.Args = []string{"sh", "-c", "sleep 1000"}
	if err := c.Start(t.Context(), spare); err != nil {
		t.Fatal(err)
	}
	if got := until(t, c, "second", exited); !strings.Contains(got.StartError, "no root file system") {
		t.Errorf("without a root: %+v", got)
	}
	spare.Name, spare.Spare = "third", 3
	if err := c.Start(t.Context(), spare); err != nil {
		t.Fatal(err)
	}
	until(t, c, "third", running)
	z.Kill()
	z.BootAgain(t)
	state, err := z.Client().State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]int{}
	for _, s := range state.Containers {
		ends[s.Name] = s.ExitCode
	}
	if ends["tool"] != 3 || ends["third"] != 137 {
		t.Errorf("after the zone's restart: %+v", state.Containers)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Write(t, "v/data/file", "x\n")
	c := shell("web", `(echo w >/x) 2>/dev/null || echo refused; echo w >/data/y && echo allowed; mkdir -p /tmp/z 2>/dev/null || echo refused; echo bye >/dev/termination-log`)
	c.ReadOnlyRoot = true
	c.TerminationMessagePath = "/dev/termination-log"
	c.Mounts = []podinit.Mount{{Volume: "data", Target: "/data"}}
	if got := output(t, z, c); got != "refused\nallowed\nrefused\n" {
		t.Errorf("got %q", got)
	}
	if st := until(t, z.Client(), "web", exited); st.Message != "bye\n" {
		t.Errorf("message %q", st.Message)
	}
}
