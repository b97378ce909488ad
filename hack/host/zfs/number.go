package zfs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseNumber reads a size as zfs_nicestrtonum of libzfs does: "10G", "1.5m",
// "512". The second result says why it is none.
func parseNumber(s string) (uint64, string) {
	if s == "" || (s[0] < '0' || s[0] > '9') && s[0] != '.' {
		return 0, fmt.Sprintf("bad numeric value '%s'", s)
	}
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	whole, err := strconv.ParseUint("0"+s[:end], 10, 64)
	if err != nil {
		return 0, "numeric value is too large"
	}
	if end < len(s) && s[end] == '.' {
		end++
		for end < len(s) && s[end] >= '0' && s[end] <= '9' {
			end++
		}
		f, err := strconv.ParseFloat("0"+s[:end]+"0", 64)
		if err != nil {
			return 0, fmt.Sprintf("bad numeric value '%s'", s)
		}
		shift, why := suffixShift(s[end:])
		if why != "" {
			return 0, why
		}
		f *= math.Pow(2, float64(shift))
		if f >= math.MaxUint64 {
			return 0, "numeric value is too large"
		}
		return uint64(f), ""
	}
	shift, why := suffixShift(s[end:])
	if why != "" {
		return 0, why
	}
	if shift >= 64 || whole<<shift>>shift != whole {
		return 0, "numeric value is too large"
	}
	return whole << shift, ""
}

// suffixShift is str2shift of libzfs_util.c.
func suffixShift(s string) (uint, string) {
	if s == "" {
		return 0, ""
	}
	up := strings.ToUpper(s)
	i := strings.IndexByte("BKMGTPEZ", up[0])
	if i < 0 || len(up) > 2 || len(up) == 2 && (up[1] != 'B' || up[0] == 'B') {
		return 0, fmt.Sprintf("invalid numeric suffix '%s'", s)
	}
	return uint(10 * i), ""
}

// niceNumber prints a size as nicenum of libcmdutils does: at most five
// characters, "1.50G".
func niceNumber(n uint64) string {
	const units = " KMGTPE"
	index, scaled := 0, n
	for scaled >= 1024 && index < len(units)-1 {
		scaled /= 1024
		index++
	}
	if index == 0 {
		return strconv.FormatUint(n, 10)
	}
	unit := units[index : index+1]
	if n&(1<<(10*index)-1) == 0 {
		return strconv.FormatUint(scaled, 10) + unit
	}
	for precision := 2; precision >= 0; precision-- {
		s := fmt.Sprintf("%.*f%s", precision, float64(n)/math.Pow(2, float64(10*index)), unit)
		if len(s) <= 5 || precision == 0 {
			return s
		}
	}
	return ""
}
