//go:build linux

package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host"
	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/wire"
	"reddwarf.io/reddwarf/hack/host/program"
)

// answer serves one connection.
func (s *supervisor) answer(c *net.UnixConn) {
	r, files, err := wire.Receive(c)
	if err != nil {
		return // the caller was killed
	}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	reply := wire.Reply{}
	who, err := s.caller(c)
	if err == nil {
		err = who.may(r)
	}
	if err != nil {
		_ = wire.Answer(c, wire.Reply{Error: err.Error()}) // the caller may have been killed meanwhile
		return
	}
	switch r.Kind {
	case wire.Run:
		do := s.model.Do
		if who.inZone {
			do = func(ctx context.Context, inv *program.Invocation, _ func()) int {
				return s.model.DoInZone(ctx, who.zone, inv)
			}
		}
		reply = s.run(c, r, files, do)
	case wire.Down:
		// Answered at once: the caller waits for the process to end.
		_ = wire.Answer(c, reply)
		s.stop()
		return
	case wire.Reboot:
		err = s.reboot()
	case wire.Fault:
		var f host.Fault
		if err = json.Unmarshal(r.Body, &f); err == nil {
			err = s.model.AddFault(f)
		}
	case wire.Clear:
		s.model.ClearFaults()
	case wire.Faults:
		var text strings.Builder
		for _, f := range s.model.Faults() {
			fmt.Fprintln(&text, f)
		}
		reply.Text = text.String()
	default:
		err = fmt.Errorf("the host does not know the request %q", r.Kind)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	_ = wire.Answer(c, reply) // the caller may have been killed meanwhile
}

// caller is who has called.
type caller struct {
	zone   int
	inZone bool
	root   bool
}

// caller finds out who is at the other end of c.
func (s *supervisor) caller(c *net.UnixConn) (caller, error) {
	cred, err := credentials(c)
	if err != nil {
		return caller{}, err
	}
	who := caller{root: cred.Uid == 0}
	if cred.Pid != 0 { // 0 has no number here: it is of the lab
		who.zone, who.inZone, err = s.sandbox.ZoneOf(int(cred.Pid))
	}
	return who, err
}

// may refuses what the caller has no right to: who is not root may look only,
// and a zone may call commands only.
func (who caller) may(r wire.Request) error {
	if who.inZone && r.Kind != wire.Run {
		return fmt.Errorf("a zone asks for %s", r.Kind)
	}
	looks := len(r.Argv) == 1 || len(r.Argv) > 1 && strings.HasPrefix(r.Argv[1], "show-")
	if who.inZone && !who.root && !looks {
		return fmt.Errorf("only the zone's root may run %q", strings.Join(r.Argv, " "))
	}
	return nil
}

// run runs one command for as long as its caller lives.
func (s *supervisor) run(c *net.UnixConn, r wire.Request, files []*os.File, do func(context.Context, *program.Invocation, func()) int) wire.Reply {
	if len(files) != 3 || len(r.Argv) == 0 {
		return wire.Reply{Error: "not a call of a command"}
	}
	s.mu.Lock()
	ctx, cancel := context.WithCancel(s.session)
	s.mu.Unlock()
	defer cancel()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		wire.Gone(c)
		cancel()
	}()
	var launch []string
	code := do(ctx, &program.Invocation{
		Launch: func(argv []string) { launch = argv },
		Argv:   r.Argv, Dir: r.Dir, Terminal: r.Terminal, Files: host.Files(r.Dir),
		Stdin: files[0], Stdout: files[1], Stderr: files[2],
	}, func() { killCaller(c) })
	wire.StopWaiting(c)
	<-gone
	return wire.Reply{Exit: code, Launch: launch}
}

// do runs one command of the host's own.
func (s *supervisor) do(argv []string) error {
	var out bytes.Buffer
	code := s.model.Do(s.life, &program.Invocation{
		Argv: argv, Dir: "/", Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Files: host.Files("/"),
	}, func() {})
	if code != 0 {
		return fmt.Errorf("%s: exit %d: %s", strings.Join(argv, " "), code, strings.TrimSpace(out.String()))
	}
	return nil
}

// killCaller kills the program that started the command at the other end of c,
// which is the agent, and with it the command.
func killCaller(c *net.UnixConn) {
	cred, err := credentials(c)
	if err != nil || cred.Pid <= 1 {
		return
	}
	parent := parentOf(int(cred.Pid))
	if parent > 1 {
		log.Printf("fault: killing process %d, which runs a command", parent)
		_ = unix.Kill(parent, unix.SIGKILL)
	}
	_ = unix.Kill(int(cred.Pid), unix.SIGKILL)
}

// credentials are those of the process at the other end of c.
func credentials(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if failed := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); failed != nil {
		return nil, failed
	}
	return cred, err
}

func parentOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// reboot cuts the power: commands, programs and zones are gone at once, and
// what is temporary with them.
func (s *supervisor) reboot() error {
	s.mu.Lock()
	s.cut()
	s.session, s.cut = context.WithCancel(s.life)
	s.mu.Unlock()
	killOthers()
	if err := s.model.Reboot(s.life); err != nil {
		return err
	}
	return s.save()
}

// killOthers kills every process of the host but its first, this one, and
// what this one keeps running for the zones.
func killOthers() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 || pid == os.Getpid() || parentOf(pid) == os.Getpid() || otherSpace(pid) {
			continue
		}
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// otherSpace reports whether a process belongs to a zone.
func otherSpace(pid int) bool {
	var own, its unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &own) != nil || unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &its) != nil {
		return true
	}
	return own.Ino != its.Ino
}
