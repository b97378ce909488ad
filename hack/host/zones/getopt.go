package zones

import "reddwarf.io/reddwarf/hack/host/program"

// options walks over an argument vector as getopt(3C) does. Unlike in most
// programs, index 0 of args is the first argument: the subcommand functions of
// zonecfg and zoneadm start with optind 0.
type options struct {
	args  []string
	spec  string              // as getopt's optstring
	inv   *program.Invocation // gets getopt's own messages; nil: none, as opterr=0
	name  string              // starts those messages; empty: args[0], as argv[0]
	index int                 // optind
	pos   int                 // within a bundle of options

	arg string // optarg
	bad byte   // optopt
}

// next returns the next option's letter, '?' for one that is not in the
// specification or lacks its argument, or 0 at the end.
func (o *options) next() byte {
	if o.pos == 0 {
		if o.index >= len(o.args) || len(o.args[o.index]) < 2 || o.args[o.index][0] != '-' {
			return 0
		}
		if o.args[o.index] == "--" {
			o.index++
			return 0
		}
		o.pos = 1
	}
	word := o.args[o.index]
	c := word[o.pos]
	o.pos++
	o.bad = c
	takesArg, known := o.lookup(c)
	if !known {
		if o.pos == len(word) {
			o.index, o.pos = o.index+1, 0
		}
		o.complain("illegal option", c)
		return '?'
	}
	if !takesArg {
		o.arg = ""
		if o.pos == len(word) {
			o.index, o.pos = o.index+1, 0
		}
		return c
	}
	switch {
	case o.pos < len(word):
		o.arg = word[o.pos:]
		o.index++
	case o.index+1 < len(o.args):
		o.arg = o.args[o.index+1]
		o.index += 2
	default:
		o.index++
		o.pos = 0
		o.complain("option requires an argument", c)
		return '?'
	}
	o.pos = 0
	return c
}

func (o *options) lookup(c byte) (takesArg, known bool) {
	if c == ':' {
		return false, false
	}
	for i := range len(o.spec) {
		if o.spec[i] == c {
			return i+1 < len(o.spec) && o.spec[i+1] == ':', true
		}
	}
	return false, false
}

func (o *options) complain(what string, c byte) {
	if o.inv == nil {
		return
	}
	name := o.name
	if name == "" && len(o.args) > 0 {
		name = o.args[0]
	}
	o.inv.Errf("%s: %s -- %c\n", name, what, c)
}

// rest returns the operands.
func (o *options) rest() []string { return o.args[o.index:] }
