package zones

import (
	"context"
	"fmt"
	"os"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// Features is what a distribution's zonecfg knows beyond illumos-gate's. The
// zero value is illumos-gate's own.
type Features struct {
	Distro string // omnios, smartos or openindiana

	// NetProperties: net resources take `add property (name=…,value=…)`, by
	// which lx zones learn their address on SmartOS.
	NetProperties bool

	// QuotedComplex: values inside ( ) may be quoted.
	QuotedComplex bool

	// RoundsCPU: capped-cpu's ncpus is rounded to hundredths. Where it is not,
	// a float is cut off and 0.29 would become 28 percent.
	RoundsCPU bool

	// LX: the lx brand exists.
	LX bool
}

// DistroFeatures returns the features of a distribution by its name, and
// whether it is a known one.
func DistroFeatures(distro string) (Features, bool) {
	switch distro {
	case "omnios", "smartos":
		return Features{Distro: distro, NetProperties: true, QuotedComplex: true, RoundsCPU: true, LX: true}, true
	case "openindiana":
		return Features{Distro: distro}, true
	}
	return Features{}, false
}

// Probe finds out which distribution the machine runs, from uname -v, and where
// that says nothing of it (as on OpenIndiana) from /etc/os-release. A
// distribution that is not known is refused: its zonecfg might take a script
// otherwise than it was meant.
func Probe(ctx context.Context, r command.Runner) (Features, error) {
	out, err := r.Run(ctx, command.New("uname", "-v"))
	if err != nil {
		return Features{}, fmt.Errorf("zones: probe: %w", err)
	}
	version := strings.TrimSpace(string(out))
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		release = nil // uname may be enough
	}
	distro := distroOf(version, string(release))
	f, ok := DistroFeatures(distro)
	if !ok {
		return Features{}, fmt.Errorf("zones: probe: distribution %q (uname -v: %q) is not supported; "+
			"it must be omnios, smartos or openindiana", distro, version)
	}
	return f, nil
}

// distroOf decides by uname -v, then by os-release's ID.
func distroOf(version, release string) string {
	switch {
	case strings.HasPrefix(version, "omnios-"):
		return "omnios"
	case strings.HasPrefix(version, "joyent_"), strings.HasPrefix(version, "tritondatacenter_"):
		return "smartos"
	}
	for line := range strings.Lines(release) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "ID="); ok {
			return strings.Trim(id, `"'`)
		}
	}
	if strings.HasPrefix(version, "illumos-") {
		return "openindiana"
	}
	return ""
}
