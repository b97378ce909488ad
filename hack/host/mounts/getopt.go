package mounts

import (
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// option is one that getopt(3C) found; '?' for one that is not known.
type option struct {
	flag  byte
	value string
}

// getopt splits args as getopt(3C) does by spec, and prints its messages under
// the program's name.
func getopt(inv *program.Invocation, name, spec string, args []string) (found []option, rest []string) {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		word := args[0]
		args = args[1:]
		if word == "--" {
			break
		}
		for i := 1; i < len(word); i++ {
			at := strings.IndexByte(spec, word[i])
			switch {
			case at < 0 || word[i] == ':':
				inv.Errf("%s: illegal option -- %c\n", name, word[i])
				found = append(found, option{flag: '?'})
				continue
			case at+1 == len(spec) || spec[at+1] != ':':
				found = append(found, option{flag: word[i]})
				continue
			case i+1 < len(word):
				found = append(found, option{word[i], word[i+1:]})
			case len(args) > 0:
				found = append(found, option{word[i], args[0]})
				args = args[1:]
			default:
				inv.Errf("%s: option requires an argument -- %c\n", name, word[i])
				found = append(found, option{flag: '?'})
			}
			break
		}
	}
	return found, args
}
