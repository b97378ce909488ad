package system

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// service is one instance of a service.
type service struct {
	FMRI    string    `json:"fmri"`
	State   string    `json:"state"`
	Enabled bool      `json:"enabled"` // at the next boot
	Since   time.Time `json:"since"`
}

// standardServices are those that a host has and that matter to an agent.
func standardServices(now time.Time) []*service {
	var all []*service
	for _, fmri := range []string{
		"svc:/milestone/multi-user-server:default", "svc:/milestone/multi-user:default", "svc:/milestone/name-services:default",
		"svc:/milestone/network:default", "svc:/network/datalink-management:default", "svc:/network/ip-interface-management:default",
		"svc:/network/loopback:default", "svc:/network/physical:default", "svc:/network/routing-setup:default", "svc:/network/ssh:default",
		"svc:/system/filesystem/local:default", "svc:/system/filesystem/root:default", "svc:/system/resource-mgmt:default",
		"svc:/system/svc/restarter:default", "svc:/system/zones:default",
	} {
		all = append(all, &service{fmri, "online", true, now})
	}
	for _, fmri := range []string{
		"svc:/network/ipfilter:default", "svc:/network/ipv4-forwarding:default", "svc:/network/ipv6-forwarding:default",
		"svc:/network/routing/route:default", "svc:/system/rcap:default", "svc:/system/zones-monitoring:default",
	} {
		all = append(all, &service{fmri, "disabled", false, now})
	}
	return all
}

// find returns the services that a word names: an FMRI, a part of one that
// begins and ends where a component does, or a pattern.
func (m *Model) find(word string) []*service {
	var found []*service
	for _, s := range m.services {
		if matches(s.FMRI, word) {
			found = append(found, s)
		}
	}
	return found
}

// matches is how smf(7) lets people name services.
func matches(fmri, word string) bool {
	name := strings.TrimPrefix(fmri, "svc:/")
	word = strings.TrimPrefix(strings.TrimPrefix(word, "svc:/"), "/")
	serviceName, instance, _ := strings.Cut(name, ":")
	if word == "" {
		return false
	}
	if strings.ContainsAny(word, "*?[") {
		hide := strings.NewReplacer("/", "\x00")
		for _, candidate := range []string{name, fmri, serviceName} {
			if ok, _ := path.Match(hide.Replace(word), hide.Replace(candidate)); ok {
				return true
			}
		}
		return false
	}
	for _, candidate := range []string{name, serviceName, instance} {
		if candidate == word || strings.HasSuffix(candidate, "/"+word) {
			return true
		}
	}
	return false
}

var svcsColumns = [...]string{"state", "stime", "fmri", "svc", "inst", "sta", "nsta", "nstate", "scope"}

const svcsUsage = `Usage: svcs [-aHpv] [-o col[,col ... ]] [-R restarter] [-sS col] [-Z | -z zone ]
            [<service> ...]
       svcs -d | -D [-Hpv] [-o col[,col ... ]] [-sS col] [-Z | -z zone ]
            [<service> ...]
       svcs [-l | -L] [-Z | -z zone] <service> ...
       svcs -x [-v] [-Z | -z zone] [<service> ...]
       svcs -?
`

// svcs is the program svcs(1).
func (m *Model) svcs(_ context.Context, inv *program.Invocation) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	set, rest, bad := options(inv.Args(), "aHo:s:S:vplxdDZz:LR:")
	if bad != 0 {
		inv.Errf("%s", svcsUsage)
		return 2
	}
	for _, flag := range []byte("sSplxdDZzLRv") {
		if has(set, flag) {
			return refuse(inv, "svcs -%c is not simulated", flag)
		}
	}
	columns := []string{"state", "stime", "fmri"}
	if has(set, 'o') {
		columns = strings.Split(strings.ToLower(last(set, 'o')), ",")
		for _, c := range columns {
			if !slices.Contains(svcsColumns[:], c) {
				inv.Errf("svcs: Unknown column \"%s\".\n%s", c, svcsUsage)
				return 2
			}
		}
	}
	code := 0
	var picked []*service
	for _, word := range rest {
		found := m.find(word)
		if len(found) == 0 {
			inv.Errf("svcs: Pattern '%s' doesn't match any instances\n", word)
			code = 1
		}
		for _, s := range found {
			if !slices.Contains(picked, s) {
				picked = append(picked, s)
			}
		}
	}
	if len(rest) == 0 {
		for _, s := range m.services {
			if has(set, 'a') || s.Enabled || s.State != "disabled" {
				picked = append(picked, s)
			}
		}
	}
	slices.SortStableFunc(picked, func(a, b *service) int {
		if a.State != b.State {
			return strings.Compare(a.State, b.State)
		}
		return strings.Compare(a.FMRI, b.FMRI)
	})
	if !has(set, 'H') && (len(picked) > 0 || len(rest) == 0) {
		inv.Outf("%s\n", m.svcsLine(columns, nil))
	}
	for _, s := range picked {
		inv.Outf("%s\n", m.svcsLine(columns, s))
	}
	return code
}

// svcsLine prints one line; without a service it is the header.
func (m *Model) svcsLine(columns []string, s *service) string {
	widths := map[string]int{"state": 14, "stime": 8, "sta": 3, "nsta": 4, "nstate": 14, "scope": 9, "inst": 9, "svc": 40, "fmri": 50}
	var b strings.Builder
	for _, c := range columns {
		cell := strings.ToUpper(c)
		if s != nil {
			cell = m.svcsCell(c, s)
		}
		fmt.Fprintf(&b, "%-*s ", widths[c], cell)
	}
	return strings.TrimRight(b.String(), " ")
}

