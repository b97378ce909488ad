package globalzone

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/zones/command"
)

// printed is what kstat(8) of OmniOS prints for our selectors.
const printed = `cpu:0:sys:cpu_nsec_user	1000000000
cpu:1:sys:cpu_nsec_user	2000000000
cpu:0:sys:cpu_nsec_kernel	500000000
cpu:1:sys:cpu_nsec_kernel	500000000
unix:0:system_pages:freemem	1000
unix:0:system_pages:physmem	2000
unix:0:system_misc:boot_time	1700000000
zfs:0:arcstats:size	9000000
zfs:0:arcstats:c_min	4000000
unix:0:system_misc:nproc	57
unix:0:var:v_proc	30000
zones:0:global:nsec_user	77
zones:7:rdw-0b7a2e1c-1111-2222-3333-444:nsec_user	3000000000
zones:7:rdw-0b7a2e1c-1111-2222-3333-444:nsec_sys	1000000000
memory_cap:7:rdw-0b7a2e1c-1111-2222-3333-444:rss	67108864
memory_cap:7:rdw-0b7a2e1c-1111-2222-3333-444:anon_alloc_fail	2
caps:7:swapresv_zone_7:usage	83886080
caps:7:nprocs_zone_7:usage	3
link:0:rdw1:rbytes64	8589934592
link:0:rdw1:obytes64	7
link:0:rdw1:ierrors	1
link:0:rdw1:oerrors	2
`

type answers func(command.Cmd) ([]byte, error)

func (f answers) Run(_ context.Context, c command.Cmd) ([]byte, error) { return f(c) }

func TestReadUsage(t *testing.T) {
	var asked command.Cmd
	u, err := ReadUsage(t.Context(), answers(func(c command.Cmd) ([]byte, error) {
		asked = c
		return []byte(printed), nil
	}), "rdw*")
	if err != nil {
		t.Fatal(err)
	}
	if line := strings.Join(asked.Args, " "); asked.Name != "kstat" || !strings.HasPrefix(line, "-p ") || !strings.Contains(line, "link:0:rdw*:rbytes64") {
		t.Errorf("ran %s %s", asked.Name, line)
	}
	if u.At.IsZero() {
		t.Error("no time")
	}
	u.At = time.Time{}
	want := Usage{
		Booted: time.Unix(1700000000, 0), Memory: 2000 * 4096, Free: 1000 * 4096,
		CPU: 4 * time.Second, Available: 1000*4096 + 5000000, Processes: 57, MaxProcs: 30000,
		Zones: map[int]ZoneUsage{
			0: {CPU: 77},
			7: {CPU: 4 * time.Second, RSS: 64 << 20, HasRSS: true, Swap: 80 << 20, Processes: 3, Refused: 2},
		},
		Links: map[string]LinkUsage{"rdw1": {RxBytes: 1 << 33, TxBytes: 7, RxErrors: 1, TxErrors: 2}},
	}
	if !reflect.DeepEqual(u, want) {
		t.Errorf("got  %+v\nwant %+v", u, want)
	}
}

func TestReadRefused(t *testing.T) {
	n, err := ReadRefused(t.Context(), answers(func(command.Cmd) ([]byte, error) {
		return []byte("memory_cap:7:rdw-0b7a:anon_alloc_fail\t2\n"), nil
	}), 7)
	if err != nil || n != 2 {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestParseUsageRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for _, bad := range []string{"x\n", "a:b:c:d\t1\n", "a:0:c\t1\n", "a:0:c:d\n", "a:0:c:d\tx\n", "a:0:c:d\t-1\n", "\n"} {
		if u, err := parseUsage([]byte(bad)); err == nil {
			t.Errorf("%q: %+v, want an error", bad, u)
		}
	}
	if u, err := parseUsage(nil); err != nil || len(u.Zones) != 0 {
		t.Errorf("nothing: %+v, %v", u, err)
	}
}

func FuzzParseUsage(f *testing.F) {
	f.Add([]byte(printed))
	f.Fuzz(func(t *testing.T, out []byte) {
		u, err := parseUsage(out)
		if err == nil && len(u.Zones)+len(u.Links) > strings.Count(string(out), "\t") {
			t.Errorf("more zones and links than values: %+v", u)
		}
	})
}
