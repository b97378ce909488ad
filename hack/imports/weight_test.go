package imports

import (
	"os/exec"
	"strings"
	"testing"
)

// heavy are foreign trees that the agent once linked without using them. The
// start of a Go program runs the initialisation of everything that is linked,
// which touches pages all over the file and keeps them in memory: these cost a
// node 17 MiB.
var heavy = []string{
	"github.com/google/cel-go/...",
	"go.opencensus.io/...",
	"go.opentelemetry.io/otel/sdk/...",
	"go.opentelemetry.io/otel/exporters/...",
	"sigs.k8s.io/apiserver-network-proxy/...",
}

func TestAgentStaysLight(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"cmd/reddwarf")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("go list names only %d packages", len(deps))
	}
	for _, dep := range deps {
		if anyMatch(heavy, dep) {
			t.Errorf("the agent links %s; `go mod why` says who brings it", dep)
		}
	}
}
