package command_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"reddwarf.io/reddwarf/zones/command"
)

func TestRunReturnsOutput(t *testing.T) {
	out, err := command.Local{}.Run(t.Context(), command.Cmd{Name: "cat", Stdin: "hello"})
	if err != nil || string(out) != "hello" {
		t.Fatalf("Run = %q, %v", out, err)
	}
}

func TestRunPassesArgumentsUnchanged(t *testing.T) {
	odd := "a b'c\"d;$(e)\n`f`*"
	out, err := command.Local{}.Run(t.Context(), command.New("printf", "%s", odd))
	if err != nil || string(out) != odd {
		t.Fatalf("Run = %q, %v; want %q", out, err, odd)
	}
}

func TestRunFailureKeepsExitCodeAndWords(t *testing.T) {
	_, err := command.Local{}.Run(t.Context(), command.New("sh", "-c", "echo out; echo err >&2; exit 17"))
	var ce *command.Error
	if !errors.As(err, &ce) {
		t.Fatalf("error is %T, want *command.Error", err)
	}
	if ce.ExitCode != 17 || ce.Stdout != "out\n" || ce.Stderr != "err\n" {
		t.Errorf("got code %d, stdout %q, stderr %q", ce.ExitCode, ce.Stdout, ce.Stderr)
	}
	if code, ok := command.ExitCode(err); !ok || code != 17 {
		t.Errorf("ExitCode = %d, %v", code, ok)
	}
	if !strings.Contains(err.Error(), "err") {
		t.Errorf("message %q lacks the program's words", err)
	}
}

func TestRunMissingProgram(t *testing.T) {
	_, err := command.Local{}.Run(t.Context(), command.New("no-such-program-here"))
	var ce *command.Error
	if !errors.As(err, &ce) || ce.ExitCode != -1 {
		t.Fatalf("Run = %v, want *command.Error with exit code -1", err)
	}
	if _, ok := command.ExitCode(err); ok {
		t.Error("ExitCode reports a code for a program that never ran")
	}
}

func TestRunDeadlineIsTheCause(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, context.DeadlineExceeded)
	defer cancel()
	_, err := command.Local{}.Run(ctx, command.New("sleep", "60"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Run = %v, want the deadline", err)
	}
}

func TestStreamCarriesBothWays(t *testing.T) {
	var out bytes.Buffer
	err := command.Local{}.Stream(t.Context(), command.New("tr", "a-z", "A-Z"), strings.NewReader("zone"), &out)
	if err != nil || out.String() != "ZONE" {
		t.Fatalf("Stream = %q, %v", out.String(), err)
	}
}

func TestCmdStringIsUnambiguous(t *testing.T) {
	got := command.New("zonecfg", "-z", "a b", "", "x\ny").String()
	if want := `zonecfg -z "a b" "" "x\ny"`; got != want {
		t.Errorf("String = %s, want %s", got, want)
	}
}

func TestSilentCommandThatComplains(t *testing.T) {
	c := command.New("sh", "-c", "echo out; echo '2:ioctl(add/insert nat rule): File exists' >&2")
	if _, err := (command.Local{}).Run(t.Context(), c); err != nil {
		t.Fatalf("a command that may complain: %v", err)
	}
	c.Silent = true
	for name, err := range map[string]error{
		"Run":    func() error { _, err := command.Local{}.Run(t.Context(), c); return err }(),
		"Stream": command.Local{}.Stream(t.Context(), c, strings.NewReader(""), &bytes.Buffer{}),
	} {
		var ce *command.Error
		if !errors.As(err, &ce) || !errors.Is(err, command.ErrComplained) || ce.ExitCode != 0 || !strings.Contains(ce.Stderr, "File exists") {
			t.Errorf("%s = %#v", name, err)
		}
	}
	if out, err := (command.Local{}).Run(t.Context(), command.Cmd{Name: "echo", Args: []string{"ok"}, Silent: true}); err != nil || string(out) != "ok\n" {
		t.Errorf("a silent command without complaints = %q, %v", out, err)
	}
}
