package host

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// maxTraced bounds each text of a trace record.
const maxTraced = 1 << 20

// Record is one line of the trace: a command that has ended.
type Record struct {
	Time   time.Time `json:"time"` // of the start
	Argv   []string  `json:"argv"`
	Stdin  string    `json:"stdin,omitempty"` // what the command read
	File   string    `json:"file,omitempty"`  // the content of its -f FILE
	Exit   int       `json:"exit"`
	MS     float64   `json:"ms"`
	Stderr string    `json:"stderr,omitempty"`
	Stdout int64     `json:"stdout"` // bytes; -1 where they were not counted
}

// tracer writes records as JSON lines.
type tracer struct {
	mu sync.Mutex
	w  io.Writer // nil: no trace
}

func (t *tracer) to(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.w = w
}

func (t *tracer) on() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.w != nil
}

// write writes r with one call of Write, so that lines of several hosts can
// share a file that is open for appending.
func (t *tracer) write(r Record) {
	line, err := json.Marshal(r)
	if err != nil {
		return // of strings and numbers only: cannot fail
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w != nil {
		_, _ = t.w.Write(append(line, '\n')) // a full disk must not change what commands do
	}
}

// watch makes inv report what goes through it and returns the function that
// completes the record. zlogin's streams belong to the program in the zone:
// they stay what they are, files, and are not looked at.
func watch(inv *program.Invocation, start time.Time) func(exit int, end time.Time) Record {
	r := Record{Time: start, Argv: slices.Clone(inv.Argv), File: fileArgument(inv), Stdout: -1}
	if inv.Argv[0] == "zlogin" {
		return func(exit int, end time.Time) Record { return r.ended(exit, end) }
	}
	var in, errOut keeper
	var out counter
	if inv.Argv[0] != "zfs" { // whose input is a stream of any length
		inv.Stdin = io.TeeReader(inv.Stdin, &in)
	}
	inv.Stdout = io.MultiWriter(inv.Stdout, &out)
	inv.Stderr = io.MultiWriter(inv.Stderr, &errOut)
	return func(exit int, end time.Time) Record {
		r.Stdin, r.Stderr, r.Stdout = in.String(), errOut.String(), out.n
		return r.ended(exit, end)
	}
}

func (r Record) ended(exit int, end time.Time) Record {
	r.Exit = exit
	r.MS = float64(end.Sub(r.Time).Microseconds()) / 1000
	return r
}

// fileArgument returns the content of FILE of an option -f FILE.
func fileArgument(inv *program.Invocation) string {
	i := slices.Index(inv.Argv, "-f")
	if i < 0 || i+1 >= len(inv.Argv) || inv.Argv[i+1] == "-" || inv.Files == nil {
		return ""
	}
	st, err := inv.Files.Lstat(inv.Argv[i+1])
	if err != nil || !st.Mode().IsRegular() {
		return ""
	}
	f, err := inv.Files.Open(inv.Argv[i+1])
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxTraced))
	if err != nil {
		return ""
	}
	return string(b)
}

// keeper keeps the first maxTraced bytes. Commands may write from several
// goroutines.
type keeper struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (k *keeper) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.buf.Write(p[:min(len(p), maxTraced-k.buf.Len())])
	return len(p), nil
}

func (k *keeper) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.buf.String()
}

// counter counts bytes.
type counter struct {
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
