//go:build linux

package supervisor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/zonetest"
)

// program tells one program of a process from the next: where the kernel has
// put it.
func program(t *testing.T, z *zonetest.Zone) string {
	t.Helper()
	for {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(z.PID()), "auxv"))
		if errors.Is(err, syscall.ESRCH) && t.Context().Err() == nil {
			continue // it is just between two programs
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
}

func hangUp(t *testing.T, z *zonetest.Zone) {
	t.Helper()
	if err := syscall.Kill(z.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// renew has podinit renew itself and returns when it has.
func renew(t *testing.T, z *zonetest.Zone) {
	t.Helper()
	before := program(t, z)
	for i := 0; program(t, z) == before; i++ {
		if t.Context().Err() != nil || i > 1000 {
			t.Fatal("podinit does not renew itself")
		}
		if i%20 == 0 {
			hangUp(t, z)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestRenewal(t *testing.T) {
	z := zonetest.New(t)
	for _, name := range []string{"lines", "cat", "terminal"} {
		z.Busybox(t, name)
	}
	// Every line comes in two pieces, with time for a renewal between them.
	lines := shell("lines", `i=0; while [ ! -e /tmp/end ]; do echo -n "line $i "; usleep 2000; echo "end $i"; echo "err $i" >&2; i=$((i+1)); done; echo $i; exit 7`)
	cat := shell("cat", "cat; echo over")
	cat.Stdin, cat.StdinOnce = true, true
	terminal := shell("terminal", "stty -echo; while read -r line; do echo got $line; done")
	terminal.Stdin, terminal.TTY = true, true
	z.Boot(t, lines, cat, terminal)
	c := z.Client()
	for _, name := range []string{"lines", "cat", "terminal"} {
		until(t, c, name, running)
	}
	before, err := c.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// One watch sees it all.
	seen := make(chan podinit.State, 100)
	watch := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { watch <- c.Watch(ctx, func(s podinit.State) { seen <- s }) }()
	<-seen

	for i := range 15 {
		renew(t, z)
		var out bytes.Buffer
		st, err := c.Exec(t.Context(), podinit.ExecRequest{Container: "cat", Args: []string{"echo", strconv.Itoa(i)}}, podinit.Streams{Out: &out})
		if err != nil || st.Code != 0 || out.String() != fmt.Sprintf("%d\n", i) {
			t.Fatalf("program after renewal %d: %+v, %v, %q", i, st, err, out.String())
		}
	}
	after, err := c.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", after) != fmt.Sprintf("%+v", before) {
		t.Errorf("state after renewals:\n%+v\nbefore:\n%+v", after, before)
	}
	usage, err := c.Usage(t.Context())
	if err != nil || len(usage) != 3 {
		t.Errorf("usage of 3 containers: %+v, %v", usage, err)
	}
	attachAfterRenewal(t, z, c)

	if _, err := c.Exec(t.Context(), podinit.ExecRequest{Container: "lines", Args: []string{"touch", "/tmp/end"}}, podinit.Streams{}); err != nil {
		t.Fatal(err)
	}
	for s := range seen {
		if i := index(s, "lines"); s.Containers[i].Phase == podinit.Exited {
			if s.Containers[i].ExitCode != 7 {
				t.Errorf("lines: %+v", s.Containers[i])
			}
			break
		}
	}
	select {
	case err := <-watch:
		t.Errorf("the watch ended: %v", err)
	default:
	}
	checkLines(t, readLog(t, z, "lines/0.log"))
}

func index(s podinit.State, name string) int {
	for i, c := range s.Containers {
		if c.Name == name {
			return i
		}
	}
	return -1
}

// attachAfterRenewal checks that input and terminals are what they were.
func attachAfterRenewal(t *testing.T, z *zonetest.Zone, c *podinit.Client) {
	t.Helper()
	var out text
	if err := c.Attach(t.Context(), "cat", podinit.Streams{In: strings.NewReader("hello\n"), Out: &out}); err != nil {
		t.Errorf("attach: %v", err)
	}
	if got := out.String(); got != "hello\nover\n" {
		t.Errorf("attach shows %q", got)
	}
	in, typing := io.Pipe()
	defer typing.Close()
	var screen text
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Attach(ctx, "terminal", podinit.Streams{In: in, Out: &screen})
	}()
	io.WriteString(typing, "word\n")
	screen.wait(t, "got word\r\n")
	cancel()
	<-done
}

// checkLines wants every line of the container's output, once and whole.
func checkLines(t *testing.T, log string) {
	t.Helper()
	var out, errOut []string
	piece := ""
	for line := range strings.Lines(log) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		switch {
		case f[1] == "stderr":
			errOut = append(errOut, f[3])
		case f[2] == "P":
			piece += f[3]
		default:
			out = append(out, piece+f[3])
			piece = ""
		}
	}
	n := len(out) - 1
	if n < 10 || out[n] != strconv.Itoa(n) || len(errOut) != n {
		t.Fatalf("%d lines and %d of errors; the last is %q", n, len(errOut), out[max(n, 0)])
	}
	for i := range n {
		if want := fmt.Sprintf("line %d end %d", i, i); out[i] != want {
			t.Fatalf("line %d is %q", i, out[i])
		}
		if want := fmt.Sprintf("err %d", i); errOut[i] != want {
			t.Fatalf("line %d of errors is %q", i, errOut[i])
		}
	}
}

// TestRenewalMeetsEnds has containers end while podinit renews itself: no exit
// status may be lost.
func TestRenewalMeetsEnds(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Boot(t, podinit.Container{Name: "web", Args: []string{"true"}})
	c := z.Client()
	if _, err := c.State(t.Context()); err != nil { // it minds signals from here on
		t.Fatal(err)
	}
	stop := make(chan struct{})
	storm := make(chan struct{})
	go func() {
		defer close(storm)
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
				syscall.Kill(z.PID(), syscall.SIGHUP)
			}
		}
	}()
	before, changes := program(t, z), 0
	for i := range 60 {
		s := shell("web", fmt.Sprintf("echo run %d; usleep %d; exit %d", i, 1000*(i%15), i%50+3))
		s.Attempt = i
		if err := c.Start(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		st := until(t, c, "web", func(st podinit.ContainerState) bool { return st.Attempt == i && exited(st) })
		if st.ExitCode != i%50+3 || st.StartError != "" {
			t.Fatalf("attempt %d: %+v", i, st)
		}
		if log := readLog(t, z, fmt.Sprintf("web/%d.log", i)); strings.Count(log, "\n") != 1 || !strings.Contains(log, fmt.Sprintf("F run %d\n", i)) {
			t.Fatalf("log of attempt %d: %q", i, log)
		}
		if now := program(t, z); now != before {
			before = now
			changes++
		}
	}
	close(stop)
	<-storm
	if changes < 5 {
		t.Errorf("only %d renewals, so this test shows little", changes)
	}
}

func TestRenewalWaitsForClients(t *testing.T) {
	z, c := web(t)
	in, feed := io.Pipe()
	var out text
	done := make(chan error, 1)
	go func() {
		st, err := c.Exec(t.Context(), podinit.ExecRequest{Container: "web", Args: []string{"cat"}}, podinit.Streams{In: in, Out: &out})
		if err == nil && st.Code != 0 {
			err = fmt.Errorf("code %d", st.Code)
		}
		done <- err
	}()
	io.WriteString(feed, "one\n")
	out.wait(t, "one\n")
	before := program(t, z)
	for range 10 {
		hangUp(t, z)
		time.Sleep(5 * time.Millisecond)
	}
	io.WriteString(feed, "two\n")
	out.wait(t, "two\n")
	if program(t, z) != before {
		t.Error("podinit renewed itself under a client")
	}
	feed.Close()
	if err := <-done; err != nil {
		t.Errorf("cat: %v", err)
	}
	renew(t, z)
}

// TestRenewalThatFails takes podinit's program away.
func TestRenewalThatFails(t *testing.T) {
	z := zonetest.New(t)
	z.Busybox(t, "web")
	z.Boot(t, shell("web", "while [ ! -e /tmp/end ]; do echo tick; usleep 1000; done; exit 9"))
	c := z.Client()
	until(t, c, "web", running)
	if err := os.Rename(z.Root("sbin/init"), z.Root("sbin/gone")); err != nil {
		t.Fatal(err)
	}
	before := program(t, z)
	for range 20 {
		hangUp(t, z)
		time.Sleep(5 * time.Millisecond)
	}
	if program(t, z) != before {
		t.Fatal("podinit has run something else")
	}
	if entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(z.PID()), "fd")); err != nil || len(entries) > 30 {
		t.Errorf("%d open files, %v", len(entries), err)
	}
	if err := os.Rename(z.Root("sbin/gone"), z.Root("sbin/init")); err != nil {
		t.Fatal(err)
	}
	renew(t, z)
	if err := os.WriteFile(filepath.Join(z.Root("c/web/tmp/end")), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if st := until(t, c, "web", exited); st.ExitCode != 9 {
		t.Errorf("state %+v", st)
	}
}

