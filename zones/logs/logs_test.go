package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func at(sec int) time.Time { return time.Date(2026, 1, 2, 3, 4, sec, 5, time.UTC) }

func TestLineRoundTrip(t *testing.T) {
	for _, l := range []Line{
		{Time: at(1), Stream: Stdout, Text: []byte("hello world ")},
		{Time: at(1), Stream: Stderr, Partial: true, Text: []byte{}},
		{Time: at(1), Stream: Stderr, Text: []byte{0xff, 0, ' '}},
	} {
		data := l.append(nil)
		got, err := ParseLine(bytes.TrimSuffix(data, []byte("\n")))
		if err != nil || !got.Time.Equal(l.Time) || got.Stream != l.Stream || got.Partial != l.Partial || !bytes.Equal(got.Text, l.Text) {
			t.Errorf("ParseLine(%q) = %+v, %v", data, got, err)
		}
	}
}

func TestParseLineRefuses(t *testing.T) {
	for _, bad := range []string{
		"", "x", "2026-01-02T03:04:05Z stdout F", "2026-01-02T03:04:05Z stdin F x", "2026-01-02T03:04:05Z stdout Q x",
		"yesterday stdout F x", strings.Repeat("9", 100) + " stdout F x",
	} {
		if l, err := ParseLine([]byte(bad)); err == nil {
			t.Errorf("ParseLine(%q) = %+v", bad, l)
		}
	}
}

