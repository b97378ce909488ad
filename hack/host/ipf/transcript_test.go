package ipf_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/ipf"
	"reddwarf.io/reddwarf/hack/host/program"
)

// files are the files of the simulated host.
type files map[string]string

func (f files) Open(path string) (io.ReadCloser, error) {
	if text, ok := f[path]; ok {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (f files) Lstat(path string) (fs.FileInfo, error) {
	return nil, &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrNotExist}
}

func run(t testing.TB, m *ipf.Model, line, stdin string) (code int, stdout, stderr string) {
	t.Helper()
	argv := strings.Fields(line)
	var out, errOut bytes.Buffer
	code = m.Commands()[argv[0]](t.Context(), &program.Invocation{Argv: argv, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errOut,
		Files: files{"/etc/ipf/ipnat.conf": "rdr gw0 10.96.0.9/32 port 80 -> 10.244.0.5 port 80 tcp\n"}})
	return code, out.String(), errOut.String()
}

// TestTranscripts replays testdata/COMMAND.txt: `$ command` is run with the
// lines `< ` after it as standard input; then comes what it prints, errors
// marked by `! `, and `? N` is its exit code where that is not 0.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := replay(t, string(data)); got != string(data) {
				t.Errorf("the transcript differs:\n%s", difference(string(data), got))
			}
		})
	}
}

// replay returns the transcript as it is now.
func replay(t *testing.T, text string) string {
	m := ipf.New(ipf.Config{Enabled: true})
	var out strings.Builder
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], "# ") {
			out.WriteString(lines[i] + "\n")
		}
		if !strings.HasPrefix(lines[i], "$ ") {
			continue
		}
		out.WriteString(lines[i] + "\n")
		command, stdin := lines[i][2:], ""
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "<") {
			i++
			out.WriteString(lines[i] + "\n")
			stdin += strings.TrimPrefix(strings.TrimPrefix(lines[i], "<"), " ") + "\n"
		}
		code, stdout, stderr := run(t, m, command, stdin)
		out.WriteString(stdout)
		for l := range strings.Lines(stderr) {
			out.WriteString("! " + l)
		}
		if code != 0 {
			out.WriteString("? " + strconv.Itoa(code) + "\n")
		}
	}
	return out.String()
}

func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			return "line " + strconv.Itoa(i+1) + "\n--- got\n" + strings.Join(g[min(i, len(g)):min(i+6, len(g))], "\n") +
				"\n--- want\n" + strings.Join(w[i:min(i+6, len(w))], "\n")
		}
	}
	return "there is more:\n" + strings.Join(g[len(w):], "\n")
}

