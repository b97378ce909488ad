//go:build linux

package supervisor_test

import (
	"bytes"
	"testing"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/zonetest"
)

// TestUsage checks that processor time is counted to the container that spends
// it, and stays counted when the process that spent it has ended.
func TestUsage(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "busy")
	z.Busybox(t, "idle")
	spin := "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
	z.Boot(t, shell("busy", "sh -c '"+spin+"'; ("+spin+"); exec sleep 1000"), shell("idle", "sleep 1000"))
	c := z.Client()
	until(t, c, "idle", running)
	of := func(name string) podinit.ContainerUsage {
		t.Helper()
		all, err := c.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range all {
			if u.Name == name {
				return u
			}
		}
		t.Fatalf("usage of %s is missing: %+v", name, all)
		return podinit.ContainerUsage{}
	}
	var last podinit.ContainerUsage
	for deadline := time.Now().Add(time.Minute); last.CPU < 50*time.Millisecond; time.Sleep(20 * time.Millisecond) {
		u := of("busy")
		if u.CPU < last.CPU {
			t.Fatalf("cpu fell from %v to %v", last.CPU, u.CPU)
		}
		if time.Now().After(deadline) {
			t.Fatalf("a busy container has used %v", u.CPU)
		}
		last = u
	}
	if last.RSS == 0 || last.At.IsZero() {
		t.Errorf("usage = %+v", last)
	}
	before := of("idle").CPU
	var out bytes.Buffer
	st, err := c.Exec(t.Context(), podinit.ExecRequest{Container: "idle", Args: []string{"sh", "-c", spin}}, podinit.Streams{Out: &out, Err: &out})
	if err != nil || st.Code != 0 {
		t.Fatalf("exec = %+v, %v: %s", st, err, out.String())
	}
	// The process has ended, and its time is still there.
	for deadline := time.Now().Add(time.Minute); of("idle").CPU < before+50*time.Millisecond; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("idle used %v before and %v after it was made busy", before, of("idle").CPU)
		}
	}
}
