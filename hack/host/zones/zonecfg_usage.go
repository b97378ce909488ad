package zones

import (
	"fmt"
	"io"
	"strings"
)

// Parts of zonecfg's usage text.
const (
	helpUsage = 1 << iota
	helpCommands
	helpSyntax
	helpNetAddr
	helpResources
	helpProps
	helpMeta
)

// commandHelp is the short usage of each command, in zonecfg's order.
var commandHelp = []struct{ name, short string }{
	{"add", "add <resource-type>\n\t(global scope)\nadd <property-name> <property-value>\n\t(resource scope)"},
	{"cancel", "cancel"},
	{"clear", "clear <property-name>"},
	{"commit", "commit"},
	{"create", "create [-F] [ -a <path> | -b | -t <template> ]"},
	{"delete", "delete [-F]"},
	{"end", "end"},
	{"exit", "exit [-F]"},
	{"export", "export [-f output-file]"},
	{"help", "help [commands] [syntax] [usage] [<command-name>]"},
	{"info", "info [<resource-type> [property-name=property-value]*]"},
	{"remove", "remove [-F] <resource-type> [ <property-name>=<property-value> ]*\n" +
		"\t(global scope)\nremove <property-name> <property-value>\n\t(resource scope)"},
	{"revert", "revert [-F]"},
	{"select", "select <resource-type> { <property-name>=<property-value> }"},
	{"set", "set <property-name>=<property-value>"},
	{"verify", "verify"},
}

func shortHelp(name string) string {
	for _, h := range commandHelp {
		if h.name == name {
			return h.short
		}
	}
	return name
}

// usage prints the wanted parts of zonecfg's usage text. The explanations that
// `help` adds to each command are left out.
func (s *session) usage(w io.Writer, flags int) {
	var b strings.Builder
	if flags&helpMeta != 0 {
		b.WriteString("More help is available for the following:\n\n\tcommands ('help commands')\n" +
			"\tsyntax ('help syntax')\n\tusage ('help usage')\n\n" +
			"You may also obtain help on any command by typing 'help <command-name>.'\n")
	}
	if flags&helpUsage != 0 {
		b.WriteString("usage:\tzonecfg help\n\tzonecfg -z <zone>\t\t\t(interactive)\n" +
			"\tzonecfg -z <zone> <command>\n\tzonecfg -z <zone> -f <command-file>\n")
	}
	if flags&helpCommands != 0 {
		b.WriteString("Commands:\n\n")
		for _, h := range commandHelp {
			b.WriteString(h.short + "\n")
		}
	}
	if flags&helpSyntax != 0 {
		b.WriteString("\n<zone> := [A-Za-z0-9][A-Za-z0-9_.-]*\n" +
			"\t(except the reserved words 'global' and anything starting with 'SUNW')\n")
		fmt.Fprintf(&b, "\tName must be less than %d characters.\n", zoneNameSize)
	}
	if flags&helpNetAddr != 0 {
		b.WriteString("\n<net-addr> :=\t<IPv4-address>[/<IPv4-prefix-length>] |\n" +
			"\t\t<IPv6-address>/<IPv6-prefix-length> |\n\t\t<hostname>[/<IPv4-prefix-length>]\n" +
			"See inet(3C) for IPv4 and IPv6 address syntax.\n<IPv4-prefix-length> := [0-32]\n" +
			"<IPv6-prefix-length> := [0-128]\n<hostname> := [A-Za-z0-9][A-Za-z0-9-.]*\n")
	}
	if flags&helpResources != 0 {
		fmt.Fprintf(&b, "<resource type> := %s |\n\t%s\n\n",
			strings.Join(resourceWords[:5], " | "), strings.Join(resourceWords[5:], " | "))
	}
	if flags&helpProps != 0 {
		s.propertyHelp(&b)
	}
	io.WriteString(w, b.String()) //nolint:errcheck // the reader may be gone
}

func (s *session) propertyHelp(b *strings.Builder) {
	b.WriteString("For resource type ... there are property types ...:\n")
	for _, p := range []string{"zonename", "zonepath", "brand", "autoboot", "bootargs", "pool",
		"limitpriv", "scheduling-class", "ip-type", "hostid", "fs-allowed", "max-lwps",
		"max-processes", "max-shm-memory", "max-shm-ids", "max-msg-ids", "max-sem-ids", "cpu-shares"} {
		fmt.Fprintf(b, "\t(global)\t%s\n", p)
	}
	net, device := "address, allowed-address, physical, defrouter", "match"
	if !s.m.distro.gate() {
		b.WriteString("\t(global)\tzfs-io-priority\n")
		net = "address, allowed-address, global-nic, mac-addr, physical, property, vlan-id defrouter"
		device = "match, property"
	}
	fmt.Fprintf(b, "\tfs\t\tdir, special, raw, type, options\n\tnet\t\t%s\n\tdevice\t\t%s\n", net, device)
	b.WriteString("\trctl\t\tname, value\n\tattr\t\tname, type, value\n\tdataset\t\tname\n" +
		"\tdedicated-cpu\tncpus, importance\n\tcapped-cpu\tncpus\n" +
		"\tcapped-memory\tphysical, swap, locked\n\tadmin\t\tuser, auths\n" +
		"\tsecurity-flags\t\tdefault, lower, upper\n")
}

// shortUsage is printed for bad syntax.
func (s *session) shortUsage(name string) {
	if s.fileMode {
		if s.fileName == "-" {
			s.inv.Errf("syntax error on line %d\n", s.lex.line-1)
		} else {
			s.inv.Errf("syntax error on line %d of %s\n", s.lex.line-1, s.fileName)
		}
	}
	s.inv.Errf("usage:\n%s\n", shortHelp(name))
	s.sawError = true
}

// longUsage is printed for bad meaning.
func (s *session) longUsage(name string) {
	s.inv.Errf("usage:\n%s\n", shortHelp(name))
	s.sawError = true
}

// longerUsage is the answer to `COMMAND -?`. It sets no error.
func (s *session) longerUsage(name string) {
	s.inv.Outf("usage:\n%s\n", shortHelp(name))
	switch name {
	case "add", "info", "remove", "select":
		s.inv.Outf("\n")
		s.usage(s.inv.Stdout, helpResources|helpProps)
	case "clear", "set":
		s.inv.Outf("\n")
		s.usage(s.inv.Stdout, helpProps)
	}
}

// noProperty says that a property does not belong where it was used.
func (s *session) noProperty(property, command string) {
	s.perror(property, zNoPropertyType, true)
	s.longUsage(command)
	s.usage(s.inv.Stderr, helpProps)
}

// noResource says that a resource type has nothing of the kind.
func (s *session) noResource(resource, command string) {
	s.perror(resource, zNoResourceType, true)
	s.longUsage(command)
	s.usage(s.inv.Stderr, helpResources)
}

func (s *session) help(c command) {
	if len(c.args) == 0 {
		s.usage(s.inv.Stdout, helpCommands)
		return
	}
	switch c.args[0] {
	case "usage":
		s.usage(s.inv.Stdout, helpUsage)
	case "commands":
		s.usage(s.inv.Stdout, helpCommands)
	case "syntax":
		s.usage(s.inv.Stdout, helpSyntax|helpResources|helpProps)
	case "-?":
		s.longerUsage("help")
	default:
		for _, h := range commandHelp {
			if h.name == c.args[0] {
				s.longerUsage(h.name)
				return
			}
		}
		s.inv.Errf("Unknown help subject %s.  ", c.args[0])
		s.usage(s.inv.Stderr, helpMeta)
	}
}
