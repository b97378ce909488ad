package datalink

import "strings"

// option is one option of a command line.
type option struct {
	name  byte
	value string
}

// badOption is an option that getopt_long(3C) does not accept.
type badOption struct {
	name    byte
	missing bool // its value is
}

// getopt splits args as getopt_long(3C) does: short is its option string,
// long maps long names to short ones. Operands may stand between options.
func getopt(args []string, short string, long map[string]byte) (opts []option, operands []string, bad *badOption) {
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case a == "--":
			return opts, append(operands, args...), nil
		case strings.HasPrefix(a, "--"):
			name, value, has := strings.Cut(a[2:], "=")
			c, ok := long[name]
			takes, known := takesValue(short, c)
			if !ok || !known || has && !takes {
				return nil, nil, &badOption{name: '-'}
			}
			if takes && !has {
				if len(args) == 0 {
					return nil, nil, &badOption{name: c, missing: true}
				}
				value, args = args[0], args[1:]
			}
			opts = append(opts, option{c, value})
		case len(a) > 1 && a[0] == '-':
			var more []option
			more, args, bad = shortOptions(a[1:], args, short)
			if bad != nil {
				return nil, nil, bad
			}
			opts = append(opts, more...)
		default:
			operands = append(operands, a)
		}
	}
	return opts, operands, nil
}

// shortOptions reads one argument of single-letter options.
func shortOptions(cluster string, args []string, short string) ([]option, []string, *badOption) {
	var opts []option
	for i := 0; i < len(cluster); i++ {
		c := cluster[i]
		takes, known := takesValue(short, c)
		switch {
		case !known:
			return nil, nil, &badOption{name: c}
		case !takes:
			opts = append(opts, option{name: c})
		case i+1 < len(cluster):
			return append(opts, option{c, cluster[i+1:]}), args, nil
		case len(args) > 0:
			return append(opts, option{c, args[0]}), args[1:], nil
		default:
			return nil, nil, &badOption{name: c, missing: true}
		}
	}
	return opts, args, nil
}

func takesValue(short string, c byte) (takes, known bool) {
	i := strings.IndexByte(short, c)
	if i < 0 || c == ':' {
		return false, false
	}
	return i+1 < len(short) && short[i+1] == ':', true
}
