package storage

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestNoGoZFS keeps a library out that panics on illumos whenever it re-reads
// a dataset: see docs/decisions/0001-no-go-zfs.md. If it were linked, nothing
// but care would keep the agent from those paths.
func TestNoGoZFS(t *testing.T) {
	if testing.Short() {
		t.Skip("asks the go command")
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-e", "./...")
	cmd.Env = append(os.Environ(), "GOOS=illumos", "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "reddwarf.io/reddwarf/zones/command") {
		t.Fatalf("the list of dependencies lacks our own: %q", deps)
	}
	for _, d := range deps {
		if strings.Contains(d, "go-zfs") {
			t.Errorf("storage depends on %s", d)
		}
	}
}