// TestRenewalNeedsRoom lets podinit have no more memory than it has.
func TestRenewalNeedsRoom(t *testing.T) {
	z, c := web(t)
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(z.PID()), "statm"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseUint(strings.Fields(string(data))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var free, tight unix.Rlimit
	if err := unix.Prlimit(z.PID(), unix.RLIMIT_AS, nil, &free); err != nil {
		t.Fatal(err)
	}
	tight = free
	tight.Cur = pages*uint64(os.Getpagesize()) + 4<<20
	if err := unix.Prlimit(z.PID(), unix.RLIMIT_AS, &tight, nil); err != nil {
		t.Fatal(err)
	}
	before := program(t, z)
	for range 10 {
		hangUp(t, z)
		time.Sleep(5 * time.Millisecond)
	}
	if program(t, z) != before {
		t.Error("podinit renewed itself without room")
	}
	if _, err := c.State(t.Context()); err != nil {
		t.Errorf("podinit does not answer: %v", err)
	}
	if err := unix.Prlimit(z.PID(), unix.RLIMIT_AS, &free, nil); err != nil {
		t.Fatal(err)
	}
	renew(t, z)
}

// anonymous is the memory of podinit that is nobody else's, in KiB.
func anonymous(t *testing.T, z *zonetest.Zone) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(z.PID()), "smaps_rollup"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); f[0] == "Anonymous:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no word of anonymous memory")
	return 0
}

func TestRenewalGivesMemoryBack(t *testing.T) {
	z, c := web(t)
	for range 200 { // enough for a collection
		if _, err := c.Exec(t.Context(), podinit.ExecRequest{Container: "web", Args: []string{"true"}}, podinit.Streams{}); err != nil {
			t.Fatal(err)
		}
	}
	before := anonymous(t, z)
	renew(t, z)
	if _, err := c.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := anonymous(t, z)
	t.Logf("%d KiB before, %d KiB after", before, after)
	if os.Getenv("REDDWARF_ZONETEST_RACE") == "" && (after > before-512 || after > 1536) {
		t.Errorf("podinit has %d KiB after a renewal, and had %d", after, before)
	}
}
