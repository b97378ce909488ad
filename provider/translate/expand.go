package translate

import "strings"

// Expand replaces $(NAME) in s by what lookup returns. A name that lookup does
// not know stays as written, and $$ stands for one $, so $$(NAME) is the text
// $(NAME): the rules of env, command and args in a pod.
func Expand(s string, lookup func(string) (string, bool)) string {
	out, _ := expand(s, lookup)
	return out
}

// expand also returns the names that lookup did not know.
func expand(s string, lookup func(string) (string, bool)) (string, []string) {
	var b strings.Builder
	var unknown []string
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String(), unknown
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		switch s[0] {
		case '$':
			b.WriteByte('$')
			s = s[1:]
		case '(':
			end := strings.IndexByte(s, ')')
			if end < 0 {
				b.WriteString("$(")
				s = s[1:]
				continue
			}
			name := s[1:end]
			if v, ok := lookup(name); ok {
				b.WriteString(v)
			} else {
				unknown = append(unknown, name)
				b.WriteString("$(" + name + ")")
			}
			s = s[end+1:]
		default:
			b.WriteByte('$')
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
}