// TestRecord writes the transcripts anew for review.
func TestRecord(t *testing.T) {
	if os.Getenv("IPF_RECORD") == "" {
		t.Skip("IPF_RECORD is not set")
	}
	names, _ := filepath.Glob("testdata/*.txt")
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(replay(t, string(data))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var goodRules = []string{
	"rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.5 port 8080 tcp round-robin",
	"rdr gw0 10.96.0.1/32 port 53 -> 10.244.0.5 port 53 udp round-robin age 30/30",
	"rdr gw0 10.96.0.1/32 port 53 -> 10.244.0.5 port 53 tcp/udp",
	"rdr gw0 10.96.0.1/32 port 1000-1010 -> 10.244.0.5,10.244.0.6 port 2000 tcp",
	"rdr gw0 10.96.0.1/32 port 1000-1010 -> 10.244.0.5 port = 2000 tcp",
	"rdr gw0 10.96.0.1/32 -> 10.244.0.5 icmp",
	"rdr gw0 10.96.0.1/32 -> 10.244.0.5 ip",
	"rdr gw0 from 10.244.0.9/32 to 10.96.0.1/32 port = 80 -> 10.244.0.5 port 8080 tcp",
	"rdr gw0 ! from 10.244.0.0/24 to 10.96.0.1/32 port = 80 -> 10.244.0.5 port 8080 tcp",
	"rdr gw0 from 0.0.0.3/0.0.0.3 to 10.96.0.1/32 port = 80 -> 10.244.0.5 port 8080 tcp",
	"rdr gw0 from any port > 1023 to 10.96.0.1/32 port 80 >< 90 -> 10.244.0.5 port 8080 tcp tag web",
	"map gw0 from 10.244.0.0/16 to 10.244.0.0/16 -> 10.244.0.1/32 portmap tcp/udp 20000:40000",
	"map net0 from 10.244.0.0/24 to 10.244.0.0/16 -> 0.0.0.0/0",
	"map net0 from any to 10.244.0.0/16 -> 198.51.100.11/32 portmap tcp/udp auto",
	"map net0 from 10.244.0.0/24 ! to 10.244.0.0/16 -> 198.51.100.11/32 portmap tcp/udp 20000:40000",
	"map net0 10.244.0.0/24 -> 0.0.0.0/32",
	"map net0 10.244.0.0/24 -> 198.51.100.0/28 tcp",
	"map net0 10.244.0.0/24 -> range 198.51.100.20-198.51.100.30",
	"map net0 10.244.0.0/24 -> 198.51.100.11/32 icmpidmap icmp 1:100",
	"rdr gw0 2001:db8::1/128 port 80 -> 2001:db8::2 port 80 tcp",
	"map-block net0 10.0.0.0/8 -> 198.51.100.0/24 ports auto",
	"bimap net0 10.0.0.5/32 -> 198.51.100.12/32",
}

func TestParseOfPrintIsTheRule(t *testing.T) {
	for _, text := range goodRules {
		r, err := ipf.ParseRule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		strict(t, text, r)
	}
}

func strict(t *testing.T, text string, r ipf.Rule) {
	t.Helper()
	if got := r.String(); got != text {
		t.Errorf("printed as\n%s, want\n%s", got, text)
	}
	if again, err := ipf.ParseRule(r.String()); err != nil || again != r {
		t.Errorf("%s\nparsed again (%v):\n%+v, want\n%+v", r, err, again, r)
	}
}

func TestSyntaxErrors(t *testing.T) {
	for _, text := range []string{
		"rdr gw0 10.96.0.1/32 port = 80 -> 10.244.0.5 port 8080 tcp",
		"rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.5,10.244.0.6,10.244.0.7 port 80 tcp",
		"rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.5 port 80 tcp sticky round-robin",
		"rdr gw0 from ! 10.0.0.0/8 to 10.96.0.1/32 port = 80 -> 10.244.0.5 port 80 tcp",
		"rdr gw0 from any to 10.96.0.1/32 port 80 -> 10.244.0.5 port 80 tcp",
		"rdr gw0 from any to 10.96.0.1/32 port = 80 -> 10.244.0.5 tcp",
		"map gw0 from 10.0.0.0/8 to ! 10.0.0.0/8 -> 0/32",
		"map gw0 ! from 10.0.0.0/8 to 10.0.0.0/8 -> 0/32",
		"map gw0 10.0.0.0/8 -> 1.2.3.4-1.2.3.9",
		"rdr 10.96.0.1/32 port 80 -> 10.244.0.5 port 80 tcp",
		"rdr gw0 10.96.0.1/33 port 80 -> 10.244.0.5 port 80 tcp",
		"rdr gw0 10.96.0.256/32 port 80 -> 10.244.0.5 port 80 tcp",
		"rdr gw0 10.96.0.1/32 port 65536 -> 10.244.0.5 port 80 tcp",
		"rdr gw0 web/32 port 80 -> 10.244.0.5 port 80 tcp",
		"rdr gw0 10.96.0.1/32 port 80 -> 2001:db8::1 port 80 tcp",
	} {
		if r, err := ipf.ParseRule(text); err == nil {
			t.Errorf("%s was read as %s", text, r)
		}
	}
}

func TestIdentityIsSemantic(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"rdr gw0 10.96.0.1/32 port 80 -> 10.244.0.5 port 8080 tcp", "rdr  gw0\n10.96.0.1 port http -> 10.244.0.5 port 8080", true},
		{"map net0 10.0.0.0/8 -> 0/32", "map net0 10.1.2.3/255.0.0.0 -> 0.0.0.0/32", true},
		{"rdr gw0 10.0.0.1/32 port 53 -> 10.0.0.2 port 53 tcpudp", "rdr gw0 10.0.0.1/32 port 53 -> 10.0.0.2 port 53 tcp/udp", true},
		{"rdr gw0 10.0.0.1/32 port 53 -> 10.0.0.2 port 53 udp", "rdr gw0 10.0.0.1/32 port 53 -> 10.0.0.2 port 53 udp age 30/30", false},
		{"rdr gw0 10.0.0.1/32 port 53 -> 10.0.0.2 port 53 udp", "rdr gw0 10.0.0.1/32 port 53 -> 10.0.0.2 port 53 udp round-robin", false},
	} {
		a, errA := ipf.ParseRule(tt.a)
		b, errB := ipf.ParseRule(tt.b)
		if errA != nil || errB != nil || (a == b) != tt.same {
			t.Errorf("%s and %s: same is %v, want %v (%v, %v)", tt.a, tt.b, a == b, tt.same, errA, errB)
		}
	}
}

// FuzzIpnat wants any text to be parsed or refused, and what is printed to
// be read back as the same rule. What ipnat prints where its own grammar has
// no place for it, or not at all, is excepted.
func FuzzIpnat(f *testing.F) {
	for _, r := range goodRules {
		f.Add(r)
	}
	f.Add("a=10.0.0.1;\nrdr gw0 $a/32 port 80 -> ${a} port 80 # comment")
	f.Fuzz(func(t *testing.T, text string) {
		var rules []ipf.Rule
		if _, err := ipf.ParseRules(text, func(r ipf.Rule, _ int) error { rules = append(rules, r); return nil }); err != nil {
			return
		}
		for _, r := range rules {
			lost := r.Kind != ipf.Redirect && (r.RoundRobin || r.Sequential || r.Tag != "" || r.Frag || r.AgeForward|r.AgeBackward|r.MSSClamp != 0 || r.ICMPQuery)
			// A from/to redirect without ports prints none, and cannot be read then.
			lost = lost || r.Kind == ipf.Redirect && r.Filter && !r.TCP && !r.UDP
			if lost || r.Proxy != "" || r.Supported() != nil {
				continue
			}
			again, err := ipf.ParseRule(r.String())
			if err != nil {
				t.Errorf("%q prints as %q: %v", text, r, err)
			} else if again != r && !sameMeaning(again, r) {
				t.Errorf("%q prints as %q:\n%+v\n%+v", text, r, r, again)
			}
		}
	})
}

// sameMeaning ignores what cannot be seen in the canonical text: port numbers
// without an operator or protocol, and any against 0.0.0.0/0.
func sameMeaning(a, b ipf.Rule) bool { return a.String() == b.String() }