// write makes a log and returns its directory and its writer.
func write(t *testing.T, limits Limits) (string, *Writer) {
	t.Helper()
	dir := t.TempDir()
	w, err := Create(filepath.Join(dir, "web", "0.log"), limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return dir, w
}

func read(t *testing.T, dir string, o Options) string {
	t.Helper()
	var b strings.Builder
	if err := Read(t.Context(), dir, "web/0.log", o, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestStreamsAreCutIntoLines(t *testing.T) {
	dir, w := write(t, DefaultLimits)
	out := w.Stream(Stdout, nil)
	long := strings.Repeat("x", 2*MaxText+5)
	for _, s := range []string{"a", "b\n\nc\nd", long, "\nend"} {
		out.Write([]byte(s))
	}
	out.Close()
	want := "ab\n\nc\nd" + long + "\nend" // the program did not end it
	if got := read(t, dir, Options{}); got != want {
		t.Errorf("%d bytes, want %d: %.200q", len(got), len(want), got)
	}
	data, err := os.ReadFile(filepath.Join(dir, "web", "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte(" stdout P ")); n != 3 {
		t.Errorf("%d partial lines, want 3", n)
	}
}

func TestReadOptions(t *testing.T) {
	dir, w := write(t, DefaultLimits)
	_ = w
	var b []byte
	for i := range 6 {
		s := Stdout
		if i%2 == 1 {
			s = Stderr
		}
		b = Line{Time: at(i), Stream: s, Text: fmt.Appendf(nil, "l%d", i)}.append(b)
	}
	b = append(b, "not a line\n"...)
	b = Line{Time: at(6), Stream: Stdout, Partial: true, Text: []byte("p")}.append(b)
	b = Line{Time: at(7), Stream: Stdout, Text: []byte("q")}.append(b)
	b = append(b, "2026-01-02T03:04:09Z stdout F half"...)
	if err := os.WriteFile(filepath.Join(dir, "web", "0.log"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	n := func(i int64) *int64 { return &i }
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"all", Options{}, "l0\nl1\nl2\nl3\nl4\nl5\npq\n"},
		{"tail", Options{Tail: n(3)}, "l5\npq\n"},
		{"tail 0", Options{Tail: n(0)}, ""},
		{"tail of more", Options{Tail: n(100)}, "l0\nl1\nl2\nl3\nl4\nl5\npq\n"},
		{"tail of a stream", Options{Tail: n(2), Stream: Stderr}, "l3\nl5\n"},
		{"since", Options{Since: at(5)}, "l5\npq\n"},
		{"stream", Options{Stream: Stderr}, "l1\nl3\nl5\n"},
		{"limit", Options{LimitBytes: 7}, "l0\nl1\nl"},
		{"timestamps", Options{Timestamps: true, Tail: n(3)},
			"2026-01-02T03:04:05.000000005Z l5\n2026-01-02T03:04:06.000000005Z pq\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := read(t, dir, tt.o); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRotationKeepsTheNewest(t *testing.T) {
	dir, w := write(t, Limits{Size: 200, Files: 3})
	var all []string
	for i := range 40 {
		text := fmt.Sprintf("line %02d", i)
		all = append(all, text)
		w.Write(Stdout, false, []byte(text))
	}
	got := strings.Fields(strings.ReplaceAll(read(t, dir, Options{}), "line ", ""))
	if len(got) < 9 || len(got) > 12 {
		t.Fatalf("%d lines are kept: %q", len(got), got)
	}
	for i, l := range got {
		if want := all[len(all)-len(got)+i]; "line "+l != want {
			t.Errorf("line %d is %q, want %q", i, l, want)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "web"))
	if err != nil || len(entries) != 3 {
		t.Errorf("%d files, %v", len(entries), err)
	}
	tail := int64(7)
	if got := read(t, dir, Options{Tail: &tail}); got != strings.Join(all[33:], "\n")+"\n" {
		t.Errorf("a tail across files is %q", got)
	}
}

func TestFollowMissesNothing(t *testing.T) {
	dir, w := write(t, Limits{Size: 300, Files: 4})
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		done := make(chan error, 1)
		var got bytes.Buffer
		w.Write(Stdout, false, []byte("first"))
		go func() {
			done <- Read(t.Context(), dir, "web/0.log", Options{Follow: true, Ended: ended}, &got)
		}()
		want := "first\n"
		for i := range 60 {
			text := fmt.Sprintf("line %02d", i)
			w.Write(Stdout, false, []byte(text))
			want += text + "\n"
			if i%5 == 0 { // fewer lines between two looks than the files hold
				time.Sleep(time.Second)
				synctest.Wait()
			}
		}
		close(ended)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got.String() != want {
			t.Errorf("got %q\nwant %q", got.String(), want)
		}
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	dir, w := write(t, DefaultLimits)
	w.Write(Stdout, false, []byte("x"))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		var got bytes.Buffer
		if err := Read(ctx, dir, "web/0.log", Options{Follow: true}, &got); !errors.Is(err, context.Canceled) {
			t.Errorf("Read = %v", err)
		}
		if got.String() != "x\n" {
			t.Errorf("got %q", got.String())
		}
	})
}

func TestReadRefusesWhatAZoneMayPutThere(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("2026-01-02T03:04:09Z stdout F secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		make func(dir string) error
	}{
		{"link to a file", func(d string) error { return os.Symlink(secret, filepath.Join(d, "web", "0.log")) }},
		{"link of the directory", func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, "web")), os.Symlink(filepath.Dir(secret), filepath.Join(d, "web")))
		}},
		{"fifo", func(d string) error { return unix.Mkfifo(filepath.Join(d, "web", "0.log"), 0o600) }},
		{"directory", func(d string) error { return os.Mkdir(filepath.Join(d, "web", "0.log"), 0o700) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "web"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(dir); err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := Read(t.Context(), dir, "web/0.log", Options{}, &b); err == nil || b.Len() > 0 {
				t.Errorf("Read = %v, with %q", err, b.String())
			}
		})
	}
	if err := Read(t.Context(), t.TempDir(), "web/0.log", Options{}, &strings.Builder{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of no log = %v", err)
	}
}

func TestOverlongLinesAreSkipped(t *testing.T) {
	dir := t.TempDir()
	good := string(Line{Time: at(1), Stream: Stdout, Text: []byte("good")}.append(nil))
	junk := "2026-01-02T03:04:09Z stdout F " + strings.Repeat("j", 20*maxLine) + "\n"
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "web"), 0o700),
		os.WriteFile(filepath.Join(dir, "web", "0.log"), []byte(good+junk+good), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, Options{}); got != "good\ngood\n" {
		t.Errorf("got %.100q", got)
	}
}

func TestFullDiskLosesLinesOnly(t *testing.T) {
	w, err := Create("/dev/full", DefaultLimits)
	if err != nil {
		t.Skip("no /dev/full")
	}
	w.Write(Stdout, false, []byte("lost"))
	w.Write(Stdout, false, []byte("lost too"))
	if w.dropped != 2 {
		t.Errorf("%d lines dropped, want 2", w.dropped)
	}
	w.file.Close()
	w.path = filepath.Join(t.TempDir(), "0.log")
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.Write(Stdout, false, []byte("kept"))
	data, err := os.ReadFile(w.path)
	if err != nil || !strings.Contains(string(data), "2 log lines could not be written") || !strings.Contains(string(data), " stdout F kept\n") {
		t.Errorf("the log is %q, %v", data, err)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05Z stdout F hello"))
	f.Add([]byte("2026-01-02T03:04:05.000000001+02:00 stderr P:x "))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLine(data)
		if err != nil || bytes.ContainsRune(data, '\n') {
			return
		}
		again, err := ParseLine(bytes.TrimSuffix(l.append(nil), []byte("\n")))
		if err != nil || again.Stream != l.Stream || again.Partial != l.Partial || !bytes.Equal(again.Text, l.Text) {
			t.Errorf("%q becomes %+v, %v", data, again, err)
		}
	})
}
