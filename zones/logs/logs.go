// Package logs is the log files of containers: it writes, rotates, reads and
// follows them.
//
// A file has lines in the format of the Kubernetes container runtime
// interface: "TIME STREAM TAG TEXT", where TAG is F for a line that ends here
// and P for a piece of a line that goes on. FILE is the newest; FILE.1 came
// before it, FILE.2 before that.
//
// The writer lives in a zone and the reader outside it, so a reader trusts
// nothing of what it reads: a link is not followed, a device not opened, a line
// without end not kept.
package logs

import (
	"bytes"
	"fmt"
	"time"
)

// Stream is where a line came from.
type Stream string

// The streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// MaxText is the longest text of one line. What is longer is cut into pieces.
const MaxText = 16 << 10

// maxLine bounds a line of a file with everything in it.
const maxLine = MaxText + 256

// Line is one line of a log file.
type Line struct {
	Time    time.Time
	Stream  Stream
	Partial bool // the text goes on in the next line of the same stream
	Text    []byte
}

// timeForm is RFC 3339 with all nine digits, so that lines sort.
const timeForm = "2006-01-02T15:04:05.000000000Z07:00"

// append writes the line to b in the form of the file.
func (l Line) append(b []byte) []byte {
	b = l.Time.UTC().AppendFormat(b, timeForm)
	b = append(b, ' ')
	b = append(b, l.Stream...)
	if l.Partial {
		b = append(b, " P "...)
	} else {
		b = append(b, " F "...)
	}
	b = append(b, l.Text...)
	return append(b, '\n')
}

// ParseLine reads one line of a file, without its newline. The text is part of
// data, not a copy.
func ParseLine(data []byte) (Line, error) {
	stamp, rest, ok1 := bytes.Cut(data, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tag, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 || len(stamp) > 64 {
		return Line{}, fmt.Errorf("logs: not a log line: %.80q", data)
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Line{}, fmt.Errorf("logs: time: %w", err)
	}
	if y := t.UTC().Year(); y < 1970 || y > 9999 {
		return Line{}, fmt.Errorf("logs: the year %d", y)
	}
	l := Line{Time: t, Stream: Stream(stream), Text: text}
	if l.Stream != Stdout && l.Stream != Stderr {
		return Line{}, fmt.Errorf("logs: stream %.16q", stream)
	}
	// Tags may be a list some day; the first is P or F.
	switch first, _, _ := bytes.Cut(tag, []byte(":")); string(first) {
	case "P":
		l.Partial = true
	case "F":
	default:
		return Line{}, fmt.Errorf("logs: tag %.16q", tag)
	}
	return l, nil
}
