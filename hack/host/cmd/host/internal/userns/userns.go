//go:build linux

// Package userns makes an ordinary user root of a user namespace, so that a lab
// needs no root: in there the user may make the other namespaces, mounts and
// links that hosts and zones are made of.
//
// User 0 in the namespace is the user itself, and the users from 1 on are the
// range that /etc/subuid gives it: images have many users. The set-user-id
// programs newuidmap and newgidmap write such maps; nobody else may.
package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/hack/host/cmd/host/internal/spaces"
)

// ChildName is the name under which this binary is executed again in the new
// namespace.
const ChildName = "(user-root)"

// mapped is the child's first argument once its maps are written.
const mapped = "(mapped)"

// gateFD is, in the child, a pipe on which a byte says that the maps are
// written. It stays open as long as the parent lives.
const gateFD = 3

// users is how many users an image may need: all that 16 bits can name but
// root, who is the user itself.
const users = 1<<16 - 1

// Inside reports whether this process is in a user namespace with a map of its
// own.
func Inside() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(text))
	return err == nil && (len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295")
}

// Run runs this binary again with argv as root of a new user namespace, and
// returns its exit code. It ends with this process, however that ends.
func Run(argv []string) (int, error) {
	me, err := user.Current()
	if err != nil {
		return 1, fmt.Errorf("who are you: %w", err)
	}
	var maps []mapping
	for _, of := range []struct{ program, file, id string }{
		{"newuidmap", "/etc/subuid", me.Uid}, {"newgidmap", "/etc/subgid", me.Gid},
	} {
		m, err := newMapping(of.program, of.file, of.id, me)
		if err != nil {
			return 1, err
		}
		maps = append(maps, m)
	}
	runtime.LockOSThread() // the child's death signal comes with the thread's end
	gateR, gateW, err := os.Pipe()
	if err != nil {
		return 1, err
	}
	defer gateW.Close() //nolint:errcheck // its end is a message
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{ChildName}, argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{gateR}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	started := false
	code, err := spaces.WaitStarted(cmd, func() error {
		started = true
		_ = gateR.Close()
		for _, m := range maps {
			if err := m.write(cmd.Process.Pid); err != nil {
				return err
			}
		}
		_, err := gateW.Write([]byte{1})
		return err
	})
	if err != nil && !started {
		return code, fmt.Errorf("%w (%w)", errKernel, err)
	}
	return code, err
}

// errKernel is what an operator has to change where the kernel says no.
var errKernel = errors.New("this kernel does not give ordinary users user namespaces: see the settings user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns of sysctl")

// Refused says that a user namespace was made and is of no use, because of err.
func Refused(err error) error { return fmt.Errorf("%w (%w)", errKernel, err) }

// mapping is one call of newuidmap or newgidmap.
type mapping struct {
	program string
	args    []string // after the process id
}

// newMapping maps id to 0 and the user's subordinate ids, which file lists, to
// 1 and following.
func newMapping(program, file, id string, me *user.User) (mapping, error) {
	if _, err := exec.LookPath(program); err != nil {
		return mapping{}, fmt.Errorf("%s is missing: install the package uidmap", program)
	}
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return mapping{}, err
	}
	start, count := subordinate(string(text), me)
	if count < users {
		return mapping{}, fmt.Errorf("%s gives the user %s no range of %d ids: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s",
			file, me.Username, users, me.Username)
	}
	return mapping{program, []string{"0", id, "1", "1", strconv.FormatUint(start, 10), strconv.Itoa(users)}}, nil
}

// subordinate returns the largest range of me in a file as subuid(5) describes.
func subordinate(text string, me *user.User) (start, count uint64) {
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != me.Username && f[0] != me.Uid {
			continue
		}
		s, err1 := strconv.ParseUint(f[1], 10, 32)
		n, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 == nil && err2 == nil && n > count {
			start, count = s, n
		}
	}
	return start, count
}

func (m mapping) write(pid int) error {
	out, err := exec.Command(m.program, append([]string{strconv.Itoa(pid)}, m.args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", m.program, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// ChildMain becomes this binary with argv, as root of the namespace that it was
// started in.
func ChildMain(argv []string) error {
	runtime.LockOSThread() // the death signal is a thread's
	if argv[0] != mapped {
		// Without rights, which come with an exec by somebody who is root.
		if n, err := unix.Read(gateFD, make([]byte, 1)); n != 1 {
			return fmt.Errorf("the parent has gone: %w", err)
		}
		return execSelf(append([]string{ChildName, mapped}, argv...))
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	fds := []unix.PollFd{{Fd: gateFD, Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 0); err == nil && n > 0 {
		return errors.New("the parent has gone")
	}
	unix.CloseOnExec(gateFD)
	return execSelf(argv[1:])
}

func execSelf(argv []string) error {
	err := unix.Exec("/proc/self/exe", argv, os.Environ())
	return &os.PathError{Op: "exec", Path: argv[0], Err: err}
}

// Enter runs this program again with its own arguments as root of the user
// namespace of a process that this user has started. It returns only if that
// fails.
func Enter(pid int) error {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return fmt.Errorf("nsenter is missing: install the package util-linux: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	err = unix.Exec(nsenter, append([]string{nsenter, "--user", "--target", strconv.Itoa(pid), "--", exe}, os.Args[1:]...), os.Environ())
	return &os.PathError{Op: "exec", Path: nsenter, Err: err}
}
