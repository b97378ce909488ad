//go:build linux

package supervisor_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/zonetest"
)

// ps returns the zone's processes as one of its own would see them.
func ps(t *testing.T, z *zonetest.Zone, container string) string {
	t.Helper()
	var out bytes.Buffer
	if err := z.Enter(t.Context(), nil, &out, "/c/"+container+"/bin/busybox", "ps"); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// escape is a script in which a process leaves its parent, its session, its
// group and even the container's root before the main process ends.
const escape = `
setsid sh -c 'sleep 1001 & sleep 1002 &' &
(sleep 1003 &)
chroot /proc/1/root /c/web/bin/busybox setsid /c/web/bin/busybox sh -c '/c/web/bin/busybox sleep 1004 & exit' &
trap '' TERM HUP
sleep 1
exit 3
`

func TestNothingOfAContainerOutlivesIt(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Busybox(t, "other")
	z.Boot(t, shell("web", escape), shell("other", "sleep 2001 & setsid sleep 2002 & wait"))
	c := z.Client()
	until(t, c, "other", running)
	if st := until(t, c, "web", exited); st.ExitCode != 3 {
		t.Errorf("exit code %d", st.ExitCode)
	}
	list := ps(t, z, "other")
	for _, n := range []string{"1001", "1002", "1003", "1004"} {
		if strings.Contains(list, "sleep "+n) {
			t.Errorf("sleep %s is still there:\n%s", n, list)
		}
	}
	for _, n := range []string{"2001", "2002"} {
		if !strings.Contains(list, "sleep "+n) {
			t.Errorf("sleep %s of the other container is gone:\n%s", n, list)
		}
	}
	if mounts := zoneMounts(t, z); strings.Contains(mounts, "/c/web/") || !strings.Contains(mounts, "/c/other/proc") {
		t.Errorf("mounts:\n%s", mounts)
	}
}

func zoneMounts(t *testing.T, z *zonetest.Zone) string {
	t.Helper()
	var out bytes.Buffer
	if err := z.Enter(t.Context(), nil, &out, "/c/other/bin/busybox", "cat", "/proc/1/mountinfo"); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestSignals(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Busybox(t, "polite")
	z.Boot(t, shell("web", "exec sleep 1000"), shell("polite", `trap 'echo got it; exit 9' USR1; echo ready; while :; do sleep 0.05; done`))
	c := z.Client()
	until(t, c, "web", running)
	until(t, c, "polite", running)
	if err := c.Signal(t.Context(), "web", "SIGBOGUS"); err == nil {
		t.Error("an unknown signal is accepted")
	}
	if err := c.Signal(t.Context(), "none", "SIGTERM"); !errors.Is(err, podinit.ErrNotFound) {
		t.Errorf("Signal to no container = %v", err)
	}
	if err := c.Signal(t.Context(), "web", "SIGTERM"); err != nil {
		t.Fatal(err)
	}
	if st := until(t, c, "web", exited); st.ExitCode != 143 || st.Signal != 15 {
		t.Errorf("after SIGTERM: %+v", st)
	}
	if err := c.Signal(t.Context(), "web", "SIGTERM"); !errors.Is(err, podinit.ErrNotRunning) {
		t.Errorf("Signal to what has ended = %v", err)
	}
	waitForLog(t, z, "polite/0.log", "ready")
	if err := c.Signal(t.Context(), "polite", "usr1"); err != nil {
		t.Fatal(err)
	}
	if st := until(t, c, "polite", exited); st.ExitCode != 9 || st.Signal != 0 {
		t.Errorf("after SIGUSR1: %+v", st)
	}
}

// waitForLog waits until a log has a text. It is the container that decides
// when; the test's own deadline ends a wait in vain.
func waitForLog(t *testing.T, z *zonetest.Zone, path, text string) {
	t.Helper()
	for t.Context().Err() == nil {
		data, err := os.ReadFile(filepath.Join(z.Dir, "logs", path))
		if err == nil && strings.Contains(string(data), text) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestKillAndAttempts(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	spec := shell("web", "trap '' TERM; echo run; sleep 1000 & wait")
	spec.Start = false
	z.Boot(t, spec)
	c := z.Client()
	if st := until(t, c, "web", func(podinit.ContainerState) bool { return true }); st.Phase != podinit.Waiting {
		t.Fatalf("a container not marked is %s", st.Phase)
	}
	if err := c.Kill(t.Context(), "web"); err != nil {
		t.Errorf("Kill of what does not run = %v", err)
	}
	for attempt := range 3 {
		spec.Attempt = attempt
		for range 2 { // the second is no start
			if err := c.Start(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
		}
		st := until(t, c, "web", running)
		if st.Attempt != attempt || st.PID == 0 {
			t.Fatalf("state %+v", st)
		}
		next := spec
		next.Attempt++
		if err := c.Start(t.Context(), next); err == nil {
			t.Error("a second attempt starts beside the first")
		}
		waitForLog(t, z, "web/"+strconv.Itoa(attempt)+".log", "run")
		if err := c.Kill(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
		st = until(t, c, "web", exited)
		if st.ExitCode != 137 || st.Signal != 9 || st.Attempt != attempt {
			t.Errorf("after Kill: %+v", st)
		}
		if err := c.Start(t.Context(), spec); err != nil {
			t.Errorf("Start of what has ended = %v", err)
		}
		if st := until(t, c, "web", exited); st.Attempt != attempt {
			t.Errorf("it was started again: %+v", st)
		}
	}
	if log := readLog(t, z, "web/2.log"); strings.Count(log, "run") != 1 {
		t.Errorf("log of attempt 2: %q", log)
	}
}

func TestStartErrors(t *testing.T) {
	one := int64(0)
	for _, tt := range []struct {
		name string
		edit func(*podinit.Container)
		want string
	}{
		{"not-in-path", func(c *podinit.Container) { c.Args = []string{"nope"} }, `exec: "nope": executable file not found in $PATH`},
		{"missing", func(c *podinit.Container) { c.Args = []string{"/x/y"} }, `exec: "/x/y": stat /x/y: no such file or directory`},
		{"directory", func(c *podinit.Container) { c.Args = []string{"/etc"} }, `is a directory`},
		{"not-executable", func(c *podinit.Container) { c.Args = []string{"/etc/passwd"} }, `permission denied`},
		{"unknown-user", func(c *podinit.Container) { c.User = "ghost" }, `unable to find user ghost`},
		{"root-refused", func(c *podinit.Container) { c.RunAsNonRoot = true }, `runAsNonRoot and image will run as root`},
		{"root-asked-for", func(c *podinit.Container) { c.RunAsNonRoot, c.RunAsUser = true, &one }, `runAsNonRoot`},
		{"no-volume", func(c *podinit.Container) { c.Mounts = []podinit.Mount{{Volume: "none", Target: "/m"}} }, `mount of /m`},
		{"capability", func(c *podinit.Container) { c.AddCapabilities = []string{"FLY"} }, `unknown capability`},
		{"no-root", func(c *podinit.Container) { c.Name = "no-root" }, `no root file system`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			z := zonetest.New(t)
			z.Busybox(t, "web")
			c := shell("web", "echo it runs")
			tt.edit(&c)
			z.Boot(t, c)
			st := until(t, z.Client(), c.Name, exited)
			if st.ExitCode != 128 || !strings.Contains(st.StartError, tt.want) {
				t.Errorf("state %+v, want %q", st, tt.want)
			}
		})
	}
}

func TestAnAttemptIsStartedOnceEver(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Busybox(t, "done")
	z.Boot(t, shell("web", "echo run; sleep 1000"), shell("done", "exit 4"))
	c := z.Client()
	until(t, c, "done", exited)
	first := until(t, c, "web", running)
	z.Kill()
	last, err := podinit.ReadState(filepath.Join(z.Dir, "run"))
	if err != nil || len(last.Containers) != 2 || last.Containers[0].Phase != podinit.Running {
		t.Fatalf("the state that is left: %+v, %v", last, err)
	}
	z.BootAgain(t)
	st := until(t, c, "web", exited)
	if st.ExitCode != 137 || !st.StartedAt.Equal(first.StartedAt) {
		t.Errorf("after a reboot: %+v", st)
	}
	if st := until(t, c, "done", exited); st.ExitCode != 4 {
		t.Errorf("an exit code did not survive: %+v", st)
	}
	now, err := c.State(t.Context())
	if err != nil || now.Boot == last.Boot {
		t.Errorf("boot %q after %q, %v", now.Boot, last.Boot, err)
	}
	again := shell("web", "sleep 1000")
	again.Attempt = 1
	if err := c.Start(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	until(t, c, "web", running)
}

func TestShutdownEndsTheZone(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Boot(t, shell("web", "sleep 1000"))
	c := z.Client()
	until(t, c, "web", running)
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-z.Ended()
	last, err := podinit.ReadState(filepath.Join(z.Dir, "run"))
	if err != nil || last.Containers[0].ExitCode != 137 || last.Containers[0].Phase != podinit.Exited {
		t.Errorf("last words: %+v, %v", last, err)
	}
}