func (m *Model) svcsCell(column string, s *service) string {
	name, instance, _ := strings.Cut(strings.TrimPrefix(s.FMRI, "svc:/"), ":")
	switch column {
	case "state":
		return s.State
	case "stime":
		switch age := m.now().Sub(s.Since); {
		case age < 24*time.Hour:
			return fmt.Sprintf("%2d:%s", s.Since.Hour(), s.Since.Format("04:05"))
		case age < 360*24*time.Hour:
			return s.Since.Format("Jan_02")
		}
		return s.Since.Format("2006")
	case "fmri":
		return s.FMRI
	case "svc":
		return name
	case "inst":
		return instance
	case "sta":
		return map[string]string{"online": "ON", "disabled": "DIS", "maintenance": "MNT", "offline": "OFF"}[s.State]
	case "scope":
		return "localhost"
	}
	return "-"
}

const svcadmUsage = `Usage: svcadm [-S <state>] [-v] [-Z | -z zone] [cmd [args ... ]]

	svcadm enable [-rst] [<service> ...]	- enable and online service(s)
	svcadm disable [-st] [<service> ...]	- disable and offline service(s)
	svcadm restart [-d] [<service> ...]	- restart specified service(s)
	svcadm refresh [<service> ...]		- re-read service configuration
	svcadm mark [-It] <state> [<service> ...] - set maintenance state
	svcadm clear [<service> ...]		- clear maintenance state
	svcadm milestone [-d] <milestone>	- advance to a service milestone
`

// svcadm is the program svcadm(8). Services change at once, as with -s.
func (m *Model) svcadm(ctx context.Context, inv *program.Invocation) int {
	specs := map[string]string{"enable": "rst", "disable": "st", "restart": "d", "refresh": "", "clear": ""}
	args := inv.Args()
	if len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-v" {
		return refuse(inv, "svcadm %s is not simulated", args[0])
	}
	if len(args) > 0 && args[0] == "-v" {
		args = args[1:]
	}
	if len(args) == 0 || args[0] == "mark" || args[0] == "milestone" {
		if len(args) > 0 {
			return refuse(inv, "svcadm %s is not simulated", args[0])
		}
		inv.Errf("%s", svcadmUsage)
		return 2
	}
	action := args[0]
	spec, known := specs[action]
	set, rest, bad := options(args[1:], spec)
	if !known || bad != 0 || len(rest) == 0 {
		inv.Errf("%s", svcadmUsage)
		return 2
	}
	code := 0
	for _, word := range rest {
		m.mu.Lock()
		found := m.find(word)
		m.mu.Unlock()
		if len(found) == 0 {
			inv.Errf("svcadm: Pattern '%s' doesn't match any instances\n", word)
			code = 1
		}
		if len(found) > 1 && !strings.ContainsAny(word, "*?[") {
			inv.Errf("svcadm: Pattern '%s' matches multiple instances:\n", word)
			for _, s := range found {
				inv.Errf("\t%s\n", s.FMRI)
			}
			code = 1
			continue
		}
		for _, s := range found {
			code = max(code, m.act(ctx, inv, s, action, has(set, 't')))
		}
	}
	return code
}

// act does one action on one service.
func (m *Model) act(ctx context.Context, inv *program.Invocation, s *service, action string, temporary bool) int {
	m.mu.Lock()
	before, changed := s.State, true
	switch {
	case action == "enable":
		s.Enabled = s.Enabled || !temporary
		changed = before == "disabled"
		if changed {
			s.State = "online"
		}
	case action == "disable":
		s.Enabled = s.Enabled && temporary
		changed = before != "disabled"
		s.State = "disabled"
	case action == "clear" && before == "maintenance":
		s.State = "online"
		action = "enable"
	case action == "clear":
		m.mu.Unlock()
		inv.Errf("svcadm: Instance \"%s\" is not in a maintenance or degraded state.\n", s.FMRI)
		return 1
	default:
		changed = before == "online" // restart and refresh of another one do nothing
	}
	if changed && action != "refresh" {
		s.Since = m.now()
	}
	hook := m.cfg.Hooks[s.FMRI]
	m.mu.Unlock()
	if !changed || hook == nil {
		return 0
	}
	if err := hook(ctx, action); err != nil {
		m.mu.Lock()
		s.State = "maintenance"
		m.mu.Unlock()
	}
	return 0
}

// svccfg is the program svccfg(8), of which validate and import of manifests
// are simulated.
func (m *Model) svccfg(_ context.Context, inv *program.Invocation) int {
	args := inv.Args()
	if len(args) != 2 || args[0] != "validate" && args[0] != "import" {
		return refuse(inv, "svccfg is simulated for validate FILE and import FILE only")
	}
	b, err := readBundle(inv, args[1])
	if err != nil {
		inv.Errf("svccfg: %v\n", err)
		return 1
	}
	if args[0] == "validate" {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	add := func(of, instance string, enabled bool) {
		fmri := "svc:/" + of + ":" + instance
		if slices.ContainsFunc(m.services, func(s *service) bool { return s.FMRI == fmri }) {
			return
		}
		state := "disabled"
		if enabled {
			state = "online"
		}
		m.services = append(m.services, &service{fmri, state, enabled, m.now()})
	}
	for _, s := range b.Services {
		if s.Create != nil {
			add(s.Name, "default", s.Create.Enabled)
		}
		for _, i := range s.Instances {
			add(s.Name, i.Name, i.Enabled)
		}
	}
	return 0
}
