package zfs

import (
	"fmt"
	"io"
	"strings"
)

// subcommand is one row of command_table in zfs_main.c.
type subcommand struct {
	run      func(r *run, args []string) int // nil: refused
	unlocked bool                            // it takes the model's lock itself
}

// order is that of the general usage text; "" is an empty line.
var order = [...]string{
	"create", "destroy", "", "snapshot", "rollback", "clone", "promote", "rename", "bookmark", "program", "",
	"list", "", "set", "get", "inherit", "upgrade", "userspace", "groupspace", "",
	"mount", "unmount", "share", "unshare", "", "send", "receive", "", "allow", "", "unallow", "",
	"hold", "holds", "release", "diff", "remap", "load-key", "unload-key", "change-key",
}

// printUsage prints the usage of the subcommand, or of all.
func (r *run) printUsage(w io.Writer) {
	var b strings.Builder
	if r.cmd == "" {
		b.WriteString("usage: zfs command args ...\nwhere 'command' is one of the following:\n\n")
		for _, name := range order {
			if name == "" {
				b.WriteString("\n")
				continue
			}
			b.WriteString(subcommandUsage[name])
		}
		b.WriteString("\nEach dataset is of the form: pool/[dataset/]*dataset[@name]\n")
	} else {
		b.WriteString("usage:\n" + subcommandUsage[r.cmd])
	}
	switch r.cmd {
	case "set", "get", "inherit", "list":
		usageOfProperties(&b)
	default:
		b.WriteString("\nFor the property list, run: zfs set|get\n\nFor the delegated permission list, run: zfs allow|unallow\n")
	}
	_, _ = io.WriteString(w, b.String()) // the reader may be gone
}

func usageOfProperties(b *strings.Builder) {
	b.WriteString("\nThe following properties are supported:\n")
	fmt.Fprintf(b, "\n\t%-14s %s  %s   %s\n\n", "PROPERTY", "EDIT", "INHERIT", "VALUES")
	for _, p := range sortedProperties() {
		edit, inherit := "YES    ", "   NO   "
		if p.change == readOnly {
			edit = " NO    "
		}
		if p.change == inheritable || p.change == atCreation {
			inherit = "  YES   "
		}
		fmt.Fprintf(b, "\t%-15s %s%s%s\n", p.name, edit, inherit, p.values)
	}
	for _, row := range [][2]string{
		{"userused@...", " NO       NO   <size>"}, {"groupused@...", " NO       NO   <size>"},
		{"userquota@...", "YES       NO   <size> | none"}, {"groupquota@...", "YES       NO   <size> | none"},
		{"written@<snap>", " NO       NO   <size>"},
	} {
		fmt.Fprintf(b, "\t%-15s %s\n", row[0], row[1])
	}
	b.WriteString("\nSizes are specified in bytes with standard units such as K, M, G, etc.\n" +
		"\nUser-defined properties can be specified by using a name containing a colon (:).\n" +
		"\nThe {user|group}{used|quota}@ properties must be appended with\na user or group specifier of one of these forms:\n" +
		"    POSIX name      (eg: \"matt\")\n    POSIX id        (eg: \"126829\")\n" +
		"    SMB name@domain (eg: \"matt@sun\")\n    SMB SID         (eg: \"S-1-234-567-89\")\n")
}
