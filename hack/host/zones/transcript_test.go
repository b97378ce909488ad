package zones

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTranscripts replays testdata/*.txt. A line `$ command` is run; what
// follows is what it prints, errors marked by `! `, and `? N` is its exit code
// where that is not 0. `! ...` stands for all further errors. Lines `< text`
// right after a command are its standard input. Lines with `# ` are comments,
// except these:
//
//	# distro NAME         begin with a new host of that distribution
//	# file PATH           the lines `| text` that follow are a file
//	# path PATH MODE UID  what zoneadm finds at PATH; MODE has d, l or - first
//	# gone PATH           there is nothing at PATH
//	# link PATH TARGET    a symbolic link
//	# exit ZONE STATUS    the zone's init ends, and zoneadmd deals with it
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { replay(t, file) })
	}
}

// transcript is a host that a transcript is replayed on.
type transcript struct {
	*host
	exits map[int]func(int)
}

func newTranscript(t *testing.T, d Distro) *transcript {
	now := time.Unix(1700000000, 5000)
	tr := &transcript{exits: map[int]func(int){}}
	tr.host = newHost(t, d, func(c *Config) {
		c.Clock = func() time.Time { now = now.Add(time.Hour); return now }
	})
	tr.backend.OnBoot = func(id int, _ []string, exit func(int)) error {
		tr.exits[id] = exit
		return nil
	}
	return tr
}

func replay(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tr := newTranscript(t, OmniOS)
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for i := 0; i < len(lines); {
		at := i + 1
		line := lines[i]
		i++
		take := func(prefix string) (block []string) {
			for ; i < len(lines) && strings.HasPrefix(lines[i]+" ", prefix); i++ {
				block = append(block, strings.TrimPrefix(lines[i]+" ", prefix))
			}
			return block
		}
		switch {
		case strings.HasPrefix(line, "# distro "):
			tr = newTranscript(t, Distro(line[9:]))
		case strings.HasPrefix(line, "# file "):
			text := ""
			for _, l := range take("| ") {
				text += strings.TrimSuffix(l, " ") + "\n"
			}
			tr.file(line[7:], text)
		case strings.HasPrefix(line, "# "):
			tr.directive(t, strings.Fields(line[2:]))
		case strings.HasPrefix(line, "$ "):
			stdin := ""
			for _, l := range take("< ") {
				stdin += strings.TrimSuffix(l, " ") + "\n"
			}
			var want []string
			for ; i < len(lines) && !strings.HasPrefix(lines[i], "$ ") && !strings.HasPrefix(lines[i], "# "); i++ {
				want = append(want, lines[i])
			}
			tr.step(t, fmt.Sprintf("%s:%d", file, at), line[2:], stdin, want)
		case line != "":
			t.Fatalf("%s:%d: what is %q?", file, at, line)
		}
	}
}

func (tr *transcript) directive(t *testing.T, f []string) {
	switch f[0] {
	case "path":
		mode, err := strconv.ParseUint(f[2][1:], 8, 32)
		uid, err2 := strconv.Atoi(f[3])
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		kind := map[byte]fs.FileMode{'d': fs.ModeDir, 'l': fs.ModeSymlink, '-': 0}[f[2][0]]
		tr.paths.Set(f[1], PathInfo{Mode: kind | fs.FileMode(mode), UID: uid})
	case "gone":
		tr.paths.Remove(f[1])
	case "link":
		tr.paths.Link(f[1], f[2])
	case "exit":
		status, err := strconv.Atoi(f[2])
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range tr.Active() {
			if s.Name == f[1] {
				tr.exits[s.ID](status)
				tr.settle(s)
			}
		}
	}
}

// settle waits until the end of an init has been dealt with: the zone is gone
// or its init was started again.
func (tr *transcript) settle(before Status) {
	for {
		now := Status{}
		for _, s := range tr.Active() {
			if s.Name == before.Name {
				now = s
			}
		}
		if now.ID == 0 || now.State == "running" && !now.Booted.Equal(before.Booted) {
			if tr.lock(tr.t.Context(), before.Name) == nil {
				tr.unlock(before.Name)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (tr *transcript) step(t *testing.T, where, command, stdin string, want []string) {
	r := tr.runWith(t.Context(), stdin, splitWords(command)...)
	var got []string
	add := func(prefix, text string) {
		for l := range strings.Lines(text) {
			got = append(got, prefix+strings.TrimSuffix(l, "\n"))
		}
	}
	add("", r.out)
	add("! ", r.err)
	if r.code != 0 {
		got = append(got, "? "+strconv.Itoa(r.code))
	}
	for i := range want {
		if want[i] == "! ..." && i < len(got) {
			rest := got[i:]
			for len(rest) > 0 && strings.HasPrefix(rest[0], "!") {
				rest = rest[1:]
			}
			got = append(append(got[:i:i], "! ..."), rest...)
		}
	}
	trim := func(l []string) string {
		var b strings.Builder
		for _, s := range l {
			b.WriteString(strings.TrimRight(s, " ") + "\n")
		}
		return b.String()
	}
	if trim(got) != trim(want) {
		t.Errorf("%s: %s\ngot:\n%swant:\n%s", where, command, trim(got), trim(want))
	}
}

// splitWords splits a command as a shell would, with both kinds of quotes.
func splitWords(line string) []string {
	var words []string
	var b strings.Builder
	in, quote := false, byte(0)
	for i := range len(line) {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote, in = c, true
		case c == ' ':
			if in {
				words = append(words, b.String())
			}
			b.Reset()
			in = false
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if in {
		words = append(words, b.String())
	}
	return words
}
