package zones

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// parseList reads the output of zoneadm list -p: lines of
// id:name:state:zonepath:uuid:brand:iptype, to which some distributions add a
// debug id. A colon of the zonepath is written \: and nothing else is escaped.
// The global zone is left out.
func parseList(out []byte) ([]Zone, error) {
	var zones []Zone
	for line := range bytes.Lines(out) {
		text := strings.TrimSuffix(string(line), "\n")
		z, err := parseLine(text)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", text, err)
		}
		if z.Name != globalZone {
			zones = append(zones, z)
		}
	}
	return zones, nil
}

const globalZone = "global"

const listFields = 7

func parseLine(line string) (Zone, error) {
	f := splitEscaped(line)
	if len(f) < listFields {
		return Zone{}, fmt.Errorf("%d fields instead of %d", len(f), listFields)
	}
	id := -1
	if f[0] != "-" {
		n, err := strconv.Atoi(f[0])
		if err != nil || n < 0 {
			return Zone{}, fmt.Errorf("zone id %q", f[0])
		}
		id = n
	}
	state, err := parseState(f[2])
	if err != nil {
		return Zone{}, err
	}
	if f[1] == "" {
		return Zone{}, fmt.Errorf("no zone name")
	}
	return Zone{ID: id, Name: f[1], State: state, Path: f[3], UUID: f[4], Brand: f[5], IPType: f[6]}, nil
}

// splitEscaped cuts s at colons, but for those that follow a backslash, which
// it removes.
func splitEscaped(s string) []string {
	var fields []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == ':':
			b.WriteByte(':')
			i++
		case s[i] == ':':
			fields = append(fields, b.String())
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	return append(fields, b.String())
}

// parseAttrs reads the output of zonecfg info attr. Values with blanks are
// quoted; no value can contain a quote.
func parseAttrs(out []byte) (map[string]string, error) {
	attrs := map[string]string{}
	name, inside := "", false
	for line := range bytes.Lines(out) {
		text := strings.TrimSuffix(string(line), "\n")
		switch {
		case text == "attr:":
			name, inside = "", true
		case text == "No such attr resource.":
			return attrs, nil
		case strings.HasPrefix(text, "\t") && inside:
			key, value, ok := strings.Cut(text[1:], ": ")
			if !ok {
				key, ok = strings.CutSuffix(text[1:], ":") // an empty value
			}
			if !ok {
				return nil, fmt.Errorf("line %q", text)
			}
			switch value = unquote(value); key {
			case "name":
				name = value
			case "value":
				if name == "" {
					return nil, fmt.Errorf("line %q: a value without a name", text)
				}
				attrs[name] = value
			}
		case text == "":
		default:
			return nil, fmt.Errorf("line %q", text)
		}
	}
	return attrs, nil
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
