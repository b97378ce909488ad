package ipf

import (
	"fmt"
	"slices"
)

// ruleSet is a list of rules with fast look-up, for files of thousands.
type ruleSet struct {
	rules   []Rule
	index   map[Rule]int // of rules that are there
	gone    int
	changed bool
}

func newRuleSet(rules []Rule) *ruleSet {
	s := &ruleSet{rules: slices.Clone(rules), index: make(map[Rule]int, len(rules))}
	for i, r := range s.rules {
		s.index[r] = i
	}
	return s
}

func (s *ruleSet) has(r Rule) bool {
	_, ok := s.index[r]
	return ok
}

func (s *ruleSet) add(r Rule) {
	s.index[r] = len(s.rules)
	s.rules = append(s.rules, r)
	s.changed = true
}

// remove leaves a hole, which is the zero Rule.
func (s *ruleSet) remove(r Rule) bool {
	i, ok := s.index[r]
	if !ok {
		return false
	}
	s.rules[i] = Rule{}
	delete(s.index, r)
	s.gone++
	s.changed = true
	return true
}

func (s *ruleSet) list() []Rule {
	if s.gone == 0 {
		return s.rules
	}
	return slices.DeleteFunc(s.rules, func(r Rule) bool { return r.Kind == "" })
}

// maxPortRange bounds the ranges that a redirect may move.
const maxPortRange = 1024

// Supported says why a rule cannot be made real. illumos has all of them, but
// nothing here uses them.
func (r Rule) Supported() error {
	switch {
	case r.Kind == Bimap || r.Kind == MapBlock:
		return fmt.Errorf("%s rules are not simulated", r.Kind)
	case r.Proxy != "":
		return fmt.Errorf("application proxies are not simulated")
	case r.ICMPQuery:
		return fmt.Errorf("icmpidmap is not simulated")
	case r.Sticky:
		return fmt.Errorf("sticky is not simulated")
	case r.Other != r.Interface:
		return fmt.Errorf("rules for two interfaces are not simulated")
	case r.Kind == Redirect && r.Dst.Bits() < 0:
		return fmt.Errorf("a destination mask with holes is not simulated")
	case r.Kind == Redirect && r.Target.Addr.IsUnspecified():
		return fmt.Errorf("redirection to the interface's own address is not simulated")
	case r.Kind == Redirect && r.PortHigh != 0 && r.PortHigh < r.PortLow:
		return fmt.Errorf("a range of ports that runs backwards is not simulated")
	case r.Kind == Redirect && !r.Filter && !r.Fixed && int(r.PortHigh)-int(r.PortLow) >= maxPortRange:
		return fmt.Errorf("ranges of more than %d ports are not simulated", maxPortRange)
	case r.Kind == Map && !r.Range && r.To.Bits() < 0:
		return fmt.Errorf("a target mask with holes is not simulated")
	case r.Kind == Map && r.Src.Bits() < 0:
		return fmt.Errorf("a source mask with holes is not simulated for map")
	case r.MSSClamp != 0:
		return fmt.Errorf("mssclamp is not simulated")
	}
	return nil
}
