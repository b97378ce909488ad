package ipf

func (p *parser) redirect(r *Rule) {
	p.interfaces(r)
	v, ports := 0, false
	switch {
	case p.is("!"), p.is("from"):
		v = p.redirectFrom(r)
	default:
		r.Dst, v = p.addr()
		ports = p.originalPorts(r)
	}
	p.expect("->")
	target := p.redirectTarget(r)
	if v != 0 && target != 0 && v != target {
		p.fail("address family mismatch")
	}
	if r.Filter || ports || p.is("port") {
		p.expect("port")
		r.Fixed = p.accept("=")
		r.TargetPort = p.port()
	}
	p.protocol(r)
	p.commonOptions(r)
	if p.accept("sticky") {
		if r.RoundRobin || r.Split {
			r.Sticky = true
		} else {
			p.warnings = append(p.warnings, "'sticky' for use with round-robin/IP splitting only")
		}
	}
	if p.accept("mssclamp") {
		r.MSSClamp = p.number()
	}
	if p.accept("proxy") {
		p.redirectProxy(r)
	}
	p.tag(r)
	if r.Proto == 0 && !r.TCP && !r.UDP && (r.PortLow != 0 || r.PortHigh != 0 || r.TargetPort != 0) {
		p.setProto(r, protoTCP)
	}
}

func (p *parser) redirectFrom(r *Rule) int {
	r.NotSrc = p.accept("!")
	p.expect("from")
	r.Filter = true
	var v, w int
	r.Src, r.SrcPort, v = p.object()
	p.expect("to")
	r.Dst, r.DstPort, w = p.object()
	if v != 0 && w != 0 && v != w {
		p.fail("address family mismatch")
	}
	r.PortLow = r.DstPort.Low
	return v
}

// originalPorts reads port P, port P-Q or port P:Q.
func (p *parser) originalPorts(r *Rule) bool {
	if !p.accept("port") {
		return false
	}
	r.PortLow = p.port()
	r.PortHigh = r.PortLow
	if p.accept("-") || p.accept(":") {
		r.PortHigh = p.port()
	}
	return true
}

func (p *parser) redirectTarget(r *Rule) int {
	a, v := p.hostname()
	if v == 0 {
		v = p.version
	}
	switch {
	case p.accept("/"):
		n := p.number()
		if v == 0 && (n == 0 || n == 32) {
			v = 4
		}
		if !a.IsUnspecified() || n != 0 && int(n) != a.BitLen() {
			p.fail("Invalid mask for dip")
		}
		p.version = v
		r.Target = Net{a, lengthMask(a, int(n))}
	case p.accept(","):
		b, w := p.hostname()
		if v != w {
			p.fail("address family mismatch")
		}
		r.Target, r.Target2, r.Split = Net{a, lengthMask(a, a.BitLen())}, b, true
	default:
		r.Target = Net{a, lengthMask(a, a.BitLen())}
	}
	return v
}

// redirectProxy reads the label, or the longer form of map rules.
func (p *parser) redirectProxy(r *Rule) {
	if p.is("port") {
		p.proxy(r)
		r.PortLow, r.PortHigh, r.TargetPort = r.DstPort.Low, r.DstPort.Low, r.DstPort.Low
		return
	}
	r.Proxy = p.word()
	r.DstPort.Low = r.TargetPort
}
