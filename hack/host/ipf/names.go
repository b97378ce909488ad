package ipf

import "strconv"

// protocols is the part of /etc/protocols that rules use.
var protocols = []struct {
	number int
	name   string
}{
	{0, "ip"}, {1, "icmp"}, {2, "igmp"}, {4, "ipip"}, {6, "tcp"}, {17, "udp"}, {41, "ipv6"}, {47, "gre"}, {50, "esp"}, {51, "ah"},
	{58, "ipv6-icmp"}, {89, "ospf"}, {132, "sctp"},
}

func protoName(n int) string {
	for _, p := range protocols {
		if p.number == n {
			return p.name
		}
	}
	return strconv.Itoa(n)
}

// protoNumber is getproto(): -1 for a name that is unknown.
func protoNumber(name string) int {
	if n, err := strconv.Atoi(name); err == nil {
		return n
	}
	for _, p := range protocols {
		if p.name == name {
			return p.number
		}
	}
	return -1
}

// services is a part of /etc/services.
var services = []struct {
	port     uint16
	name     string
	tcp, udp bool
}{
	{7, "echo", true, true}, {9, "discard", true, true}, {13, "daytime", true, true}, {20, "ftp-data", true, false}, {21, "ftp", true, false},
	{22, "ssh", true, false}, {23, "telnet", true, false}, {25, "smtp", true, false}, {37, "time", true, true}, {53, "domain", true, true},
	{67, "bootps", false, true}, {68, "bootpc", false, true}, {69, "tftp", false, true}, {79, "finger", true, false}, {80, "http", true, true},
	{88, "kerberos", true, true}, {110, "pop3", true, false}, {111, "sunrpc", true, true}, {119, "nntp", true, false}, {123, "ntp", true, true},
	{143, "imap", true, false}, {161, "snmp", false, true}, {179, "bgp", true, false}, {389, "ldap", true, true}, {443, "https", true, true},
	{514, "syslog", false, true}, {636, "ldaps", true, true}, {993, "imaps", true, false}, {995, "pop3s", true, false}, {2049, "nfsd", true, true},
	{3306, "mysql", true, true}, {5432, "postgresql", true, true},
}

// portName is portname(): the service's name for the protocol, if it has one.
func portName(proto int, port uint16, numeric bool) string {
	if !numeric {
		for _, s := range services {
			if s.port == port && (proto == 6 && s.tcp || proto == 17 && s.udp) {
				return s.name
			}
		}
	}
	return strconv.Itoa(int(port))
}

// servicePort is getport() for a name.
func servicePort(name string) (uint16, bool) {
	for _, s := range services {
		if s.name == name {
			return s.port, true
		}
	}
	return 0, false
}
