package zones

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
)

// zloginHost returns a host with a running zone web whose programs print
// their argument vector, one argument a line.
func zloginHost(t *testing.T, d Distro) *host {
	h := newHost(t, d)
	brand := "lx"
	if d == OpenIndiana {
		brand = "ipkg"
	}
	h.must("zonecfg", "-z", "web", "create -b; set brand="+brand+"; set zonepath=/zones/web; set ip-type=exclusive")
	h.must("zoneadm", "-z", "web", "mark", "-F", "installed")
	h.must("zoneadm", "-z", "web", "boot")
	h.backend.OnEnter = func(_ context.Context, _ int, e Entry) (int, error) {
		_, err := io.WriteString(e.Stdout, strings.Join(e.Argv, "\n"))
		return 0, err
	}
	return h
}

func TestZloginRuns(t *testing.T) {
	joyent := []Distro{OmniOS, SmartOS}
	for _, tt := range []struct {
		distros []Distro
		args    []string
		want    string
	}{
		// the gate adds a blank after each word and quotes nothing
		{[]Distro{OpenIndiana}, []string{"web", "echo", "a b", "it's"}, "/usr/bin/su\nroot\n-c\necho a b it's "},
		{[]Distro{OpenIndiana}, []string{"web", "exec /x 'a b'"}, "/usr/bin/su\nroot\n-c\nexec /x 'a b' "},
		// Joyent: one word goes as it is, of several those with blanks are quoted
		{joyent, []string{"web", "exec /x 'a b'"}, "/usr/bin/su\nroot\n-c\nexec /x 'a b'"},
		{joyent, []string{"web", "echo", "a b", "c\td", "$e;", "it's"}, "/usr/bin/su\nroot\n-c\necho 'a b' 'c\td' $e; it's"},
		{joyent, []string{"web", "echo", "it's a"}, "/usr/bin/su\nroot\n-c\necho 'it's a'"},
		{joyent, []string{"-l", "bob", "web", "id"}, "/usr/bin/su\n-\nbob\n-c\nid"},
		{joyent, []string{"-S", "web", "id", "-u"}, "/sbin/sh\n-c\nid -u"},
		{joyent, []string{"-S", "web"}, "/sbin/sh"},
		{joyent, []string{"-Q", "-n", "web", "id"}, "/usr/bin/su\nroot\n-c\nid"},
		{joyent, []string{"web"}, "/bin/login\n-h\nzone:global\n-f\nroot"},
	} {
		for _, d := range tt.distros {
			h := zloginHost(t, d)
			r := h.run(append([]string{"zlogin"}, tt.args...)...)
			if r.code != 0 || r.out != tt.want || r.err != "" {
				t.Errorf("%s: zlogin %q: exit code %d, stdout %q, want %q, stderr %q", d, tt.args, r.code, r.out, tt.want, r.err)
			}
		}
	}
}

func TestZloginRefuses(t *testing.T) {
	h := zloginHost(t, OmniOS)
	h.must("zonecfg", "-z", "db", "create -b; set zonepath=/zones/db")
	usage := "usage: zlogin [ -dinCEINQS ] [ -e cmdchar ] [-l user] zonename [command [args ...] ]\n"
	for _, tt := range []struct {
		args string
		want string
		code int
	}{
		{"", usage, 2},
		{"-x web", "zlogin: illegal option -- x\n" + usage, 2},
		{"-n web", "zlogin: -n may not be specified for interactive login\n" + usage, 2},
		{"-S -l bob web", "zlogin: -l may not be specified for failsafe login\n" + usage, 2},
		{"-C -l bob web", "zlogin: -l may not be specified for console login\n" + usage, 2},
		{"-C web id", "zlogin: Commands may not be specified for console login.\n" + usage, 2},
		{"-d web", "zlogin: -d may only be specified with console login\n" + usage, 2},
		{"-C web", "simulated host: zlogin -C and -I are not simulated\n", 1},
		{"-i web id", "simulated host: what zlogin -i does without a terminal is undefined\n", 1},
		{"none id", "zlogin: zone 'none' unknown\n", 1},
		{"global id", "zlogin: 'zlogin' not applicable to the global zone\n", 1},
		{"db id", "zlogin: cannot login to a zone which is 'configured'\n", 1},
	} {
		r := h.run(append([]string{"zlogin"}, strings.Fields(tt.args)...)...)
		if r.code != tt.code || r.err != tt.want || r.out != "" {
			t.Errorf("zlogin %s: exit code %d, stderr %q; want %d, %q", tt.args, r.code, r.err, tt.code, tt.want)
		}
	}
	h.must("zoneadm", "-z", "db", "mark", "-F", "installed")
	if r := h.run("zlogin", "db", "id"); r.code != 1 || r.err != "zlogin: login allowed only to running zones (db is 'installed').\n" {
		t.Errorf("zlogin to an installed zone: %+v", r)
	}
	h.must("zoneadm", "-z", "db", "ready")
	if r := h.run("zlogin", "db", "id"); r.code != 1 || r.err != "zlogin: login allowed only to running zones (db is 'ready').\n" {
		t.Errorf("zlogin to a ready zone: %+v", r)
	}
	if r := zloginHost(t, OpenIndiana).run("zlogin", "-i", "web", "id"); r.code != 2 || !strings.HasPrefix(r.err, "zlogin: illegal option -- i\nusage: zlogin [ -dnQCES ]") {
		t.Errorf("zlogin -i on OpenIndiana: %+v", r)
	}
}

