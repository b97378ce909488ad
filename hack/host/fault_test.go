package host

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		want          bool
	}{
		{"zoneadm *boot*", "zoneadm -z web boot", true},
		{"zoneadm *boot", "zoneadm -z web boot -- -s", false},
		{"zoneadm*", "zoneadm", true},
		{"zfs * rpool/a*", "zfs create rpool/a/b", true},
		{"z?s", "zfs", true},
		{"z?s", "zs", false},
		{"", "", true},
		{"", "x", false},
		{"*", "", true},
		{"*a*b*", "xxbxaxxb", true},
		{"*a*b*", "xxbxa", false},
		{"zfs [ab]", "zfs a", false}, // no character classes
	} {
		if got := matches(tt.pattern, tt.text); got != tt.want {
			t.Errorf("matches(%q, %q) = %v", tt.pattern, tt.text, got)
		}
	}
}

// path.Match knows the same two signs and more; on what both know they agree.
func FuzzMatches(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if strings.ContainsAny(pattern+text, "[]\\/") || !utf8.ValidString(pattern) || !utf8.ValidString(text) {
			t.Skip()
		}
		want, err := path.Match(pattern, text)
		if err != nil {
			t.Fatal(err)
		}
		if got := matches(pattern, text); got != want {
			t.Errorf("matches(%q, %q) = %v, path.Match says %v", pattern, text, got, want)
		}
	})
}
