package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTrace reads every host command of this run, so it is the last test of the
// package: Go takes the files by name.
func TestTrace(t *testing.T) {
	file, err := os.Open(host.TraceFile())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	linkName := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]*[^0-9](0|[1-9][0-9]*)$`)
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	n := 0
	for lines.Scan() {
		var c struct {
			Argv   []string `json:"argv"`
			Exit   int      `json:"exit"`
			Stderr string   `json:"stderr"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		n++
		line := strings.Join(c.Argv, " ")
		switch {
		case c.Argv[0] == "zonecfg" && strings.Contains(c.Stderr, "syntax error"):
			t.Errorf("zonecfg refused the text of %s: %s", line, c.Stderr)
		case c.Argv[0] == "zlogin" && !regexp.MustCompile(`^zlogin \S+ /sbin/podinit [a-z]+( [A-Za-z0-9_.=-]+)?$`).MatchString(line):
			t.Errorf("zlogin with more than podinit's words: %s", line)
		case c.Argv[0] == "dladm" && len(c.Argv) > 2 && c.Argv[1] == "create-vnic":
			if name := c.Argv[len(c.Argv)-1]; !linkName.MatchString(name) || len(name) > 31 {
				t.Errorf("link name that dladm refuses: %s", line)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if n < 20 {
		t.Errorf("the trace has only %d commands", n)
	}
}
