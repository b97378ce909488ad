package ipnat

import (
	"cmp"
	"maps"
	"slices"
)

// Delta is what a change does to the rules. Rules to add go first.
type Delta struct{ Add, Remove Rules }

// Empty says that nothing changes.
func (d Delta) Empty() bool { return len(d.Add) == 0 && len(d.Remove) == 0 }

// Table is the compiled rules of a node, kept current one Service at a time: a
// change costs as much as the Service is large, however many others there are.
// What it holds is what [Compile] returns for the same Services. It is for one
// goroutine.
type Table struct {
	node     Node
	base     Rules
	services map[string]*compiled
	claims   map[frontend][]claim // the first one has the frontend
	print    Fingerprint          // of the rules in force
	scratch  []byte
}

// compiled is what a Table knows of a Service.
type compiled struct {
	created  int64 // seconds
	wants    []frontend
	problems []Problem
}

// claim is a Service's wish for a frontend.
type claim struct {
	rank    int8
	created int64
	service string
	lead
}

func (a claim) compare(b claim) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.created, b.created), cmp.Compare(a.service, b.service))
}

// NewTable returns the table of a node without Services. The error says what is
// wrong with the node.
func NewTable(n Node) (*Table, error) {
	if err := n.Validate(); err != nil {
		return nil, err
	}
	t := &Table{node: n, services: map[string]*compiled{}, claims: map[frontend][]claim{}}
	t.base = n.base()
	t.account(Delta{Add: t.base})
	return t, nil
}

// Set adds a Service or changes it, and returns what that does to the rules.
func (t *Table) Set(s Service) Delta {
	wants, problems := t.node.compile(&s)
	return t.replace(s.Name, s.Created.Unix(), wants, problems)
}

// Delete removes a Service by its name. One that is not there is no change.
func (t *Table) Delete(name string) Delta {
	d := t.replace(name, 0, nil, nil)
	delete(t.services, name)
	return d
}

func (t *Table) replace(name string, created int64, wants []part, problems []Problem) Delta {
	svc := t.services[name]
	if svc == nil {
		svc = &compiled{}
		t.services[name] = svc
	}
	var d Delta
	old := svc.wants
	svc.created, svc.problems, svc.wants = created, problems, make([]frontend, 0, len(wants))
	fresh := make(map[frontend]bool, len(wants))
	for _, w := range wants {
		if fresh[w.at] {
			continue // the same address twice, or an endpoint of two ports
		}
		fresh[w.at] = true
		svc.wants = append(svc.wants, w.at)
		t.change(&d, w.at, name, &claim{w.rank, created, name, w.lead})
	}
	for _, at := range old {
		if !fresh[at] {
			t.change(&d, at, name, nil)
		}
	}
	t.account(d)
	return d
}

// account keeps the fingerprint.
func (t *Table) account(d Delta) {
	for _, r := range d.Add {
		t.print = t.print.with(r, &t.scratch, false)
	}
	for _, r := range d.Remove {
		t.print = t.print.with(r, &t.scratch, true)
	}
}

// change replaces a Service's claim to a frontend; nil withdraws it.
func (t *Table) change(d *Delta, at frontend, name string, c *claim) {
	list := t.claims[at]
	var before, after []Rule
	if len(list) > 0 {
		before = t.node.rules(at, list[0].service, list[0].lead)
	}
	if i := slices.IndexFunc(list, func(x claim) bool { return x.service == name }); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if c != nil {
		i, _ := slices.BinarySearchFunc(list, *c, claim.compare)
		list = slices.Insert(list, i, *c)
	}
	if len(list) > 0 {
		after = t.node.rules(at, list[0].service, list[0].lead)
		t.claims[at] = list
	} else {
		delete(t.claims, at)
	}
	difference(d, before, after)
}

// difference adds to d what turns one list of rules into another.
func difference(d *Delta, before, after []Rule) {
	if slices.Equal(before, after) {
		return
	}
	had := make(map[Rule]bool, len(before))
	for _, r := range before {
		had[r] = true
	}
	for _, r := range after {
		if !had[r] {
			d.Add = append(d.Add, r)
		}
		delete(had, r)
	}
	for _, r := range before {
		if had[r] {
			d.Remove = append(d.Remove, r)
		}
	}
}

// Count returns the number of rules.
func (t *Table) Count() int { return t.print.Rules }

// Rules returns all rules: those for everybody first, then by Service.
func (t *Table) Rules() Rules {
	rules := append(make(Rules, 0, t.Count()), t.base...)
	for _, name := range slices.Sorted(maps.Keys(t.services)) {
		for _, at := range t.services[name].wants {
			if c := t.claims[at][0]; c.service == name {
				rules = append(rules, t.node.rules(at, name, c.lead)...)
			}
		}
	}
	return rules
}

// Problems returns what cannot be done, by Service.
func (t *Table) Problems() []Problem {
	var all []Problem
	for _, name := range slices.Sorted(maps.Keys(t.services)) {
		all = append(all, t.ProblemsOf(name)...)
	}
	return all
}

// ProblemsOf returns what cannot be done of one Service.
func (t *Table) ProblemsOf(name string) []Problem {
	svc := t.services[name]
	if svc == nil {
		return nil
	}
	all := slices.Clone(svc.problems)
	for _, at := range svc.wants {
		if has := t.claims[at][0]; has.service != name && !at.mask {
			c := compiler{svc: &Service{Name: name}}
			c.problem(ReasonConflict, "%s port %d/%s on %s belongs to service %s", at.addr, at.port, at.proto, at.iface, has.service)
			all = append(all, c.problems...)
		}
	}
	return all
}

// Unserved says whether a Service has an address and port here that leads
// nowhere: no endpoint may serve it. Its packets are refused by the route that
// rejects the Services' network.
func (t *Table) Unserved(name string) bool {
	svc := t.services[name]
	return svc != nil && slices.ContainsFunc(svc.wants, func(at frontend) bool {
		has := t.claims[at][0]
		return has.service == name && has.nowhere(at)
	})
}

// Then returns both changes as one. What one adds and the other removes is not
// in it.
func (d Delta) Then(next Delta) Delta {
	switch {
	case d.Empty():
		return next
	case next.Empty():
		return d
	}
	net := make(map[Rule]int, len(d.Add)+len(d.Remove)+len(next.Add)+len(next.Remove))
	for _, c := range []Delta{d, next} {
		for _, r := range c.Add {
			net[r]++
		}
		for _, r := range c.Remove {
			net[r]--
		}
	}
	var both Delta
	for _, c := range []Delta{d, next} { // in their order, for texts that can be compared
		for _, r := range c.Add {
			if net[r] > 0 {
				both.Add = append(both.Add, r)
				delete(net, r)
			}
		}
		for _, r := range c.Remove {
			if net[r] < 0 {
				both.Remove = append(both.Remove, r)
				delete(net, r)
			}
		}
	}
	return both
}
