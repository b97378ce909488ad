package zones_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	simulated "reddwarf.io/reddwarf/hack/host/zones"
	"reddwarf.io/reddwarf/zones"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs; got:\n%s", file, got)
	}
}

// shapes are the configurations that have a golden file each.
func shapes() map[string]zones.Config {
	minimal := zones.Config{Name: "web", Brand: "reddwarf", Path: "/zones/web"}
	shares := minimal
	shares.CPUShares, shares.CPUCap = 1, 250
	dual := minimal
	dual.Links = []zones.Link{
		{Physical: "rdw1", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
			Router: netip.MustParseAddr("10.0.0.1"), Router6: netip.MustParseAddr("fd00::1")},
		{Physical: "rdw2", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32")}},
		{Physical: "rdw3"},
	}
	mounts := minimal
	mounts.Mounts = podConfig().Mounts
	mounts.Mounts = append(mounts.Mounts, zones.Mount{Target: "/tmp/x", Source: "swap", Type: "tmpfs", Options: []string{"size=64m"}})
	return map[string]zones.Config{"minimal": minimal, "shares": shares, "links": dual, "mounts": mounts, "pod": podConfig()}
}

// TestScript compares with golden files, and has the simulated zonecfg of the
// distribution take each.
func TestScript(t *testing.T) {
	for _, distro := range []string{"omnios", "openindiana"} {
		for name, c := range shapes() {
			t.Run(distro+"/"+name, func(t *testing.T) {
				f := features(t, distro)
				if c.Brand == "lx" && !f.LX {
					c.Brand = "reddwarf"
				}
				script, err := c.Script(f)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join("testdata", distro, name+".zonecfg"), script)
				h := zones.New(newModel(t, simulated.Distro(distro)), f, zones.Scripts(filepath.Join(t.TempDir(), "s")))
				if err := h.Configure(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestScriptReportsEveryFault(t *testing.T) {
	c := zones.Config{
		Name: "global", Brand: "l x", Path: "zones", LimitPriv: "a b", CPUCap: -1, MaxProcesses: 5, MaxLWPs: 7,
		Links: []zones.Link{{Physical: "web0a"}, {Physical: "v01"}, {Physical: "rdw1", Router: netip.MustParseAddr("10.0.0.1")}},
		Mounts: []zones.Mount{
			{Target: "/a\nend", Source: "/s", Type: "lofs"}, {Target: "/b", Source: "/s\"", Type: "lofs"},
			{Target: "/b", Source: "a b", Type: "zfs"}, {Target: "/c/../d", Source: "/s", Type: "nfs", Options: []string{"a\"b"}},
			{Target: "/" + strings.Repeat("x", 1023), Source: "/s", Type: "lofs"},
		},
		Attrs:  []zones.Attr{{Name: "a_b", Type: "string", Value: strings.Repeat("x", 256)}, {Name: "n", Type: "int", Value: "x"}, {Name: "e", Type: "string"}},
		Memory: zones.Memory{Physical: 5, Swap: 6, Locked: 7},
	}
	_, err := c.Script(zones.Features{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`"global" is reserved`, `bad brand "l x"`, `zonepath "zones"`, `bad limitpriv`, `cpu cap -1`, `max-lwps 7`, `max-processes 5`,
		`bad link name "web0a"`, `bad link name "v01"`, `router 10.0.0.1`, `mount target "/a\nend"`, `mount source "/s\""`,
		`mount target "/b" twice`, `bad dataset "a b"`, `"/c/../d"`, `type "nfs"`, `bad option "a\"b"`, `longer than 1023`,
		`bad attribute name "a_b"`, `attribute n: bad int`, `attribute e: bad string`, `physical memory 5`, `swap 6`, `locked memory 7`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q", want)
		}
	}
}

func TestAddressesOfALinkMustFitOneField(t *testing.T) {
	c := zones.Config{Name: "z", Brand: "reddwarf", Path: "/z", Links: []zones.Link{{Physical: "rdw1"}}}
	for i := range 4 {
		p := netip.MustParsePrefix(fmt.Sprintf("10.244.10.10%d/24", i))
		c.Links[0].Addresses = append(c.Links[0].Addresses, p)
		_, err := c.Script(zones.Features{})
		if fits := i < 2; (err == nil) != fits {
			t.Errorf("%d addresses: %v", i+1, err)
		}
	}
}

// FuzzScript checks the promise: whatever the values, a script that is returned
// has exactly the resources of the Config, and the parser of zonecfg agrees.
func FuzzScript(f *testing.F) {
	f.Add("/data\nend\nadd device\nset match=/dev/rdsk/*", "v", "/s")
	f.Add(`/a"b`, `x" ; add device`, "/s#x")
	f.Add("/a b=[c](d),;#", "=", "/ü")
	f.Fuzz(func(t *testing.T, target, value, source string) {
		c := zones.Config{
			Name: "z", Brand: "lx", Path: "/zones/z",
			Mounts: []zones.Mount{{Target: target, Source: source, Type: "lofs", Options: []string{"ro"}}},
			Attrs:  []zones.Attr{{Name: "a", Type: "string", Value: value}},
		}
		feat := features(t, "omnios")
		script, err := c.Script(feat)
		if err != nil {
			return
		}
		if n := strings.Count(script, "\nadd "); n != 3 {
			t.Errorf("%d resources and options:\n%s", n, script)
		}
		h := zones.New(newModel(t, simulated.OmniOS), feat, zones.Scripts(filepath.Join(t.TempDir(), "s")))
		if err := h.Configure(t.Context(), c); err != nil {
			t.Fatalf("%v\n%s", err, script)
		}
		if attrs, err := h.Attrs(t.Context(), "z"); err != nil || attrs["a"] != value || len(attrs) != 1 {
			t.Errorf("attributes %q, %v; want %q", attrs, err, value)
		}
	})
}
