package zfs

import "strings"

// option is one option of a command line; flag is 0 for the fault below.
type option struct {
	flag  byte
	value string
}

// badOption is where getopt(3C) gave up.
type badOption struct {
	flag    byte
	missing bool // its argument, which spec distinguishes by a leading colon
}

// getopt reads options as getopt(3C) of illumos does: it stops at the first
// word that is none. spec is getopt's own.
func getopt(args []string, spec string) (opts []option, rest []string, bad *badOption) {
	silent := strings.HasPrefix(spec, ":")
	spec = strings.TrimPrefix(spec, ":")
	for len(args) > 0 {
		word := args[0]
		if len(word) < 2 || word[0] != '-' {
			break
		}
		args = args[1:]
		if word == "--" {
			break
		}
		for i := 1; i < len(word); i++ {
			c := word[i]
			at := strings.IndexByte(spec, c)
			if c == ':' || at < 0 {
				return opts, args, &badOption{flag: c}
			}
			if at+1 == len(spec) || spec[at+1] != ':' {
				opts = append(opts, option{flag: c})
				continue
			}
			value := word[i+1:]
			if value == "" {
				if len(args) == 0 {
					return opts, args, &badOption{c, silent}
				}
				value, args = args[0], args[1:]
			}
			opts = append(opts, option{c, value})
			break
		}
	}
	return opts, args, nil
}

// options reads the options of a subcommand and collects flags without a
// value. It returns false after it has printed what is wrong.
func (r *run) options(args []string, spec string) (set map[byte]bool, opts []option, rest []string, ok bool) {
	opts, rest, bad := getopt(args, spec)
	if bad != nil {
		switch {
		case bad.missing && r.cmd == "create":
			r.usage("missing size argument")
		case bad.missing:
			r.usage("missing argument for '" + string(bad.flag) + "' option")
		default:
			r.usage("invalid option '" + string(bad.flag) + "'")
		}
		return nil, nil, nil, false
	}
	set = map[byte]bool{}
	for _, o := range opts {
		set[o.flag] = true
	}
	return set, opts, rest, true
}

// assignments collects the -o property=value options, or prints what is wrong.
func (r *run) assignments(opts []option) (map[string]string, bool) {
	props := map[string]string{}
	for _, o := range opts {
		if o.flag == 'o' && !r.assignment(props, o.value) {
			return nil, false
		}
	}
	return props, true
}

// assignment is parseprop of zfs_main.c.
func (r *run) assignment(props map[string]string, word string) bool {
	name, value, ok := strings.Cut(word, "=")
	if !ok {
		r.inv.Errf("missing '=' for property=value argument\n")
		return false
	}
	if _, twice := props[name]; twice {
		r.inv.Errf("property '%s' specified multiple times\n", name)
		return false
	}
	props[name] = value
	return true
}
