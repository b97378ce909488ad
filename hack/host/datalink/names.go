package datalink

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

const maxLinkName = 32 // MAXLINKNAMELEN, with the final NUL

// validLinkName applies dladm_valid_linkname() of libdladm.
func validLinkName(name string) bool {
	if name == "" || len(name) >= maxLinkName || isDigit(name[0]) {
		return false
	}
	digits := 0
	for digits < len(name) && isDigit(name[len(name)-1-digits]) {
		digits++
	}
	if digits == 0 || digits > 1 && name[len(name)-digits] == '0' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isAlnum(c byte) bool { return isDigit(c) || isAlpha(c) }

// parseMAC reads an address as _link_aton(3SOCKET) does: bytes in hex, with or
// without leading zero, separated by colons.
func parseMAC(s string) (net.HardwareAddr, bool) {
	var mac net.HardwareAddr
	for part := range strings.SplitSeq(s, ":") {
		if part == "" || len(part) > 2 {
			return nil, false
		}
		v, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return nil, false
		}
		mac = append(mac, byte(v))
	}
	return mac, true
}

// printMAC prints an address without leading zeros, as dladm does.
func printMAC(s string) string {
	mac, ok := parseMAC(s)
	if !ok {
		return ""
	}
	parts := make([]string, len(mac))
	for i, b := range mac {
		parts[i] = fmt.Sprintf("%x", b)
	}
	return strings.Join(parts, ":")
}

func splitWords(s string) []string { return strings.Fields(s) }
