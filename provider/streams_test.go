package provider

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
	utilexec "k8s.io/utils/exec"

	"reddwarf.io/reddwarf/provider/server"
)

type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }

type fakeIO struct{ out buffer }

func (*fakeIO) Stdin() io.Reader               { return nil }
func (f *fakeIO) Stdout() io.WriteCloser       { return &f.out }
func (*fakeIO) Stderr() io.WriteCloser         { return nil }
func (*fakeIO) TTY() bool                      { return false }
func (*fakeIO) Resize() <-chan server.TermSize { return nil }

func TestExec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod())
		settle(time.Second)
		var f fakeIO
		if err := w.p.Exec(t.Context(), "default", "web", "", []string{"echo", "a b;$(c)"}, &f); err != nil || f.out.String() != "web a b;$(c)\n" {
			t.Errorf("Exec = %v, output %q", err, f.out.String())
		}
		for _, tt := range []struct {
			program string
			code    int
		}{{"exit", 7}, {"missing", 127}} {
			err := w.p.Exec(t.Context(), "default", "web", "web", []string{tt.program}, &f)
			// Bare: virtual-kubelet asserts the type and does not unwrap.
			if e, ok := err.(utilexec.CodeExitError); !ok || e.ExitStatus() != tt.code { //nolint:errorlint // see above
				t.Errorf("%s: Exec = %#v, want code %d", tt.program, err, tt.code)
			}
		}
		if err := w.p.Exec(t.Context(), "default", "none", "", []string{"exit"}, &f); !errdefs.IsNotFound(err) {
			t.Errorf("unknown pod: %v", err)
		}
		if err := w.p.Exec(t.Context(), "default", "web", "none", []string{"exit"}, &f); !errdefs.IsNotFound(err) {
			t.Errorf("unknown container: %v", err)
		}
	})
}

// writeLog plays podinit's part.
func (w *world) writeLog(t *testing.T, attempt, text string) {
	t.Helper()
	dir := filepath.Join(w.host.dir, "pods", testUID, "logs", "web")
	f, err := os.OpenFile(filepath.Join(dir, attempt+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(time.Now().UTC().Format(time.RFC3339Nano) + " stdout F " + text + "\n"); err != nil {
		t.Fatal(err)
	}
}

func TestLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(_ string, attempt int) behaviour {
			if attempt == 0 {
				return behaviour{runs: time.Second, code: 1}
			}
			return behaviour{runs: time.Minute}
		})
		w.create(testPod())
		settle(100 * time.Millisecond)
		w.writeLog(t, "0", "zero")
		read := func(o server.LogOptions) (string, error) {
			r, err := w.p.Logs(t.Context(), "default", "web", "", o)
			if err != nil {
				return "", err
			}
			text, err := io.ReadAll(r)
			return string(text), errors.Join(err, r.Close())
		}
		if _, err := read(server.LogOptions{Previous: true}); !errdefs.IsInvalidInput(err) {
			t.Errorf("previous of a first attempt: %v", err)
		}
		settle(2 * time.Second)
		w.writeLog(t, "1", "one")
		if got, err := read(server.LogOptions{}); err != nil || got != "one\n" {
			t.Errorf("log is %q, %v", got, err)
		}
		if got, err := read(server.LogOptions{Previous: true}); err != nil || got != "zero\n" {
			t.Errorf("previous log is %q, %v", got, err)
		}
		go func() {
			time.Sleep(30 * time.Second)
			w.writeLog(t, "1", "late")
		}()
		// Idle for half a minute, and ends with the attempt.
		if got, err := read(server.LogOptions{Follow: true}); err != nil || got != "one\nlate\n" {
			t.Errorf("followed log is %q, %v", got, err)
		}
	})
}

func TestLogsOfAWaitingContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.create(testPod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "missing:1" }))
		settle(time.Second)
		_, err := w.p.Logs(t.Context(), "default", "web", "", server.LogOptions{})
		if !errdefs.IsInvalidInput(err) || !strings.Contains(err.Error(), "waiting to start: ErrImagePull") {
			t.Errorf("Logs = %v", err)
		}
	})
}

func TestLogExplainsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.behave(func(string, int) behaviour { return behaviour{runs: time.Second, code: 1} })
		w.create(testPod(func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		}))
		settle(100 * time.Millisecond)
		w.writeLog(t, "0", "no such table")
		settle(5 * time.Second)
		if e := w.status().ContainerStatuses[0].State.Terminated; e == nil || e.Message != "no such table\n" {
			t.Errorf("state is %+v", w.status().ContainerStatuses[0].State)
		}
	})
}
