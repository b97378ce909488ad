package podinit_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/wire"
)

func spec() podinit.Spec {
	return podinit.Spec{Version: podinit.Version, PodUID: "u-1", Hostname: "pod", Containers: []podinit.Container{{Name: "web", Args: []string{"x"}}}}
}

func TestSpecReportsEveryFault(t *testing.T) {
	bad := int64(-1)
	s := podinit.Spec{
		Version: 9, PodUID: "../x", Hostname: "a b", Network: &podinit.Network{Interface: "-x"},
		Containers: []podinit.Container{
			{Name: "web"}, {Name: "web", Args: []string{"x"}},
			{
				Name: "a/b", Attempt: -1, Args: []string{"a\x00"}, Dir: "rel", RunAsUser: &bad,
				TerminationMessagePath: "x", Mounts: []podinit.Mount{
					{Target: "/a"}, {Volume: "v", File: "f", Target: "/b"}, {Volume: "v", Target: "c"}, {Volume: "../v", Target: "/d"},
					{File: "../f", Target: "/e"}, {Volume: "v", SubPath: "x/../..", Target: "/f"}, {Volume: "v", SubPath: "/x", Target: "/g"}, {Volume: "v", Target: "/."},
				},
			},
		},
	}
	err := s.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"version 9", `pod uid "../x"`, `hostname "a b"`, `interface "-x"`, "no program", `"web": twice`, `bad name "a/b"`, "attempt -1", "NUL",
		`directory "rel"`, "id -1", `path "x"`, `mount "/a"`, `mount "/b"`, `mount "c"`, `mount "/d"`, `mount "/e"`, `mount "/f"`, `mount "/g"`, `mount "/."`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

func TestParseSpecRefusesWhatItDoesNotKnow(t *testing.T) {
	data, err := json.Marshal(spec())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := podinit.ParseSpec(data); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		strings.Replace(string(data), `"name"`, `"newSecuritySetting":true,"name"`, 1), string(data) + "{}", "", "null",
	} {
		if _, err := podinit.ParseSpec([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func state() podinit.State {
	return podinit.State{Version: podinit.Version, PodUID: "u-1", Boot: "b", Containers: []podinit.ContainerState{
		{Name: "web", Phase: podinit.Exited, ExitCode: 137, Signal: 9, StartedAt: time.Unix(1e9, 0), Message: "m"},
	}}
}

func TestParseStateBelievesNoNonsense(t *testing.T) {
	for name, edit := range map[string]func(*podinit.State){
		"version":     func(s *podinit.State) { s.Version = 2 },
		"uid":         func(s *podinit.State) { s.PodUID = "a\nb" },
		"boot":        func(s *podinit.State) { s.Boot = strings.Repeat("b", 65) },
		"phase":       func(s *podinit.State) { s.Containers[0].Phase = "happy" },
		"name":        func(s *podinit.State) { s.Containers[0].Name = "../../etc" },
		"twice":       func(s *podinit.State) { s.Containers = append(s.Containers, s.Containers[0]) },
		"exit code":   func(s *podinit.State) { s.Containers[0].ExitCode = 256 },
		"negative":    func(s *podinit.State) { s.Containers[0].ExitCode = -1 },
		"signal":      func(s *podinit.State) { s.Containers[0].Signal = 1000 },
		"attempt":     func(s *podinit.State) { s.Containers[0].Attempt = 1 << 31 },
		"message":     func(s *podinit.State) { s.Containers[0].Message = strings.Repeat("m", 3*podinit.MaxMessage+1) },
		"start error": func(s *podinit.State) { s.Containers[0].StartError = strings.Repeat("m", 20000) },
		"year":        func(s *podinit.State) { s.Containers[0].StartedAt = time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC) },
		"process":     func(s *podinit.State) { s.Containers[0].PID = -5 },
		"user":        func(s *podinit.State) { s.Containers[0].UID = 1 << 40 },
		"many":        func(s *podinit.State) { s.Containers = make([]podinit.ContainerState, podinit.MaxContainers+1) },
	} {
		s := state()
		edit(&s)
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := podinit.ParseState(data); !errors.Is(err, podinit.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	data, err := json.Marshal(state())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := podinit.ParseState(append(data[:len(data)-1:len(data)-1], `,"later":1}`...)); err != nil || s.Containers[0].ExitCode != 137 {
		t.Errorf("a field of a later version: %+v, %v", s, err)
	}
}

func TestReadStateRefusesWhatAZoneMayPutThere(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	data, err := json.Marshal(state())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]func(string) error{
		"link":      func(p string) error { return os.Symlink(secret, p) },
		"fifo":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"huge": func(p string) error {
			return errors.Join(os.WriteFile(p, data, 0o600), os.Truncate(p, 1<<40))
		},
	} {
		dir := t.TempDir()
		if err := place(filepath.Join(dir, podinit.StateFile)); err != nil {
			t.Fatal(err)
		}
		if s, err := podinit.ReadState(dir); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if _, err := podinit.ReadState(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]podinit.Signal{
		"SIGTERM": "SIGTERM", "term": "SIGTERM", "15": "15", "SIGRTMIN+3": "SIGRTMIN+3", "": "", "0": "", "-9": "", "65": "", "SIG": "", "SIG TERM": "", "SIGTERM\n": "",
		"cld": "SIGCLD", "SIGSTKFLT": "SIGSTKFLT", "RTMAX": "SIGRTMAX", "SIGRTMAX-14": "SIGRTMAX-14", "SIGNOPE": "", "SIGSIGTERM": "",
		"SIGRTMIN-3": "", "SIGRTMIN+0": "", "SIGRTMIN+03": "", "SIGRTMIN+99": "", "SIGRTMIN3": "", "SIGRTMAX--1": "",
	} {
		got, err := podinit.ParseSignal(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseSignal(%q) = %q, %v", in, got, err)
		}
	}
}

// peer answers every connection with these bytes, after it has read a frame.
func peer(t *testing.T, answer func(w *wire.Writer, conn net.Conn)) *podinit.Client {
	t.Helper()
	return podinit.NewClient(func(context.Context) (net.Conn, error) {
		mine, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer theirs.Close()
			if _, _, err := wire.NewReader(theirs).Next(); err == nil {
				answer(wire.NewWriter(theirs), theirs)
			}
		}()
		t.Cleanup(func() { mine.Close(); <-done })
		return mine, nil
	})
}

func TestClientAgainstAHostilePeer(t *testing.T) {
	ok := []byte(`{"version":1}`)
	for name, answer := range map[string]func(w *wire.Writer, conn net.Conn){
		"no frame":      func(_ *wire.Writer, c net.Conn) { c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")) },
		"other kind":    func(w *wire.Writer, _ net.Conn) { w.Message(wire.State, ok) },
		"no json":       func(w *wire.Writer, _ net.Conn) { w.Message(wire.Reply, []byte("{")) },
		"other version": func(w *wire.Writer, _ net.Conn) { w.Message(wire.Reply, []byte(`{"version":7}`)) },
		"no state":      func(w *wire.Writer, _ net.Conn) { w.Message(wire.Reply, ok) },
		"a false state": func(w *wire.Writer, _ net.Conn) { w.Message(wire.Reply, []byte(`{"version":1,"state":{"version":1}}`)) },
		"a false code": func(w *wire.Writer, _ net.Conn) {
			w.Message(wire.Reply, []byte(`{"version":1,"error":{"reason":"start","code":-3}}`))
		},
		"a length bomb": func(_ *wire.Writer, c net.Conn) { c.Write([]byte{2, 0xff, 0xff, 0xff, 0xff}) },
	} {
		if _, err := peer(t, answer).State(t.Context()); !errors.Is(err, podinit.ErrProtocol) {
			t.Errorf("State, %s: %v", name, err)
		}
	}
	for name, last := range map[string]func(w *wire.Writer){
		"no exit status": func(w *wire.Writer) { w.Message(wire.End, nil) },
		"a false status": func(w *wire.Writer) { w.Message(wire.Exit, []byte(`{"code":-1}`)) },
		"no json":        func(w *wire.Writer) { w.Message(wire.Exit, []byte(`x`)) },
		"a frame for us": func(w *wire.Writer) { w.Message(wire.Stdin, []byte(`x`)) },
		"a false signal": func(w *wire.Writer) { w.Message(wire.Exit, []byte(`{"code":1,"signal":500}`)) },
	} {
		c := peer(t, func(w *wire.Writer, _ net.Conn) { w.Message(wire.Reply, ok); last(w) })
		if _, err := c.Exec(t.Context(), podinit.ExecRequest{Container: "web", Args: []string{"x"}}, podinit.Streams{}); !errors.Is(err, podinit.ErrProtocol) {
			t.Errorf("Exec, %s: %v", name, err)
		}
	}
}

func TestClientStopsWithItsContext(t *testing.T) {
	c := peer(t, func(_ *wire.Writer, conn net.Conn) { conn.Read(make([]byte, 1)) }) // it never answers
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the pod is gone")
	time.AfterFunc(time.Millisecond, func() { cancel(why) })
	if _, err := c.State(ctx); !errors.Is(err, why) {
		t.Errorf("State = %v", err)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	for reason, want := range map[podinit.Reason]error{podinit.ReasonNotFound: podinit.ErrNotFound, podinit.ReasonNotRunning: podinit.ErrNotRunning} {
		data, err := json.Marshal(podinit.Reply{Version: 1, Error: &podinit.Error{Reason: reason, Message: "m"}})
		if err != nil {
			t.Fatal(err)
		}
		c := peer(t, func(w *wire.Writer, _ net.Conn) { w.Message(wire.Reply, data) })
		if err := c.Kill(t.Context(), "web"); !errors.Is(err, want) {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

func FuzzParseState(f *testing.F) {
	data, err := json.Marshal(state())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := podinit.ParseState(in)
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatalf("a state that was accepted cannot be written: %v", err)
		}
		if _, err := podinit.ParseState(again); err != nil {
			t.Errorf("a state that was accepted is not any more: %v", err)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"version":1,"op":"exec","exec":{"container":"web","args":["x"]}}`))
	f.Add([]byte(`{"version":1,"op":"start","start":{"name":"a","attempt":1,"start":true,"args":["x"],"env":null,"dir":"/"}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := podinit.ParseRequest(in)
		if err != nil {
			return
		}
		if r.Op == podinit.OpExec && (r.Exec == nil || len(r.Exec.Args) == 0) || r.Op == podinit.OpStart && r.Start.Validate() != nil {
			t.Errorf("%q is accepted: %+v", in, r)
		}
	})
}
