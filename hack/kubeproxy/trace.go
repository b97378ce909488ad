package kubeproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/knftables"
)

// Outcome is what becomes of a new connection.
type Outcome struct {
	Reached  []string // endpoints, sorted
	Rejected bool     // the client is told
	Dropped  bool
	Passed   bool // it goes on untranslated
}

// packet is what rules look at.
type packet struct {
	src, dst netip.Addr
	port     string
	proto    string
	dnat     bool
}

// verdict ends a walk through chains, or does not.
type verdict string

const (
	goOn   verdict = ""
	accept verdict = "accept"
	drop   verdict = "drop"
	reject verdict = "reject"
)

// result is one way that a walk may end. Random choices have many.
type result struct {
	verdict verdict
	packet  packet
}

// walker walks one table. It panics on what it does not know: then kube-proxy
// has learned something that the comparison has not.
type walker struct {
	table *knftables.FakeTable
	local map[netip.Addr]bool // the host's own addresses
}

// Trace follows the first packet of a connection that comes in from outside the
// host, pods included, through the hooks in the order of their priorities.
func (x *Proxier) Trace(src, dst netip.AddrPort, proto corev1.Protocol) Outcome {
	w := walker{table: x.fake.Table, local: map[netip.Addr]bool{x.node.Host: true}}
	p := packet{src: src.Addr(), dst: dst.Addr(), port: fmt.Sprint(dst.Port()), proto: strings.ToLower(string(proto))}
	var out Outcome
	for _, r := range w.hooks(p, "filter-prerouting-pre-dnat", "nat-prerouting") {
		hook := "filter-forward"
		if w.local[r.packet.dst] {
			hook = "filter-input"
		}
		if r.verdict == drop || r.verdict == reject {
			out.note(r)
			continue
		}
		for _, r := range w.chain(hook, r.packet) {
			out.note(r)
		}
	}
	slices.Sort(out.Reached)
	out.Reached = slices.Compact(out.Reached)
	return out
}

func (o *Outcome) note(r result) {
	switch {
	case r.verdict == drop:
		o.Dropped = true
	case r.verdict == reject:
		o.Rejected = true
	case r.packet.dnat:
		a, err := netip.ParseAddrPort(joined(r.packet))
		if err != nil {
			panic(err)
		}
		o.Reached = append(o.Reached, a.String())
	default:
		o.Passed = true
	}
}

func joined(p packet) string {
	if p.dst.Is6() {
		return "[" + p.dst.String() + "]:" + p.port
	}
	return p.dst.String() + ":" + p.port
}

// hooks walks base chains one after the other. Accepting ends one of them only.
func (w walker) hooks(p packet, chains ...string) []result {
	ways := []result{{goOn, p}}
	for _, c := range chains {
		var next []result
		for _, r := range ways {
			if r.verdict == drop || r.verdict == reject {
				next = append(next, r)
				continue
			}
			next = append(next, w.chain(c, r.packet)...)
		}
		ways = next
	}
	return ways
}

// chain walks a chain to its end.
func (w walker) chain(name string, p packet) []result {
	c := w.table.Chains[name]
	if c == nil {
		panic("kube-proxy: no chain " + name)
	}
	ways := []result{{goOn, p}}
	var ended []result
	for _, rule := range c.Rules {
		var next []result
		for _, r := range ways {
			got, leaves := w.rule(rule.Rule, r.packet)
			for _, g := range got {
				if g.verdict == goOn && !leaves {
					next = append(next, g)
				} else {
					ended = append(ended, g)
				}
			}
		}
		if ways = next; len(ways) == 0 {
			break
		}
	}
	return append(ended, ways...)
}

// words cuts a rule at spaces, with braces and commas as words of their own.
func words(rule string) []string {
	return strings.Fields(strings.NewReplacer("{", " { ", "}", " } ", ",", " , ").Replace(rule))
}

// rule applies one rule. The bool says that it leaves the chain even where the
// verdict is to go on: after a goto that came back.
func (w walker) rule(text string, p packet) ([]result, bool) {
	x := execution{walker: w, words: words(text), p: p}
	for len(x.words) > 0 && !x.done {
		x.step(text)
	}
	if x.results == nil {
		return []result{{goOn, x.p}}, false
	}
	return x.results, x.leaves
}

// execution goes through the words of a rule.
type execution struct {
	walker
	words   []string
	p       packet
	done    bool
	results []result
	leaves  bool
}

func (x *execution) accept(phrase string) bool {
	want := strings.Fields(phrase)
	if len(x.words) < len(want) || !slices.Equal(x.words[:len(want)], want) {
		return false
	}
	x.words = x.words[len(want):]
	return true
}

