package network

import (
	"slices"
	"strings"
	"testing"
)

func TestParseVNICs(t *testing.T) {
	got, err := parseVNICs("rdwgw0:reddwarf0:2\\:8\\:20\\:aa\\:bb\\:c\nrdw1:reddwarf0:\n")
	if err != nil || len(got) != 2 || got[0].MAC.String() != "02:08:20:aa:bb:0c" || got[1].Name != "rdw1" || got[1].MAC != nil {
		t.Errorf("parseVNICs = %v, %v", got, err)
	}
	for _, bad := range []string{"rdw1:reddwarf0\n", "rdw1:reddwarf0:2:8:20:aa:bb:c\n", "rdw1:reddwarf0:xx\n"} {
		if got, err := parseVNICs(bad); err == nil {
			t.Errorf("parseVNICs(%q) = %v, want an error", bad, got)
		}
	}
}

func TestParseRouteGet(t *testing.T) {
	out := "   route to: default\ndestination: default\n       mask: default\n    gateway: 192.168.1.1\n" +
		"  interface: net0\n      flags: <UP,GATEWAY,DONE,STATIC>\n recvpipe  sendpipe\n       0         0\n"
	if name, err := parseRouteGet(out); err != nil || name != "net0" {
		t.Errorf("parseRouteGet = %v, %v", name, err)
	}
}

// FuzzFields checks that what is printed with escapes is read back.
func FuzzFields(f *testing.F) {
	f.Add("a", "2:8:20", "c\\")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		row := []string{a, b, c}
		if strings.Contains(a+b+c, "\n") || a+b+c == "" {
			return
		}
		escaped := make([]string, len(row))
		for i, s := range row {
			escaped[i] = strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(s)
		}
		got, err := parseRows(strings.Join(escaped, ":")+"\n", len(row))
		if err != nil || len(got) != 1 || !slices.Equal(got[0], row) {
			t.Errorf("%q became %q, %v", row, got, err)
		}
	})
}

func FuzzParsers(f *testing.F) {
	f.Add("net0/v4:static:ok:198.51.100.11/24\n")
	f.Add("reddwarf0:etherstub:--\n  interface: net0\n")
	f.Fuzz(func(_ *testing.T, out string) {
		_, _ = parseVNICs(out)
		_, _ = parseLinks(out)
		_, _ = parseAddresses(out)
		_, _ = parseRouteGet(out)
	})
}
