package zones_test

import (
	"os"
	"strings"
	"testing"

	simulated "reddwarf.io/reddwarf/hack/host/zones"
)

// TestBrandIsValid reads our brand's files as libbrand does: it validates them
// at every use, and says of an invalid file only that there is no such brand.
func TestBrandIsValid(t *testing.T) {
	b, err := simulated.ReadBrand("reddwarf", osFiles{})
	if err != nil {
		t.Fatal(err)
	}
	if b.Init != "/sbin/init" || b.RestartInit || !b.ExclusiveIP {
		t.Errorf("brand = %+v", b)
	}
	if b.Hooks["install"] != "/usr/bin/false" || b.Hooks["uninstall"] != "/usr/bin/true" {
		t.Errorf("hooks = %q: zoneadm must neither fill nor destroy a root", b.Hooks)
	}
}

// TestPlatformFollowsTheDTD checks the order that zone_platform.dtd.1 has, and
// that nothing of the host is writable in a zone.
func TestPlatformFollowsTheDTD(t *testing.T) {
	data, err := os.ReadFile("brand/reddwarf/platform.xml")
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	order := []string{"<global_mount ", "<mount ", "<device ", "<symlink "}
	for line := range strings.Lines(string(data)) {
		for i, element := range order {
			if !strings.Contains(line, element) {
				continue
			}
			if i < last {
				t.Errorf("%s comes after %s", strings.TrimSpace(line), order[last])
			}
			last = i
		}
		if strings.Contains(line, `type="lofs"`) && !strings.Contains(line, "ro,") {
			after, _, _ := strings.Cut(string(data)[strings.Index(string(data), line)+len(line):], "\n")
			if !strings.Contains(after, `opt="ro,nodevices,nosub"`) {
				t.Errorf("%s is not read-only: %s", strings.TrimSpace(line), after)
			}
		}
	}
}
