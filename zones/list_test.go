package zones

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/zones/command"
)

func TestParseList(t *testing.T) {
	out := "0:global:running:/::ipkg:shared\n" +
		"-:a:configured:/zones/a::lx:excl\n" +
		`7:b:shutting_down:/zones/x\:y:8c2f:lx:excl:31` + "\n" +
		`-:c:incomplete:/zones/c\d:u:reddwarf:excl:` + "\n"
	got, err := parseList([]byte(out))
	want := []Zone{
		{ID: -1, Name: "a", State: Configured, Path: "/zones/a", Brand: "lx", IPType: "excl"},
		{ID: 7, Name: "b", State: ShuttingDown, Path: "/zones/x:y", UUID: "8c2f", Brand: "lx", IPType: "excl"},
		{ID: -1, Name: "c", State: Incomplete, Path: `/zones/c\d`, UUID: "u", Brand: "reddwarf", IPType: "excl"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("parseList = %+v, %v", got, err)
	}
	for _, bad := range []string{"x\n", "-:a:nowhere:/a::lx:excl\n", "x:a:running:/a::lx:excl\n", "-2:a:running:/a::lx:excl\n", "-::running:/a::lx:excl\n", "\n", "-:a:absent:/a::lx:excl"} {
		if z, err := parseList([]byte(bad)); err == nil {
			t.Errorf("parseList(%q) = %+v", bad, z)
		}
	}
}

func TestStateNamesRoundTrip(t *testing.T) {
	for _, s := range States {
		got, err := parseState(s.String())
		if s == Absent {
			if err == nil {
				t.Error("absent is a state that zoneadm prints")
			}
			continue
		}
		if err != nil || got != s {
			t.Errorf("parseState(%s) = %v, %v", s, got, err)
		}
	}
}

func TestParseAttrs(t *testing.T) {
	out := "attr:\n\tname: a\n\ttype: string\n\tvalue: plain\nattr:\n\tname: b\n\ttype: string\n\tvalue: \"x: y\"\n" +
		"attr:\n\tname: c\n\ttype: string\n\tvalue: \"\"\nattr:\n\tname: d\n\ttype: string\n\tvalue:\n"
	got, err := parseAttrs([]byte(out))
	want := map[string]string{"a": "plain", "b": "x: y", "c": "", "d": ""}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("parseAttrs = %q, %v", got, err)
	}
	if got, err := parseAttrs([]byte("No such attr resource.\n")); err != nil || len(got) != 0 {
		t.Errorf("parseAttrs of none = %q, %v", got, err)
	}
	for _, bad := range []string{"net:\n", "\tname: a\n", "attr:\n\tvalue: x\n", "attr:\n\tname\n"} {
		if got, err := parseAttrs([]byte(bad)); err == nil {
			t.Errorf("parseAttrs(%q) = %q", bad, got)
		}
	}
}

// TestOpErrorReadsMessages has the sentences that zoneadm and zonecfg say.
func TestOpErrorReadsMessages(t *testing.T) {
	for _, tt := range []struct {
		op, stderr string
		code       int
		want       error
	}{
		{"boot", "zoneadm: x: No such zone configured\n", 1, ErrNotFound},
		{"delete", "x: No such zone configured\n", 1, ErrNotFound},
		{"boot", "zoneadm: zone 'x': must be installed before boot.\n", 1, ErrState},
		{"boot", "zoneadm: zone 'x': is already installed.\n", 1, ErrState},
		{"boot", "zoneadm: zone 'x': zone is incomplete; uninstall required.\n", 1, ErrState},
		{"halt", "zoneadm: zone 'x': boot operation is invalid for down zones.\n", 1, ErrState},
		{"halt", "zone 'x': halt operation is invalid for zones in state 'configured'\n", 1, ErrState},
		{"shutdown", "zoneadm: zone 'x': not running\n", 1, ErrState},
		{"mark", "", 21, ErrState},
		{"delete", "x: Zone state is invalid for the requested operation\n", 1, ErrState},
		{"boot", "zoneadm: zone 'x': call to zoneadmd failed\n", 1, nil},
		{"boot", "zoneadm: zone 'global': boot operation is invalid for the global zone.\n", 1, nil},
		{"boot", "zoneadm: x: No such zone configured\n", -1, nil}, // it did not run to its end
	} {
		err := opError(tt.op, "x", &command.Error{ExitCode: tt.code, Stderr: tt.stderr, Err: errors.New("e")})
		for _, sentinel := range []error{ErrNotFound, ErrState} {
			if got, want := errors.Is(err, sentinel), tt.want == sentinel; got != want { //nolint:errorlint // the sentinels themselves are compared
				t.Errorf("%s %q: is %v: %v, want %v", tt.op, tt.stderr, sentinel, got, want)
			}
		}
		var oe *OpError
		if !errors.As(err, &oe) || oe.Zone != "x" || oe.Op != tt.op {
			t.Errorf("%v is no OpError", err)
		}
	}
}

func TestDistroOf(t *testing.T) {
	for _, tt := range []struct{ version, release, want string }{
		{"omnios-r151056-b6a3e5c", "", "omnios"},
		{"joyent_20260101T000000Z", "ID=whatever", "smartos"},
		{"illumos-0123abc", "NAME=x\nID=\"openindiana\"\n", "openindiana"},
		{"illumos-0123abc", "", "openindiana"},
		{"#1 SMP", "ID=debian\n", "debian"},
		{"#1 SMP", "", ""},
	} {
		if got := distroOf(tt.version, tt.release); got != tt.want {
			t.Errorf("distroOf(%q, %q) = %q, want %q", tt.version, tt.release, got, tt.want)
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add("-:a:configured:/zones/a::lx:excl\n")
	f.Add(`7:b:down:/x\:y:u:lx:excl:3` + "\n")
	f.Fuzz(func(t *testing.T, out string) {
		zones, err := parseList([]byte(out))
		if err != nil {
			return
		}
		for _, z := range zones {
			if z.Name == "" || z.ID < -1 || strings.Contains(z.Name, "\n") {
				t.Errorf("%q gives %+v", out, z)
			}
		}
	})
}

func FuzzParseAttrs(f *testing.F) {
	f.Add("attr:\n\tname: a\n\ttype: string\n\tvalue: \"b c\"\n")
	f.Fuzz(func(t *testing.T, out string) {
		attrs, err := parseAttrs([]byte(out))
		if err == nil && attrs == nil {
			t.Error("neither attributes nor an error")
		}
	})
}