func (x *execution) word() string {
	w := x.words[0]
	x.words = x.words[1:]
	return w
}

// only goes on with the rule if ok.
func (x *execution) only(ok bool) {
	if !ok {
		x.done = true
	}
}

func (x *execution) end(results ...result) {
	x.done, x.results = true, results
}

func (x *execution) step(text string) {
	ip := "ip"
	if x.p.dst.Is6() {
		ip = "ip6"
	}
	triple := ip + " daddr . meta l4proto . th dport"
	switch {
	case x.accept("ct state new"): // all are
	case x.accept("mark set mark or"):
		x.word() // who the endpoint sees is not asked here
	case x.accept("meta l4proto . th dport vmap"):
		x.vmap(x.p.proto, x.p.port)
	case x.accept(triple + " vmap"):
		x.vmap(x.p.dst.String(), x.p.proto, x.p.port)
	case x.accept("meta l4proto"):
		x.only(x.word() == x.p.proto)
	case x.accept(ip + " daddr"):
		x.only(x.address(x.p.dst))
	case x.accept(ip + " saddr"):
		x.only(x.address(x.p.src))
	case x.accept("fib saddr type local"):
		x.only(x.local[x.p.src])
	case x.accept("update"):
		x.words = nil // remembers the client
	case x.accept("jump"):
		x.end(x.chain(x.word(), x.p)...)
	case x.accept("goto"):
		x.end(x.chain(x.word(), x.p)...)
		x.leaves = true
	case x.accept("drop"):
		x.end(result{drop, x.p})
	case x.accept("reject"):
		x.end(result{reject, x.p})
	case x.accept("dnat to"):
		a, err := netip.ParseAddrPort(x.word())
		if err != nil {
			panic(fmt.Sprintf("kube-proxy: rule %q: %v", text, err))
		}
		x.end(x.translated(a.Addr().String(), fmt.Sprint(a.Port())))
	case x.accept("dnat " + ip + " addr . port to numgen random mod"):
		x.random(func(value []string) []result { return []result{x.translated(value[0], value[2])} })
	case x.accept("numgen random mod"):
		x.random(func(value []string) []result {
			if len(value) != 2 || value[0] != "goto" {
				panic(fmt.Sprintf("kube-proxy: rule %q goes to %q", text, value))
			}
			return x.chain(value[1], x.p)
		})
		x.leaves = true
	default:
		panic(fmt.Sprintf("kube-proxy: rule %q: the tracer does not know %q", text, x.words))
	}
}

func (x *execution) translated(addr, port string) result {
	p := x.p
	p.dst, p.port, p.dnat = netip.MustParseAddr(addr), port, true
	return result{accept, p}
}

// address reads what an address is compared with: a network, a set by its name,
// or networks in braces; != turns it around.
func (x *execution) address(a netip.Addr) bool {
	not := x.accept("!=")
	var in bool
	switch w := x.word(); {
	case strings.HasPrefix(w, "@"):
		in = x.set(w[1:], a.String())
	case w == "{":
		for w = x.word(); w != "}"; w = x.word() {
			in = in || w != "," && contains(w, a)
		}
	default:
		in = contains(w, a)
	}
	return in != not
}

func contains(network string, a netip.Addr) bool {
	if one, err := netip.ParseAddr(network); err == nil {
		return one == a
	}
	return netip.MustParsePrefix(network).Contains(a)
}

// set looks an element up. Those of affinity are filled by packets: to a new
// client they are empty.
func (x *execution) set(name string, key ...string) bool {
	s := x.table.Sets[name]
	if s == nil {
		panic("kube-proxy: no set " + name)
	}
	return s.FindElement(key...) != nil
}

func (x *execution) vmap(key ...string) {
	name := strings.TrimPrefix(x.word(), "@")
	m := x.table.Maps[name]
	if m == nil {
		panic("kube-proxy: no map " + name)
	}
	e := m.FindElement(key...)
	if e == nil {
		x.done = true // no match: the rule does nothing
		return
	}
	x.words = words(strings.Join(e.Value, " "))
}

// random takes every entry of "N map { 0 : VALUE , 1 : VALUE }" once.
func (x *execution) random(f func(value []string) []result) {
	if x.word(); !x.accept("map {") && !x.accept("vmap {") {
		panic(fmt.Sprintf("kube-proxy: no map in %q", x.words))
	}
	var all []result
	for w := ""; w != "}"; {
		if x.word(); !x.accept(":") {
			panic(fmt.Sprintf("kube-proxy: no entry in %q", x.words))
		}
		var value []string
		for w = x.word(); w != "," && w != "}"; w = x.word() {
			value = append(value, w)
		}
		all = append(all, f(value)...)
	}
	x.end(all...)
}
