package ipf

func (p *parser) mapRule(r *Rule) {
	p.interfaces(r)
	v := 0
	if p.accept("from") {
		r.Filter = true
		v = p.mapFrom(r)
	} else {
		r.Src, v = p.addr()
	}
	p.expect("->")
	to := p.mapTarget(r)
	if v != 0 && to != 0 && v != to {
		p.fail("address family mismatch")
	}
	switch {
	case p.is("portmap"):
		p.advance()
		p.portmap(r)
	case p.is("icmpidmap"):
		p.advance()
		p.icmpIDMap(r)
	case p.is("proxy"):
		p.advance()
		p.proxy(r)
	}
	p.mapOptions(r)
	if !r.TCP && !r.UDP && !r.ICMPQuery {
		p.setProto(r, r.Proto)
	}
}

// mapFrom reads SRC [port] [!] to DST [port].
func (p *parser) mapFrom(r *Rule) int {
	var v, w int
	r.Src, r.SrcPort, v = p.object()
	r.NotDst = p.accept("!")
	p.expect("to")
	r.Dst, r.DstPort, w = p.object()
	if v != 0 && w != 0 && v != w {
		p.fail("address family mismatch")
	}
	return v
}

// mapTarget reads what a map rule maps to.
func (p *parser) mapTarget(r *Rule) int {
	if !p.accept("range") {
		var v int
		r.To, v = p.addr()
		if v == 0 {
			v = p.version
		}
		return v
	}
	r.Range = true
	low, v := p.hostname()
	p.expect("-")
	high, w := p.hostname()
	if v != 0 && w != 0 && v != w {
		p.fail("address family mismatch")
	}
	r.RangeLow, r.RangeHigh = low, high
	return v
}

func (p *parser) portmap(r *Rule) {
	switch {
	case p.accept("tcp"):
		if p.accept("/") {
			p.expect("udp")
			r.TCP, r.UDP = true, true
		} else {
			p.setProto(r, protoTCP)
		}
	case p.accept("udp"):
		p.setProto(r, protoUDP)
	case p.accept("tcpudp"):
		r.TCP, r.UDP = true, true
	}
	if p.accept("auto") {
		r.Auto, r.PortLow, r.PortHigh = true, 1024, 65535
	} else {
		r.PortLow = p.port()
		p.expect(":")
		r.PortHigh = p.port()
	}
	r.Sequential = p.accept("sequential")
}

// icmpIDMap also forgets that the rule had a from/to form, as ipnat does.
func (p *parser) icmpIDMap(r *Rule) {
	if p.word() != "icmp" {
		p.fail("icmpidmap not followed by icmp")
	}
	low := p.number()
	p.expect(":")
	high := p.number()
	if low > 65535 || high > 65535 {
		p.fail("invalid ICMP Id number")
	}
	r.ICMPQuery, r.PortLow, r.PortHigh = true, uint16(low), uint16(high)
	r.Filter, r.NotDst, r.Range = false, false, false
}

// proxy reads the rest of: proxy port PORT LABEL / PROTO
func (p *parser) proxy(r *Rule) {
	p.expect("port")
	port := p.port()
	r.Proxy = p.word()
	p.expect("/")
	proto := p.proto()
	if r.DstPort.Op == "" {
		r.DstPort.Low = port
	} else if port != r.DstPort.Low {
		p.fail("proxy port numbers not consistant") //nolint:misspell // ipnat spells it so
	}
	p.setProto(r, proto)
}

func (p *parser) mapBlock(r *Rule) {
	p.interfaces(r)
	var v, w int
	r.Src, v = p.addr()
	p.expect("->")
	r.To, w = p.addr()
	if v != 0 && w != 0 && v != w {
		p.fail("address family mismatch")
	}
	if p.accept("ports") {
		if r.Auto = p.accept("auto"); !r.Auto {
			r.PortLow = uint16(p.number())
		}
	}
	p.mapOptions(r)
	if !r.TCP && !r.UDP {
		p.setProto(r, r.Proto)
	}
}

// mapOptions reads round-robin, frag, age, mssclamp, tag and the protocol.
func (p *parser) mapOptions(r *Rule) {
	p.commonOptions(r)
	p.mssAndTag(r)
	p.protocol(r)
}

func (p *parser) commonOptions(r *Rule) {
	r.RoundRobin = p.accept("round-robin")
	r.Frag = p.accept("frag")
	if p.accept("age") {
		r.AgeForward = p.number()
		r.AgeBackward = r.AgeForward
		if p.accept("/") {
			r.AgeBackward = p.number()
		}
	}
}

func (p *parser) mssAndTag(r *Rule) {
	if p.accept("mssclamp") {
		r.MSSClamp = p.number()
	}
	p.tag(r)
}

const maxTag = 16 // IPFTAG_LEN

func (p *parser) tag(r *Rule) {
	if p.accept("tag") {
		t := p.word()
		r.Tag = t[:min(len(t), maxTag)]
	}
}
