//go:build linux

package userns

import (
	"os/user"
	"testing"
)

func TestSubordinate(t *testing.T) {
	me := &user.User{Username: "ann", Uid: "1001"}
	for _, c := range []struct {
		name, text   string
		start, count uint64
	}{
		{"none", "", 0, 0},
		{"another's", "anna:100000:65536\n100:1:65536\n", 0, 0},
		{"by name", "bob:100000:65536\nann:165536:65536\n", 165536, 65536},
		{"by number, no newline", "1001:200000:65536", 200000, 65536},
		{"the largest", "ann:100000:10\nann:300000:70000\nann:900000:20\n", 300000, 70000},
		{"nonsense", "ann\nann:x:65536\nann:1:-5\nann:1:2:3\n", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if start, count := subordinate(c.text, me); start != c.start || count != c.count {
				t.Errorf("got %d+%d, want %d+%d", start, count, c.start, c.count)
			}
		})
	}
}
