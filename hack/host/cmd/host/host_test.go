//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host"
)

func TestLabReturnsTheExitCode(t *testing.T) {
	for _, tt := range []struct {
		script string
		code   int
	}{{"exit 0", 0}, {"exit 7", 7}, {"kill -9 $$", 137}, {"hostname | grep -qx lab", 0}, {"ip -o addr show lan0 | grep -q 198.51.100.1/24", 0}} {
		b := newBench(t)
		if out, code := b.run(exec.Command(b.exe, "lab", "run", "--dir", b.dir, "--", "sh", "-c", tt.script)); code != tt.code {
			t.Errorf("%q: exit %d, want %d: %s", tt.script, code, tt.code, out)
		}
		b.nothingLeft()
	}
}

func TestLabRelaysIntoTheLAN(t *testing.T) {
	b := newBench(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	outside := ln.Addr().String()
	_ = ln.Close()
	cmd := exec.Command(b.exe, "lab", "run", "--dir", b.dir, "--relay", outside+"=198.51.100.1:7000", "--",
		"sh", "-c", "echo ready; busybox nc -l -p 7000 -e cat; cat >/dev/null")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = cmd.Wait()
		b.nothingLeft()
	}()
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ {
		got := echo(t, outside)
		if got == "hello" {
			break
		}
		if tries > 100 {
			_ = cmd.Process.Kill()
			t.Fatalf("the relay answers %q", got)
		}
		time.Sleep(20 * time.Millisecond) // nc is starting
	}
}

func echo(t *testing.T, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("hello"))
	_ = c.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(c)
	return string(got)
}

func TestHostsNeedALab(t *testing.T) {
	b := newBench(t)
	out, code := b.run(exec.Command(b.exe, "up", "a"))
	if code == 0 || !strings.Contains(out, "host lab run --dir DIR") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := b.host("list"); code == 0 || !strings.Contains(out, "no lab is running there") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := b.run(exec.Command(b.exe, "bogus")); code != 2 || !strings.Contains(out, "host help") {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestHost(t *testing.T) {
	b := start(t)
	trace := filepath.Join(b.dir, "trace")
	b.up("--trace", trace, "--distro", "smartos", "--ip", "198.51.100.40")
	t.Run("commands", b.testCommands)
	t.Run("zone", b.testZone)
	t.Run("files", b.testFiles)
	t.Run("faults", b.testFaults)
	t.Run("trace", func(t *testing.T) { b.testTrace(t, trace) })
	t.Run("reboot", b.testReboot)
}

func (b *bench) testCommands(t *testing.T) {
	for _, tt := range []struct {
		script, want string
		code         int
	}{
		{"hostname", b.hostName() + "\n", 0},
		{"zoneadm list -p | cut -d: -f1-3", "0:global:running\n", 0},
		{"zoneadm -z nope list", "zoneadm: nope: No such zone configured\n", 1},
		{"zoneadm list -z >/dev/null 2>&1", "", 2},
		{"ipadm show-addr -p -o addr net0/v4", "198.51.100.40/24\n", 0},
		{"busybox ip route | grep -o 'default via 198.51.100.1'", "default via 198.51.100.1\n", 0},
		{"busybox ping -c 1 -w 5 198.51.100.1 >/dev/null", "", 0},
		{". /etc/os-release; echo $ID", "smartos\n", 0},
		{"kill -TERM $$", "", 143},
		{"exit 200", "", 200},
	} {
		if out, code := b.on("sh", "-c", tt.script); out != tt.want || code != tt.code {
			t.Errorf("%s: exit %d, want %d: %q, want %q", tt.script, code, tt.code, out, tt.want)
		}
	}
	if out := b.must("list"); !strings.Contains(out, b.hostName()+"  up") {
		t.Errorf("list: %s", out)
	}
	if out, code := b.host("up", b.hostName()); code == 0 || !strings.Contains(out, "is up already") {
		t.Errorf("second up: exit %d: %s", code, out)
	}
}

func (b *bench) testZone(t *testing.T) {
	b.zone("web", "while :; do sleep 1000; done")
	for _, tt := range []struct {
		script, want string
		code         int
	}{
		{"zlogin -n web 'cat /proc/1/comm; exit 9'", "init\n", 9},
		{"echo in | zlogin web cat", "in\n", 0},
		{"zlogin -n web 'kill -9 $$'", "", 0}, // as on illumos, see zlogin(1)
		{"zlogin nope true", "zlogin: zone 'nope' unknown\n", 1},
	} {
		if out, code := b.on("sh", "-c", tt.script); out != tt.want || code != tt.code {
			t.Errorf("%s: exit %d, want %d: %q, want %q", tt.script, code, tt.code, out, tt.want)
		}
	}
}

func (b *bench) testFiles(t *testing.T) {
	if out, code := b.on("sh", "-c", "echo changed >/etc/passwd && touch /usr/bin/new-$$ && cat /etc/passwd"); code != 0 || out != "changed\n" {
		t.Errorf("exit %d: %s", code, out)
	}
	if data, err := os.ReadFile("/etc/passwd"); err != nil || string(data) == "changed\n" {
		t.Errorf("THE REAL MACHINE WAS CHANGED: %q, %v", data, err)
	}
}

func (b *bench) testFaults(t *testing.T) {
	name := b.hostName()
	b.must("fault", name, "--match", "zonename*", "--after", "1", "--times", "1", "--fail", "3", "--stderr", "no luck")
	for i, want := range []struct {
		out  string
		code int
	}{{"global\n", 0}, {"no luck\n", 3}, {"global\n", 0}} {
		if out, code := b.on("zonename"); out != want.out || code != want.code {
			t.Errorf("run %d: exit %d, %q; want %+v", i, code, out, want)
		}
	}
	if out := b.must("fault", name); !strings.Contains(out, `"zonename*"`) {
		t.Errorf("faults: %q", out)
	}
	if out, code := b.host("fault", name, "--match", "x"); code == 0 || !strings.Contains(out, "nothing that goes wrong") {
		t.Errorf("empty fault: exit %d: %s", code, out)
	}
	b.must("fault", name, "--clear")
	if out := b.must("fault", name); out != "" {
		t.Errorf("faults after --clear: %q", out)
	}
	// The agent is the shell that runs the command.
	b.must("fault", name, "--match", "zonename", "--kill-agent-after")
	if out, code := b.on("sh", "-c", "zonename; echo survived"); code != 137 || strings.Contains(out, "survived") {
		t.Errorf("kill-agent-after: exit %d: %q", code, out)
	}
	b.must("fault", name, "--clear")
	b.must("fault", name, "--match", "zonename -t", "--hang")
	if out, code := b.on("timeout", "-s", "KILL", "0.3", "zonename", "-t"); code != 137 || out != "" {
		t.Errorf("hang: exit %d: %q", code, out)
	}
	b.must("fault", name, "--clear")
}

func (b *bench) testTrace(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]host.Record)
	for line := range bytes.Lines(data) {
		var r host.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		seen[strings.Join(r.Argv, " ")] = r
	}
	if r := seen["zonecfg -z web -f /tmp/zone.cfg"]; !strings.HasPrefix(r.File, "create -b\n") || r.Exit != 0 {
		t.Errorf("zonecfg was traced as %+v", r)
	}
	if r := seen["zoneadm -z nope list"]; r.Exit != 1 || !strings.Contains(r.Stderr, "No such zone") || r.Time.IsZero() {
		t.Errorf("a failure was traced as %+v", r)
	}
	if r := seen["zonename -t"]; r.Exit != 137 {
		t.Errorf("a command that was killed was traced as %+v", r)
	}
}

