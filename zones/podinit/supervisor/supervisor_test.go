//go:build linux

package supervisor_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/zonetest"
)

func TestMain(m *testing.M) { zonetest.Main(m) }

// until watches until the container is as wanted, and returns its state.
func until(t *testing.T, c *podinit.Client, name string, ok func(podinit.ContainerState) bool) podinit.ContainerState {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last podinit.ContainerState
	err := c.Watch(ctx, func(s podinit.State) {
		for _, st := range s.Containers {
			if st.Name == name {
				last = st
				if ok(st) {
					cancel()
				}
			}
		}
	})
	if !ok(last) {
		t.Fatalf("watch: %v; last state %+v", err, last)
	}
	return last
}

func exited(s podinit.ContainerState) bool  { return s.Phase == podinit.Exited }
func running(s podinit.ContainerState) bool { return s.Phase == podinit.Running }

func shell(name, script string) podinit.Container {
	return podinit.Container{Name: name, Start: true, Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}}
}

func readLog(t *testing.T, z *zonetest.Zone, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(z.Dir, "logs", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestContainerRunsToItsEnd(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	c := shell("web", `echo "out $A"; echo err >&2; echo -n bye >/dev/termination-log; exit 7`)
	c.Env = append(c.Env, "A=a b;$(x)\n\"'é")
	c.TerminationMessagePath = "/dev/termination-log"
	z.Boot(t, c)
	st := until(t, z.Client(), "web", exited)
	if st.ExitCode != 7 || st.Signal != 0 || st.StartError != "" || st.Message != "bye" {
		t.Errorf("state = %+v", st)
	}
	log := readLog(t, z, "web/0.log")
	for _, want := range []string{" stdout F out a b;$(x)\n", " stdout F \"'é\n", " stderr F err\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
	if _, err := podinit.ReadState(filepath.Join(z.Dir, "run")); err != nil {
		t.Error(err)
	}
}

func TestExecCarriesStreamsAndExitCode(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Boot(t, shell("web", "sleep 1000"))
	c := z.Client()
	until(t, c, "web", running)
	var out, errOut bytes.Buffer
	st, err := c.Exec(t.Context(), podinit.ExecRequest{
		Container: "web", Args: []string{"sh", "-c", "cat; echo $X >&2; exit 7"}, Env: []string{"X=y"},
	}, podinit.Streams{In: strings.NewReader("hello"), Out: &out, Err: &errOut})
	if err != nil || st.Code != 7 || out.String() != "hello" || errOut.String() != "y\n" {
		t.Errorf("Exec = %+v, %v; out %q, err %q", st, err, out.String(), errOut.String())
	}
	_, err = c.Exec(t.Context(), podinit.ExecRequest{Container: "web", Args: []string{"nope"}}, podinit.Streams{})
	var e *podinit.Error
	if !errors.As(err, &e) || e.Reason != podinit.ReasonStart || e.Code != 127 {
		t.Errorf("Exec of a missing program = %v", err)
	}
	_, err = c.Exec(t.Context(), podinit.ExecRequest{Container: "nope", Args: []string{"id"}}, podinit.Streams{})
	if !errors.Is(err, podinit.ErrNotFound) {
		t.Errorf("Exec in a missing container = %v", err)
	}
}
