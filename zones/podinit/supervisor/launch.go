package supervisor

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"syscall"
)

// process is one that podinit started in a container.
type process struct {
	pid    int
	exited <-chan exit
}

// launch starts a stub with the child's ends of streams and returns when it has
// become its program. A failure is a *startError.
func (s *Supervisor) launch(o order, streams *streams) (*process, identity, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, identity{}, err
	}
	orderR, orderW, err := os.Pipe()
	if err != nil {
		return nil, identity{}, err
	}
	defer orderR.Close() //nolint:errcheck // the child has its own
	answerR, answerW, err := os.Pipe()
	if err != nil {
		return nil, identity{}, errors.Join(err, orderW.Close())
	}
	defer answerR.Close() //nolint:errcheck // only read
	pid, exited, err := s.reaper.start(s.config.Self, []string{"podinit", StubVerb}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1", "GOGC=off"},
		Files: append(streams.child(), orderR.Fd(), answerW.Fd()),
		Sys:   session(streams.tty()),
	})
	answerW.Close() //nolint:errcheck // the child has its own
	if err != nil {
		return nil, identity{}, errors.Join(err, orderW.Close())
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		orderW.Write(data) //nolint:errcheck // the stub answers, or its end is the answer
		orderW.Close()     //nolint:errcheck // as above
	}()
	id, err := readAnswers(answerR)
	if err != nil {
		io.Copy(io.Discard, answerR) //nolint:errcheck // until the stub has ended
		<-exited
	}
	orderR.Close() //nolint:errcheck // a write that the stub did not wait for ends
	<-sent
	if err != nil {
		return nil, id, err
	}
	return &process{pid: pid, exited: exited}, id, nil
}

// session makes the child the leader of a session, and of its terminal.
func session(tty bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Setctty: tty, Ctty: 0}
}
