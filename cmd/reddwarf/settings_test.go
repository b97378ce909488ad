package main

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestApplySettings(t *testing.T) {
	var c config
	f := pflag.NewFlagSet("node", pflag.ContinueOnError)
	c.register(f)
	if err := f.Parse([]string{"--pool=tank", "--brands=lx"}); err != nil {
		t.Fatal(err)
	}
	err := applySettings(f, []byte(`
# all kinds of flags
pool: zones               # given on the command line, which wins
brands: [lx, reddwarf]    # the same
node-ip: 192.0.2.10       # one value of a flag that takes several
cluster-dns: [10.96.0.10, "fd00:96::a"]
max-pods: 250
node-routes: false
node-labels: {rack: r1, "example.com/a": "b,c=\"d\""}
reserved-memory: 1Gi
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Pool != "tank" || !slices.Equal(c.Brands, []string{"lx"}) {
		t.Errorf("the file wins over the command line: pool %q, brands %q", c.Pool, c.Brands)
	}
	if !slices.Equal(c.NodeIP, []string{"192.0.2.10"}) || !slices.Equal(c.ClusterDNS, []string{"10.96.0.10", "fd00:96::a"}) {
		t.Errorf("node-ip %q, cluster-dns %q", c.NodeIP, c.ClusterDNS)
	}
	if c.MaxPods != 250 || c.NodeRoutes || c.ReservedMemory != "1Gi" {
		t.Errorf("max-pods %d, node-routes %v, reserved-memory %q", c.MaxPods, c.NodeRoutes, c.ReservedMemory)
	}
	if want := map[string]string{"rack": "r1", "example.com/a": `b,c="d"`}; !maps.Equal(c.Labels, want) {
		t.Errorf("node-labels %q, want %q", c.Labels, want)
	}
}

// TestApplySettingsOfAll has what only `reddwarf node` knows read past by a
// command that does not, and its faults named all the same.
func TestApplySettingsOfAll(t *testing.T) {
	var c config
	f := pflag.NewFlagSet("leave", pflag.ContinueOnError)
	c.registerHost(f)
	if err := applySettings(f, []byte("pool: tank\nmax-pods: 3\n")); err != nil || c.Pool != "tank" {
		t.Errorf("pool %q: %v", c.Pool, err)
	}
	if err := applySettings(f, []byte("max-pods: many\n")); err == nil || !strings.Contains(err.Error(), "max-pods") {
		t.Errorf("a fault in another command's setting: %v", err)
	}
}

func TestApplySettingsRefuses(t *testing.T) {
	for file, want := range map[string]string{
		"pol: rpool":                "pol: no such setting",
		"config: /etc/other":        "config: no such setting",
		"pool: [a, b]":              "pool: one value",
		"pool: {a: b}":              "pool: no mapping",
		"pool:":                     "pool: no value",
		"node-ip: [[192.0.2.1]]":    "node-ip: a text",
		"node-labels: rack":         "node-labels: a mapping",
		"node-labels: {a: {b: c}}":  "node-labels: a: a text",
		"max-pods: 1.5":             "max-pods:",
		"node-routes: perhaps":      "node-routes:",
		"pool: a\npool: b":          "already set",
		"- pool":                    "cannot unmarshal",
		"pol: a\nnode-routes: 17.5": "node-routes",
	} {
		var c config
		f := pflag.NewFlagSet("node", pflag.ContinueOnError)
		c.register(f)
		if err := applySettings(f, []byte(file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to say %q", file, err, want)
		}
	}
}

func FuzzApplySettings(f *testing.F) {
	for _, s := range []string{"pool: a", "node-labels: {a: b}", "node-ip: [a, 1, true]", "max-pods: 1e9", "&a [*a]", "brands: \"a,\\\"b\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, file []byte) {
		var c config
		fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
		c.register(fs)
		_ = applySettings(fs, file) // any answer but a panic
	})
}

func TestSettingsFile(t *testing.T) {
	dir := t.TempDir()
	missing, faulty := filepath.Join(dir, "missing.yaml"), filepath.Join(dir, "faulty.yaml")
	if err := os.WriteFile(faulty, []byte("pol: rpool\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"node", "--config", missing},
		{"node", "--config", faulty},
		{"leave", "--config", faulty, "--host-only"},
		{"doctor", "--config", faulty},
		{"ps", "--config", faulty},
		{"join", "192.0.2.1:6443", "--config", faulty},
		{"node", "--node-ip", "nowhere"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), args, &out, &out)
		if err == nil || exitStatus(err) != exitErrConfig {
			t.Errorf("reddwarf %q = %v, want a fault of the settings", args, err)
		}
	}
	if got := exitStatus(errors.New("the network is down")); got != 1 {
		t.Errorf("another error ends with %d", got)
	}
}
