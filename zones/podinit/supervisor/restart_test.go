//go:build linux

package supervisor_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/zonetest"
)

// TestRestartInPlace runs podinit as an ordinary process and kills it, so that
// its containers outlive it, as under a brand that starts its init again.
func TestRestartInPlace(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	for _, d := range []string{"spec", "run", "logs"} { // not mounted here
		if err := os.Remove(z.Root("reddwarf", d)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(z.Dir, d), z.Root("reddwarf", d)); err != nil {
			t.Fatal(err)
		}
	}
	spec := podinit.Spec{Version: podinit.Version, PodUID: "uid-1", Containers: []podinit.Container{shell("web", "setsid sleep 5001 & sleep 5002")}}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(z.Dir, "spec", podinit.SpecFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	// Both podinits live in one mount namespace, which goes with its last process.
	supervise := func() (*exec.Cmd, func() string) {
		cmd := exec.Command("unshare", "--mount", "--propagation", "private", z.Root("sbin/podinit"), "supervise", "--base", z.Root())
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var console strings.Builder
		cmd.Stderr = &console
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, console.String
	}
	left := func() string {
		out, err := exec.CommandContext(t.Context(), "ps", "-eo", "args").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	first, _ := supervise()
	c := z.Client()
	until(t, c, "web", running)
	first.Process.Kill()
	first.Wait()
	if !strings.Contains(left(), "sleep 5002") {
		t.Fatal("the containers ended with podinit, so this test shows nothing")
	}
	second, console := supervise()
	if st := until(t, c, "web", exited); st.ExitCode != 137 {
		t.Errorf("state %+v", st)
	}
	if list := left(); strings.Contains(list, "sleep 5001") || strings.Contains(list, "sleep 5002") {
		t.Errorf("what an earlier podinit left still runs:\n%s", list)
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("podinit: %v\n%s", err, console())
	}
}
