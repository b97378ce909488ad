package system

import (
	"context"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// ctrunUsage and the exit codes are ctrun.c's; it takes libuutil's profile for
// launchers.
const (
	ctrunUsage = "Usage: ctrun [-i eventlist] [-f eventlist] [-l lifetime] \n" +
		"\t[-o optionlist] [-r count [-t]] [-v]\n" +
		"\t[-F fmri] [-A aux] command\n"
	ctrunExitUsage = 125
)

var ctrunParams = []string{"noorphan", "pgrponly", "regent", "inherit"}

// ctrun is ctrun(1): it runs a program in a process contract of its own. Of the
// lifetimes only none is simulated, with which the program is independent of
// ctrun as soon as it runs; the simulation has no contracts that could end
// otherwise.
func (m *Model) ctrun(_ context.Context, inv *program.Invocation) int {
	set, command, bad := options(inv.Args(), "a:A:l:o:i:c:f:F:r:tvV")
	if bad != 0 {
		if strings.IndexByte("aAloicfFr", bad) >= 0 {
			inv.Errf("ctrun: option requires an argument -- '%c'\n", bad)
		} else {
			inv.Errf("ctrun: illegal option -- %c\n", bad)
		}
		return ctrunWrong(inv)
	}
	life := "contract"
	for _, l := range set['l'] {
		if life = l; !slices.Contains([]string{"none", "child", "contract"}, l) {
			inv.Errf("ctrun: invalid lifetime '%s'\n", l)
			return ctrunWrong(inv)
		}
	}
	params := strings.FieldsFunc(last(set, 'o'), func(r rune) bool { return r == ',' || r == ' ' })
	for _, p := range params {
		if !slices.Contains(ctrunParams, p) {
			inv.Errf("ctrun: unrecognized option '%s'\nctrun: error parsing '-o' option\n", p)
			return ctrunWrong(inv)
		}
	}
	switch {
	case life == "none" && slices.Contains(params, "noorphan"):
		inv.Errf("ctrun: cannot use option 'noorphan' with lifetime 'none'\n")
		return ctrunWrong(inv)
	case life != "contract" && has(set, 'r'):
		inv.Errf("ctrun: cannot restart with lifetime '%s'\n", life)
		return ctrunWrong(inv)
	case has(set, 't') && !has(set, 'r'):
		inv.Errf("ctrun: cannot transfer when not restarting\n")
		return ctrunWrong(inv)
	case len(command) == 0:
		return ctrunWrong(inv)
	}
	for flag := range set {
		if flag != 'l' {
			return refuse(inv, "ctrun -%c is not simulated", flag)
		}
	}
	switch {
	case life != "none":
		return refuse(inv, "ctrun with lifetime %s is not simulated", life)
	case inv.Launch == nil:
		return refuse(inv, "this host is only a model and starts no programs")
	}
	inv.Launch(command)
	return 0
}

func ctrunWrong(inv *program.Invocation) int {
	inv.Errf(ctrunUsage)
	return ctrunExitUsage
}
