package datalink_test

import (
	"bytes"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/hack/host/datalink"
	"reddwarf.io/reddwarf/hack/host/program"
)

// newModel returns a host with one network card.
func newModel(distro string) *datalink.Model {
	return datalink.New(datalink.Config{Distro: distro, Uplinks: []datalink.Physical{
		{Name: "net0", MAC: net.HardwareAddr{0x52, 0x54, 0x00, 0x00, 0x00, 0x0b}},
	}})
}

// run runs one command line; words are separated by blanks.
func run(t *testing.T, m *datalink.Model, line string) (code int, stdout, stderr string) {
	t.Helper()
	argv := strings.Fields(line)
	command, ok := m.Commands()[argv[0]]
	if !ok {
		t.Fatalf("no command %s", argv[0])
	}
	var out, errOut bytes.Buffer
	code = command(t.Context(), &program.Invocation{Argv: argv, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errOut, Files: noFiles{}})
	return code, out.String(), errOut.String()
}

type noFiles struct{}

func (noFiles) Open(string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }
func (noFiles) Lstat(string) (fs.FileInfo, error)  { return nil, fs.ErrNotExist }

// TestTranscripts replays testdata/COMMAND.txt: a line `$ command` is run, what
// follows is what it prints, errors marked by `! `, and `? N` is its exit
// code where that is not 0. `# distro NAME` begins with a new host of that
// distribution, `# reboot` restarts the host, other `# ` lines are comments.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { replay(t, file) })
	}
}

func replay(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := newModel("omnios")
	for _, s := range steps(string(data)) {
		switch {
		case strings.HasPrefix(s.command, "distro "):
			m = newModel(strings.TrimPrefix(s.command, "distro "))
			continue
		case s.command == "reboot":
			if err := m.Reboot(t.Context()); err != nil {
				t.Fatal(err)
			}
			continue
		}
		code, out, errOut := run(t, m, s.command)
		got := out
		for l := range strings.Lines(errOut) {
			got += "! " + l
		}
		if code != 0 {
			got += "? " + strconv.Itoa(code) + "\n"
		}
		if got != s.want {
			t.Errorf("line %d: %s\n--- got\n%s--- want\n%s", s.line, s.command, got, s.want)
		}
	}
}

// step is one command of a transcript.
type step struct {
	line    int
	command string
	want    string
}

func steps(text string) []step {
	var out []step
	n := 0
	for line := range strings.Lines(text) {
		n++
		command := strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "$ "), strings.HasPrefix(line, "# distro "), line == "# reboot\n":
			out = append(out, step{line: n, command: command[2:]})
		case strings.HasPrefix(line, "# "):
		case len(out) > 0:
			out[len(out)-1].want += line
		}
	}
	return out
}

func TestSaveAndLoad(t *testing.T) {
	m := newModel("omnios")
	for _, c := range []string{
		"dladm create-etherstub stub0", "dladm create-vnic -t -l stub0 rdw1", "dladm create-vnic -l stub0 gw0",
		"ipadm create-addr -T static -a 10.0.0.1/24 gw0/v4", "route -p add 10.1.0.0/16 10.0.0.2", "dladm set-linkprop -t -p maxbw=100M rdw1",
		"routeadm -u -e ipv4-forwarding",
	} {
		if code, _, errOut := run(t, m, c); code != 0 {
			t.Fatalf("%s: %s", c, errOut)
		}
	}
	saved, err := m.Save()
	if err != nil {
		t.Fatal(err)
	}
	other := newModel("omnios")
	if err := other.Load(saved); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"dladm show-link", "dladm show-vnic", "dladm show-linkprop rdw1", "ipadm show-addr", "ipadm show-prop",
		"ipadm show-ifprop", "route -p show", "route -n get 10.1.2.3", "routeadm"} {
		_, a, _ := run(t, m, c)
		_, b, _ := run(t, other, c)
		if a != b {
			t.Errorf("%s after loading:\n%s\nwant:\n%s", c, b, a)
		}
	}
	if again, err := other.Save(); err != nil || !bytes.Equal(saved, again) {
		t.Errorf("saved again (%v):\n%s", err, again)
	}
}

// FuzzDladm and FuzzIpadm want any arguments to end with 0 or 1, without a
// crash, and without a link name that libdladm would refuse.
func FuzzDladm(f *testing.F) {
	for _, s := range []string{"create-vnic -t -l stub0 -m 2:8:20:1:2:3 -p maxbw=1G,mtu=1400 v1", "show-link -p -o link,over", "show-linkprop -c -o value -p mtu net0",
		"set-linkprop -t -p allowed-ips=10.0.0.1,fe80::1/64 net0", "create-etherstub --temporary a0", "delete-vnic -R / x0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		m := newModel("omnios")
		run(t, m, "dladm create-etherstub -t stub0")
		checkRun(t, m, "dladm", line)
		_, out, _ := run(t, m, "dladm show-link -p -o link")
		for name := range strings.Lines(out) {
			name = strings.TrimSuffix(name, "\n")
			if name == "" || len(name) > 31 || strings.ContainsAny(name, "-:/ \t") || name[len(name)-1] < '0' || name[len(name)-1] > '9' {
				t.Errorf("link %q", name)
			}
		}
	})
}

func FuzzIpadm(f *testing.F) {
	for _, s := range []string{"create-addr -T static -a local=10.0.0.1/24 net0/v4", "show-addr -p -o addr,addrobj net0/", "set-prop -p forwarding=on ipv4",
		"set-ifprop -t -p forwarding=on -m ipv4 net0", "create-if -t net0", "show-prop -c -o current -p forwarding ipv4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) { checkRun(t, newModel("smartos"), "ipadm", line) })
}

// FuzzRoute wants any arguments to end with an error number that route has.
func FuzzRoute(f *testing.F) {
	for _, s := range []string{"-n add 10.0.0.0/8 10.1.1.1 -ifp net0", "-p show", "-n get default", "add -inet6 2001:db8::/32 fe80::1", "delete host 1.2.3.4 5.6.7.8 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		m := newModel("omnios")
		run(t, m, "ipadm create-addr -T static -a 10.1.1.2/24 net0/v4")
		code, _, _ := run(t, m, "route "+line)
		switch code {
		case 0, 1, 3, 17, 22, 128:
		default:
			t.Errorf("exit %d", code)
		}
	})
}

func checkRun(t *testing.T, m *datalink.Model, command, line string) {
	t.Helper()
	code, _, errOut := run(t, m, command+" "+line)
	if code != 0 && code != 1 || code == 1 && errOut == "" && !strings.Contains(line, "show-") {
		t.Errorf("exit %d, stderr %q", code, errOut)
	}
}