func (b *bench) testReboot(t *testing.T) {
	name := b.hostName()
	agent := exec.Command(b.exe, "run", "--dir", b.dir, name, "--", "sleep", "1000")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	b.on("dladm", "create-etherstub", "-t", "gone0")
	b.on("dladm", "create-etherstub", "kept0")
	if out, _ := b.on("dladm", "show-etherstub", "-p", "-o", "link"); out != "gone0\nkept0\n" {
		t.Errorf("before: %q", out)
	}
	for _, again := range []func(){
		func() { b.must("reboot", name) },
		func() { b.must("down", name); b.up() },
	} {
		again()
		if out, _ := b.on("sh", "-c", "dladm show-etherstub -p -o link; zoneadm list -cp | cut -d: -f2,3; ipadm show-addr -p -o addr net0/v4"); out !=
			"kept0\nglobal:running\nweb:installed\n198.51.100.40/24\n" {
			t.Errorf("after: %q", out)
		}
		if out, code := b.on("sh", "-c", "zoneadm -z web boot && zlogin -n web 'exit 4'"); code != 4 {
			t.Errorf("zone after reboot: exit %d: %s", code, out)
		}
	}
	_ = agent.Wait()
	if agent.ProcessState.ExitCode() != 137 {
		t.Errorf("the program on the host saw %v, want a kill", agent.ProcessState)
	}
}

// Killing is final wherever it hits.
func TestNothingIsLeftWhenKilled(t *testing.T) {
	for _, tt := range []struct {
		name   string
		victim func(b *bench) int
	}{
		{"launcher", func(b *bench) int { return b.launch.Process.Pid }},
		{"supervisor", func(b *bench) int { return b.find("(host-supervisor)") }},
		{"init of the host", func(b *bench) int { return b.find("(host-init)") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := start(t)
			b.up()
			b.zone("web", "while :; do sleep 4321; done")
			b.await("the zone does not run", func() bool { return b.find("sleep\x004321") != 0 })
			if err := unix.Kill(tt.victim(b), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			b.await("the zone goes on", func() bool { return b.find("sleep\x004321") == 0 })
		})
	}
}
