package datalink

import (
	"fmt"
	"strings"

	"reddwarf.io/reddwarf/hack/host/program"
)

// field is one column that a command can print.
type field struct {
	name  string
	width int
}

// table prints rows as libofmt does.
type table struct {
	inv            *program.Invocation
	fields         []field
	parsable, wrap bool
	overflow       int
	rows           int
}

// screenRows is after how many rows libofmt repeats the header where standard
// output is no terminal.
const screenRows = 24

// newTable chooses the columns of spec out of all; "" and "all" mean every
// one. Unknown columns are fatal in parsable mode and warned of else, in the
// name of prog. It returns nil when the command has to exit with 1.
func newTable(inv *program.Invocation, prog, spec string, all []field, parsable, wrap bool) *table {
	t := &table{inv: inv, parsable: parsable, wrap: wrap && !parsable}
	every := strings.EqualFold(spec, "all")
	if parsable && (spec == "" || every) {
		what := "output fields must be specified in parsable mode"
		if every {
			what = "output field `all' invalid in parsable mode"
		}
		inv.Errf("%s: %s\n", prog, what)
		return nil
	}
	if spec == "" || every {
		t.fields = all
		return t
	}
	var unknown []string
	for name := range strings.SplitSeq(spec, ",") {
		if f, ok := findField(all, name); ok {
			t.fields = append(t.fields, f)
		} else {
			unknown = append(unknown, name)
		}
	}
	return t.checked(prog, unknown)
}

func (t *table) checked(prog string, unknown []string) *table {
	if len(t.fields) == 0 {
		t.inv.Errf("%s: no valid output fields\n", prog)
		return nil
	}
	if len(unknown) == 0 {
		return t
	}
	plural := ""
	if len(unknown) > 1 {
		plural = "s"
	}
	list := " `" + strings.Join(unknown, "' `") + "'"
	if t.parsable {
		t.inv.Errf("%s: unknown output field%s:%s\n", prog, plural, list)
		return nil
	}
	t.inv.Errf("%s: warning: ignoring unknown output field%s:%s\n", prog, plural, list)
	return t
}

func findField(all []field, name string) (field, bool) {
	for _, f := range all {
		if strings.EqualFold(f.name, name) {
			return f, true
		}
	}
	return field{}, false
}

// row prints one row; value gives what a column shows.
func (t *table) row(value func(column string) string) {
	if t.rows%screenRows == 0 && !t.parsable {
		t.rows++
		t.line(func(i int) string { return t.fields[i].name })
	}
	t.rows++
	if !t.wrap {
		t.line(func(i int) string { return t.shown(value(t.fields[i].name)) })
		return
	}
	rest := make([][]string, len(t.fields))
	for i, f := range t.fields {
		if v := value(f.name); v != "" {
			rest[i] = strings.Split(v, ",")
		}
	}
	for first := true; first || anyLeft(rest); first = false {
		t.line(func(i int) string {
			v := fitWidth(&rest[i], t.fields[i].width)
			if first {
				v = t.shown(v)
			}
			return v
		})
	}
}

func anyLeft(rest [][]string) bool {
	for _, r := range rest {
		if len(r) > 0 {
			return true
		}
	}
	return false
}

// fitWidth takes as many values off rest as fit into width, at least one.
func fitWidth(rest *[]string, width int) string {
	var b strings.Builder
	for i, v := range *rest {
		b.WriteString(v)
		if i+1 == len(*rest) {
			*rest = nil
			return b.String()
		}
		b.WriteByte(',')
		if b.Len()+len((*rest)[i+1]) > width {
			*rest = (*rest)[i+1:]
			return b.String()
		}
	}
	return b.String()
}

func (t *table) shown(v string) string {
	if v == "" && !t.parsable {
		return "--"
	}
	return v
}

func (t *table) line(value func(i int) string) {
	var b strings.Builder
	for i := range t.fields {
		t.cell(&b, i, value(i))
	}
	t.inv.Outf("%s\n", b.String())
}

// escape guards what separates fields in parsable output.
var escape = strings.NewReplacer(":", `\:`, `\`, `\\`)

func (t *table) cell(b *strings.Builder, i int, v string) {
	last := i+1 == len(t.fields)
	switch {
	case t.parsable && len(t.fields) == 1:
		b.WriteString(v)
	case t.parsable:
		b.WriteString(escape.Replace(v))
		if !last {
			b.WriteByte(':')
		}
	case last:
		b.WriteString(v)
		t.overflow = 0
	case len(v)+t.overflow >= t.fields[i].width:
		t.overflow += len(v) - t.fields[i].width + 1
		b.WriteString(v + " ")
	default:
		width := t.fields[i].width
		if t.overflow > 0 {
			compress := min(t.overflow, width-len(v))
			t.overflow -= compress
			width -= compress
		}
		fmt.Fprintf(b, "%-*s", width, v)
	}
}
