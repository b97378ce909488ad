// Package imports holds the rule about who may import whom, as a test.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "reddwarf.io/reddwarf/"

// rule says which packages of this module and which foreign modules a package
// may import. Patterns end in /... for a tree. The standard library is always
// allowed. Every package is held to the first rule that matches it.
type rule struct {
	pkg     string
	own     []string
	foreign []string
}

// The rules follow the table of docs/architecture.md: dependencies point
// downwards only, Kubernetes types stop at provider, and nothing that runs on
// a host knows the simulated host.
var rules = []rule{
	{pkg: "cmd/podinit", own: []string{"zones/podinit/...", "zones/logs"}, foreign: []string{"golang.org/x/sys/..."}},
	{pkg: "cmd/clusterip", own: []string{"network/...", "zones/command"}, foreign: []string{"..."}},
	{pkg: "cmd/reddwarf", own: []string{"provider/...", "zones/...", "network/...", "storage/...", "probes/..."}, foreign: []string{"..."}},
	{pkg: "provider/node", own: []string{}, foreign: kubernetes},
	{pkg: "provider/server", own: []string{}, foreign: append([]string{"github.com/virtual-kubelet/virtual-kubelet/...", "github.com/..."}, kubernetes...)},
	{pkg: "provider/identity", own: []string{}, foreign: append([]string{"github.com/fsnotify/fsnotify"}, kubernetes...)},
	{pkg: "provider/objects", own: []string{}, foreign: kubernetes},
	{pkg: "provider/images", own: []string{"storage/..."}, foreign: kubernetes},
	{pkg: "provider/peers", own: []string{"network"}, foreign: kubernetes},
	{pkg: "provider/...", own: []string{"provider/...", "zones/...", "network/...", "storage/...", "probes/..."}, foreign: append([]string{"github.com/...", "golang.org/x/..."}, kubernetes...)},
	{pkg: "probes", own: []string{}, foreign: []string{"google.golang.org/grpc/..."}},
	{pkg: "zones/command", own: []string{}},
	{pkg: "zones/logs", own: []string{}, foreign: []string{"golang.org/x/sys/..."}},
	{pkg: "zones/globalzone", own: []string{"zones/command"}},
	{pkg: "zones/podinit/...", own: []string{"zones/podinit/...", "zones/logs"}, foreign: []string{"golang.org/x/sys/...", "github.com/creack/pty"}},
	{pkg: "zones/...", own: []string{"zones/..."}, foreign: []string{"golang.org/x/sys/unix"}},
	{pkg: "network/ipam", own: []string{}},
	{pkg: "network/ipnat", own: []string{"zones/command"}},
	{pkg: "network/services", own: []string{"network/ipnat"}, foreign: kubernetes},
	{pkg: "network/...", own: []string{"network/...", "zones/command"}},
	{pkg: "storage/oci", own: []string{"storage", "zones/command"}, foreign: []string{"github.com/google/go-containerregistry/...", "github.com/klauspost/compress/...", "golang.org/x/..."}},
	{pkg: "storage/mounts", own: []string{"zones/command"}},
	{pkg: "storage", own: []string{"zones/command"}, foreign: []string{"github.com/mistifyio/go-zfs/v3"}},
	{pkg: "hack/...", own: []string{"hack/...", "zones/command"}, foreign: []string{"..."}},
}

// kubernetes is what packages that speak to the API server may use.
var kubernetes = []string{"k8s.io/...", "sigs.k8s.io/..."}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		r, ok := find(name)
		if !ok {
			t.Errorf("%s: no rule names this package: place it in the table of docs/architecture.md and here", name)
			continue
		}
		for _, imp := range p.Imports {
			switch {
			case !strings.Contains(strings.Split(imp, "/")[0], "."): // the standard library
			case strings.HasPrefix(imp, module):
				if !anyMatch(r.own, strings.TrimPrefix(imp, module)) {
					t.Errorf("%s must not import %s", name, imp)
				}
			case !anyMatch(r.foreign, imp):
				t.Errorf("%s must not import %s", name, imp)
			}
		}
	}
}

// TestOnlyCommandStartsProcesses keeps os/exec behind one door on the host.
// podinit starts containers, which are not programs of the global zone.
func TestOnlyCommandStartsProcesses(t *testing.T) {
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if name == "zones/command" || strings.HasPrefix(name, "zones/podinit") || name == "cmd/podinit" || strings.HasPrefix(name, "hack/") {
			continue
		}
		for _, imp := range p.Imports {
			if imp == "os/exec" {
				t.Errorf("%s imports os/exec: run host programs through zones/command", name)
			}
		}
	}
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list names only %d packages", len(all))
	}
	return all
}

func find(name string) (rule, bool) {
	for _, r := range rules {
		if match(r.pkg, name) {
			return r, true
		}
	}
	return rule{}, false
}

func anyMatch(patterns []string, name string) bool {
	for _, p := range patterns {
		if match(p, name) {
			return true
		}
	}
	return false
}

func match(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(name+"/", prefix)
	}
	return pattern == name
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"...", "anything", true},
		{"zones/...", "zones", true},
		{"zones/...", "zones/logs", true},
		{"zones/...", "zonesx", false},
		{"zones", "zones/logs", false},
	} {
		if got := match(tt.pattern, tt.name); got != tt.want {
			t.Errorf("match(%q, %q) = %v", tt.pattern, tt.name, got)
		}
	}
}
