package images

import (
	"errors"
	"fmt"
	"time"

	"reddwarf.io/reddwarf/storage"
	"reddwarf.io/reddwarf/storage/oci"
)

// Policy says when images are removed, in a kubelet's words.
type Policy struct {
	HighThresholdPercent int // of the space; from here on images are removed
	LowThresholdPercent  int // of the space; down to here

	// MinAge is how old an image must be to be removed for the sake of space.
	MinAge time.Duration

	// MaxAge is how long an image may be unused; 0 is for ever.
	MaxAge time.Duration
}

// Validate refuses what a kubelet refuses.
func (p Policy) Validate() error {
	var errs []error
	for name, n := range map[string]int{"high": p.HighThresholdPercent, "low": p.LowThresholdPercent} {
		if n < 0 || n > 100 {
			errs = append(errs, fmt.Errorf("the %s threshold %d must be between 0 and 100", name, n))
		}
	}
	if p.LowThresholdPercent >= p.HighThresholdPercent {
		errs = append(errs, fmt.Errorf("the low threshold %d must be less than the high threshold %d", p.LowThresholdPercent, p.HighThresholdPercent))
	}
	if p.MinAge < 0 || p.MaxAge < 0 {
		errs = append(errs, errors.New("ages must not be negative"))
	}
	if p.MaxAge > 0 && p.MaxAge <= p.MinAge {
		errs = append(errs, fmt.Errorf("the maximum age %s must be more than the minimum age %s", p.MaxAge, p.MinAge))
	}
	return errors.Join(errs...)
}

// Off is true where nothing is ever removed unless the host is short of space.
func (p Policy) Off() bool { return p.HighThresholdPercent == 100 && p.MaxAge == 0 }

// tooOld divides images into those that nobody has used for too long and the
// others. No image is too old before an agent has watched for as long.
func (p Policy) tooOld(unused []oci.Known, now, began time.Time) (old, rest []oci.Known) {
	if p.MaxAge == 0 || now.Sub(began) <= p.MaxAge {
		return nil, unused
	}
	for _, k := range unused {
		if now.Sub(k.LastUsed()) > p.MaxAge {
			old = append(old, k)
		} else {
			rest = append(rest, k)
		}
	}
	return old, rest
}

// excess is how many bytes are to be freed.
func (p Policy) excess(space storage.Capacity) int64 {
	if usedPercent(space) < p.HighThresholdPercent {
		return 0
	}
	return space.Total/100*int64(100-p.LowThresholdPercent) - space.Available
}

func usedPercent(space storage.Capacity) int {
	available := min(space.Available, space.Total)
	return 100 - int(float64(available)*100/float64(space.Total)) // a product of integers could overflow
}

// Size is a number of bytes for people.
func Size(bytes int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	n, unit := float64(bytes)/1024, 0
	for n >= 1024 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", n, units[unit])
}