// TestZloginExitCode: zlogin returns WEXITSTATUS, which is 0 for a program
// that a signal killed.
func TestZloginExitCode(t *testing.T) {
	h := zloginHost(t, OmniOS)
	for status, want := range map[int]int{0: 0, 7 << 8: 7, 255 << 8: 255, 9: 0, 15: 0, 137 << 8: 137} {
		h.backend.OnEnter = func(context.Context, int, Entry) (int, error) { return status, nil }
		if r := h.run("zlogin", "web", "x"); r.code != want {
			t.Errorf("status %#x: exit code %d, want %d", status, r.code, want)
		}
	}
	h.backend.OnEnter = func(context.Context, int, Entry) (int, error) { return 0, fmt.Errorf("no such process") }
	if r := h.run("zlogin", "web", "x"); r.code != 1 || r.err != "zlogin: could not enter zone web: no such process\n" {
		t.Errorf("zlogin into nothing: %+v", r)
	}
}

func TestZloginEnvironment(t *testing.T) {
	h := zloginHost(t, OmniOS)
	var got Entry
	h.backend.OnEnter = func(_ context.Context, _ int, e Entry) (int, error) { got = e; return 0, nil }
	check := func(what, wantDir string, want ...string) {
		t.Helper()
		if strings.Join(got.Env, " ") != strings.Join(want, " ") || got.Dir != wantDir {
			t.Errorf("%s: env %q in %s, want %q in %s", what, got.Env, got.Dir, want, wantDir)
		}
	}
	h.must("zlogin", "web", "x")
	check("no passwd", "/", "PATH=/bin:/usr/sbin:/usr/bin", "HOME=/", "SHELL=/sbin/sh")
	h.file("/zones/web/root/etc/passwd", "bin:x:1:1::/bin:\nroot:x:0:0:root:/root:/bin/bash\n")
	h.must("zlogin", "web", "x")
	check("passwd", "/root", "PATH=/bin:/usr/sbin:/usr/bin", "LOGNAME=root", "HOME=/root", "MAIL=/var/mail/root", "SHELL=/bin/bash")
	h.must("zlogin", "-S", "web", "x")
	check("failsafe", "/", "PATH=/bin:/usr/sbin:/usr/bin", "HOME=/", "SHELL=/sbin/sh")
	h.paths.Remove("/zones/web/root/root")
	if r := h.run("zlogin", "web", "x"); r.code != 0 || r.err != "zlogin: Could not chdir to home directory /root: No such file or directory\n" {
		t.Errorf("without home: %+v", r)
	}
	r := h.runWith(t.Context(), "input", "zlogin", "web", "x")
	if data, err := io.ReadAll(got.Stdin); err != nil || string(data) != "input" {
		t.Errorf("stdin = %q, %v, %+v", data, err, r)
	}
	h.runWith(t.Context(), "input", "zlogin", "-n", "web", "x")
	if data, err := io.ReadAll(got.Stdin); err != nil || len(data) != 0 {
		t.Errorf("stdin with -n = %q, %v", data, err)
	}
}

// TestZloginWithoutSu: in a root without su, OmniOS' zlogin runs the words as
// a program; SmartOS' does not notice.
func TestZloginWithoutSu(t *testing.T) {
	for d, want := range map[Distro]string{OmniOS: "/bin/x\na b", SmartOS: "/usr/bin/su\nroot\n-c\n/bin/x 'a b'"} {
		h := zloginHost(t, d)
		h.paths.Remove("/zones/web/root/usr/bin/su")
		h.paths.Remove("/zones/web/root/bin/su")
		if r := h.run("zlogin", "web", "/bin/x", "a b"); r.out != want {
			t.Errorf("%s: ran %q, want %q", d, r.out, want)
		}
	}
	h := zloginHost(t, OmniOS)
	h.paths.Remove("/zones/web/root/usr/bin")
	if r := h.run("zlogin", "web", "id"); r.out != "/bin/su\nroot\n-c\nid" {
		t.Errorf("with /bin/su only: ran %q", r.out)
	}
}

// TestZloginTerminal: with a terminal a login or -i gets a pty of the zone.
func TestZloginTerminal(t *testing.T) {
	h := zloginHost(t, OmniOS)
	var got Entry
	h.backend.OnEnter = func(_ context.Context, _ int, e Entry) (int, error) { got = e; return 0, nil }
	for _, tt := range []struct {
		args     []string
		want     string
		terminal bool
	}{
		{[]string{"web"}, "/bin/login -h zone:global -f root", true},
		{[]string{"-i", "web", "/bin/x", "a b"}, "/bin/x a b", true},
		{[]string{"web", "id"}, "/usr/bin/su root -c id", false},
	} {
		h.terminal(append([]string{"zlogin"}, tt.args...), "")
		if strings.Join(got.Argv, " ") != tt.want || got.Terminal != tt.terminal {
			t.Errorf("zlogin %q: %q, terminal %v", tt.args, got.Argv, got.Terminal)
		}
	}
}
