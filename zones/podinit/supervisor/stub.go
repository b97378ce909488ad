package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"reddwarf.io/reddwarf/zones/podinit"
)

// StubVerb is the first argument by which podinit starts itself as a stub: the
// process that becomes a container's.
const StubVerb = "exec-stub"

// The stub's open files beside its standard streams.
const (
	orderFd  = 3 // the order is read from it
	answerFd = 4 // answers are written to it; it closes when the program runs
)

// order says what a stub becomes.
type order struct {
	Root      string            `json:"root"`
	Container podinit.Container `json:"container"` // with the program to run in Args
}

// answer is what a stub says: first what it runs as, then, only if it could
// not become the program, why.
type answer struct {
	Identity *identity `json:"identity,omitempty"`
	Error    string    `json:"error,omitempty"`
	Code     int       `json:"code,omitempty"`
}

// startError is why a program could not be started, with the exit code that a
// shell would give.
type startError struct {
	text string
	code int
}

func (e *startError) Error() string { return e.text }

// What a shell's exit code says of a program that never ran.
const (
	codeCannotRun = 126
	codeNotFound  = 127
	codeSetup     = 128
)

// defaultPath is what a runtime gives a container whose environment has none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Stub turns this process into a container's process and returns only if that
// failed. It is called in a process of its own, which podinit made the leader
// of a session.
func Stub() error {
	// Everything below is a property of this thread on Linux, and execve takes
	// it from the thread that calls it.
	runtime.LockOSThread()
	closeOnExec()
	out := os.NewFile(answerFd, "answer")
	say := func(a answer) {
		json.NewEncoder(out).Encode(a) //nolint:errcheck // there is nobody else to tell
	}
	var o order
	in := os.NewFile(orderFd, "order")
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		say(answer{Error: "order: " + err.Error(), Code: codeSetup})
		return err
	}
	in.Close() //nolint:errcheck // only read
	err := become(o, func(id identity) { say(answer{Identity: &id}) })
	a := answer{Error: err.Error(), Code: codeSetup}
	var se *startError
	if errors.As(err, &se) {
		a.Code = se.code
	}
	say(a)
	return err
}

// become goes into the root, takes the identity on and runs the program. Once
// it is in the root, every path is the container's own.
func become(o order, report func(identity)) error {
	if err := enter(o.Root); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	known, err := readAccounts()
	if err != nil {
		return fmt.Errorf("users: %w", err)
	}
	id, err := known.identify(o.Container)
	if err != nil {
		return err
	}
	report(id)
	if err := goTo(o.Container.Dir); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	env := environment(o.Container.Env, id.Home, o.Container.TTY)
	syscall.Umask(0o022)
	if err := takeOn(id, o.Container); err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	program, err := lookUp(o.Container.Args[0], env)
	if err != nil {
		return err
	}
	err = syscall.Exec(program, o.Container.Args, env)
	return execError(o.Container.Args[0], err)
}

func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := syscall.Chroot("."); err != nil {
		return err
	}
	return os.Chdir("/")
}

// goTo makes dir if it is missing, as runtimes do, and goes there.
func goTo(dir string) error {
	if dir == "" {
		dir = "/"
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Chdir(dir)
}

// environment adds what a runtime adds where an image says nothing. Of a name
// that is given twice the last value counts.
func environment(given []string, home string, tty bool) []string {
	var env []string
	for _, e := range given {
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			continue
		}
		if i := indexVar(env, name); i >= 0 {
			env[i] = e
		} else {
			env = append(env, e)
		}
	}
	add := func(name, value string) {
		if indexVar(env, name) < 0 {
			env = append(env, name+"="+value)
		}
	}
	add("PATH", defaultPath)
	add("HOME", home)
	if tty {
		add("TERM", "xterm")
	}
	return env
}

func indexVar(env []string, name string) int {
	return slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
}

// lookUp finds a program as execvp does, and with its errors.
func lookUp(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, execError(name, runnable(name))
	}
	var found error
	for dir := range strings.SplitSeq(strings.TrimPrefix(env[indexVar(env, "PATH")], "PATH="), ":") {
		if dir == "" {
			dir = "."
		}
		p := filepath.Join(dir, name)
		err := runnable(p)
		if err == nil {
			return p, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			found = err
		}
	}
	if found != nil {
		return "", execError(name, found)
	}
	return "", &startError{fmt.Sprintf("exec: %q: executable file not found in $PATH", name), codeNotFound}
}

func runnable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		var pe *fs.PathError
		if errors.As(err, &pe) {
			return pe.Err
		}
		return err
	case info.IsDir():
		return syscall.EISDIR
	case info.Mode()&0o111 == 0:
		return syscall.EACCES
	}
	return nil
}

func execError(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return &startError{fmt.Sprintf("exec: %q: stat %s: no such file or directory", name, name), codeNotFound}
	case errors.Is(err, syscall.EISDIR):
		return &startError{fmt.Sprintf("exec: %q: is a directory", name), codeCannotRun}
	}
	return &startError{fmt.Sprintf("exec: %q: %v", name, err), codeCannotRun}
}

// readAnswers reads what a stub says until its program runs or it has ended.
func readAnswers(r io.Reader) (identity, error) {
	d := json.NewDecoder(io.LimitReader(r, 64<<10))
	var id *identity
	for {
		var a answer
		if err := d.Decode(&a); err != nil {
			if errors.Is(err, io.EOF) && id != nil {
				return *id, nil
			}
			return identity{}, &startError{"the start was interrupted", codeSetup}
		}
		if a.Error != "" {
			e := &startError{a.Error, a.Code}
			if id != nil {
				return *id, e
			}
			return identity{}, e
		}
		id = a.Identity
	}
}
