package translate

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Files are those of a pod's volumes that its containers' environments come
// from. Only the running zone has them.
type Files interface {
	File(volume, path string) ([]byte, error)
}

// NeedsFiles reports whether the environment of c comes from a file of a volume,
// so that it cannot be known before the zone runs and the containers before c
// are done.
func NeedsFiles(c *corev1.Container) bool {
	for _, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.FileKeyRef != nil {
			return true
		}
	}
	return false
}

// fileKey resolves a variable from a file. As in a kubelet, one without a value
// is as good as missing, and only that is what optional forgives.
func (e *environment) fileKey(ref *corev1.FileKeySelector) (string, bool, error) {
	if e.files == nil {
		return "", false, fmt.Errorf("file %s of volume %s: the pod's zone does not run yet", ref.Path, ref.VolumeName)
	}
	data, err := e.files.File(ref.VolumeName, ref.Path)
	if err != nil {
		return "", false, fmt.Errorf("couldn't read env file %s of volume %s: %w", ref.Path, ref.VolumeName, err)
	}
	value, err := envFileValue(string(data), ref.Key)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("couldn't parse env file %s of volume %s: %w", ref.Path, ref.VolumeName, err)
	case value == "" && !isTrue(ref.Optional):
		return "", false, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, ref.Path)
	}
	return value, value != "", nil
}

// envFileValue returns the value of a key in a file of lines NAME='VALUE', the
// first if there are several; "" if there is none. A value ends at the next
// quote, on whatever line. After it, as before a name, there may be blanks, and
// a comment. What comes after the key's value is not looked at.
//
// A blank between = and the value makes the value empty, as in a shell.
func envFileValue(text, key string) (string, error) {
	lines := strings.Split(text, "\n")
	for n := 0; n < len(lines); n++ {
		line := strings.TrimLeft(strings.TrimSuffix(lines[n], "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, ok := strings.Cut(line, "=")
		fault := func(what string) error { return fmt.Errorf("line %d: %s", n+1, what) }
		switch {
		case !ok:
			return "", fault("no '='")
		case name == "" || strings.TrimRight(name, " \t") != name:
			return "", fault("no name before '='")
		case rest != "" && strings.ContainsRune(" \t", rune(rest[0])):
			if name == key {
				return "", nil
			}
			continue
		case !strings.HasPrefix(rest, "'"):
			return "", fault("the value is not in single quotes")
		}
		value, last, err := quoted(lines[n:], rest[1:])
		if err != nil {
			return "", fault(err.Error())
		}
		if name == key {
			return value, nil
		}
		n += last
	}
	return "", nil
}

// quoted returns what is up to the next quote. lines begin with the one that
// first is the end of; last is how many more belong to the value.
func quoted(lines []string, first string) (value string, last int, err error) {
	rest := strings.TrimSuffix(first, "\r")
	var b strings.Builder
	for {
		inside, after, ok := strings.Cut(rest, "'")
		b.WriteString(inside)
		if ok {
			if after = strings.TrimLeft(after, " \t"); after != "" && after[0] != '#' {
				return "", 0, errors.New("something follows the closing quote")
			}
			return b.String(), last, nil
		}
		b.WriteByte('\n')
		if last++; last == len(lines) || last == len(lines)-1 && lines[last] == "" {
			return "", 0, errors.New("a quote is not closed")
		}
		rest = strings.TrimSuffix(lines[last], "\r")
	}
}
