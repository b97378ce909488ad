package host

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// dispatcher runs commands by name, with their faults and their trace.
type dispatcher struct {
	commands map[string]program.Command
	clock    func() time.Time
	faults   faults
	tracer   tracer
}

// has reports whether there is a command of that name.
func (d *dispatcher) has(name string) bool {
	_, ok := d.commands[name]
	return ok
}

// do runs one invocation of a command that exists. kill kills the caller, for
// the faults that do so.
func (d *dispatcher) do(ctx context.Context, inv *program.Invocation, kill func()) int {
	if !d.has(inv.Argv[0]) {
		inv.Errf("%s: this host has no such command\n", inv.Argv[0])
		return 127
	}
	finish := func(int, time.Time) Record { return Record{} }
	traced := d.tracer.on()
	if traced {
		finish = watch(inv, d.clock())
	}
	code := meet(ctx, d.faults.due(inv.Argv), inv, kill, func() int {
		return d.commands[inv.Argv[0]](ctx, inv)
	})
	if traced {
		d.tracer.write(finish(code, d.clock()))
	}
	return code
}

// files are the files of this machine, as a process in dir sees them.
type files struct {
	dir string
}

func (f files) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.dir, name)
}

func (f files) Open(name string) (io.ReadCloser, error) { return os.Open(f.path(name)) }

func (f files) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(f.path(name)) }

// Files returns the files of this machine for commands that run in dir.
func Files(dir string) program.Files { return files{dir: dir} }
