package globalzone

import "testing"

func TestParsePsrinfo(t *testing.T) {
	for _, tt := range []struct {
		name, out string
		want      int
		bad       bool
	}{
		{name: "two", out: "0\ton-line   since 11/22/2026 10:00:00\n1\ton-line   since 11/22/2026 10:00:00\n", want: 2},
		{name: "one off-line", out: "0\ton-line   since x\n1\toff-line  since x\n", want: 1},
		{name: "no-intr runs threads", out: "0\ton-line   since x\n1\tno-intr   since x\n", want: 2},
		{name: "empty", out: "", bad: true},
		{name: "all off-line", out: "0\toff-line  since x\n", bad: true},
		{name: "words", out: "psrinfo: what\n", bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parsePsrinfo([]byte(tt.out))
			if (err != nil) != tt.bad || got != tt.want {
				t.Errorf("got %d, %v; want %d, error %v", got, err, tt.want, tt.bad)
			}
		})
	}
}

func TestParsePrtconf(t *testing.T) {
	if got, err := parsePrtconf([]byte("8192\n")); err != nil || got != 8<<30 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, bad := range []string{"", "x", "-1", "0", "8192 Megabytes", "99999999999999999999"} {
		if got, err := parsePrtconf([]byte(bad)); err == nil {
			t.Errorf("%q: got %d, want an error", bad, got)
		}
	}
}

func TestParseOSRelease(t *testing.T) {
	got := parseOSRelease([]byte("# c\nNAME=\"OmniOS\"\nID=omnios\nPRETTY_NAME='OmniOS r151056'\nbroken\n=x\n"))
	want := map[string]string{"NAME": "OmniOS", "ID": "omnios", "PRETTY_NAME": "OmniOS r151056"}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %q, want %q", k, got[k], v)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("0\ton-line   since x\n"))
	f.Add([]byte("ID=\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parsePsrinfo(b); err == nil && n <= 0 {
			t.Errorf("psrinfo: %d processors without an error", n)
		}
		if n, err := parsePrtconf(b); err == nil && n < 1<<20 {
			t.Errorf("prtconf: %d bytes without an error", n)
		}
		parseOSRelease(b)
	})
}
