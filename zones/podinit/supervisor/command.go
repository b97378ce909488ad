package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// command runs a program to its end. It takes the place of os/exec, whose
// wait the reaper would disturb.
func (r *reaper) command(path string, args []string, env ...string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close() //nolint:errcheck // /dev/null
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	_, exited, err := r.start(path, append([]string{path}, args...), &syscall.ProcAttr{
		Env:   append([]string{"PATH=/usr/sbin:/usr/bin:/sbin", "LC_ALL=C"}, env...),
		Files: []uintptr{null.Fd(), null.Fd(), out.Fd()},
	})
	out.Close() //nolint:errcheck // the child has its own
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var words bytes.Buffer
	_, rerr := words.ReadFrom(in)
	last := <-exited
	if last.status.Exited() && last.status.ExitStatus() == 0 {
		return nil
	}
	return errors.Join(fmt.Errorf("%s: status %d: %s", path, last.status.ExitStatus(), strings.TrimSpace(words.String())), rerr)
}
