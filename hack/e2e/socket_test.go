package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The test program is also the two ends of a socket: one on the host, and one that
// a container runs, whose image has nothing that speaks to sockets.
const (
	listenOn = "listen-on"
	dialTo   = "dial-to"
)

// socketProgram reports whether the program was started as an end of a socket, with
// its exit code.
func socketProgram() (code int, ok bool) {
	if len(os.Args) != 3 {
		return 0, false
	}
	var err error
	switch os.Args[1] {
	case listenOn:
		err = answerAll(os.Args[2])
	case dialTo:
		err = ask(os.Args[2])
	default:
		return 0, false
	}
	if err != nil {
		fmt.Println(err)
		return 1, true
	}
	return 0, true
}

func answerAll(name string) error {
	var listen net.ListenConfig
	l, err := listen.Listen(context.Background(), "unix", name)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_, err = io.WriteString(c, "hello from the host\n")
		if err := errors.Join(err, c.Close()); err != nil {
			return err
		}
	}
}

func ask(name string) error {
	var d net.Dialer
	c, err := d.DialContext(context.Background(), "unix", name)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // only read
	_, err = io.Copy(os.Stdout, c)
	return err
}

// TestHostPathSocket shows a pod a socket of the host, which it can speak to. A
// pod that says it is one waits while it is none.
func TestHostPathSocket(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := sharedDir + "/socket"
	onHost(t, "sh", "-c", "mkdir -p "+dir+" && cp "+program+" "+dir+"/program && : >"+dir+"/plain")
	stop, err := host.StartProgram(filepath.Base(program), listenOn, dir+"/it")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Logf("the host's end of the socket: %v", err)
		}
	})
	err = bed.Eventually(t.Context(), time.Minute, "the socket", func(ctx context.Context) error {
		_, err := host.Run(ctx, "test", "-S", dir+"/it")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, sleeper("socket", "- {name: it, hostPath: {path: "+dir+"/it, type: Socket}}\n- {name: program, hostPath: {path: "+dir+"/program, type: File}}",
		"- {name: it, mountPath: /it}\n- {name: program, mountPath: /program}"))
	p := waitPod(t, "socket", "a ready pod", ready)
	if out := inPod(t, "socket", "test -S /it && /program "+dialTo+" /it"); out != "hello from the host\n" {
		t.Errorf("the pod hears %q", out)
	}
	apply(t, sleeper("no-socket", "- {name: it, hostPath: {path: "+dir+"/plain, type: Socket}}", "- {name: it, mountPath: /it}"))
	waitReason(t, "no-socket", "FailedMount", "plain is not a socket")
	kubectl(t, "delete", "pod", "socket", "no-socket")
	waitGone(t, p)
	mustNotBeMounted(t)
}
