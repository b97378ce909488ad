// Package hostpods runs containers as processes of the global zone, supervised
// by a podinit of their own. A host pod is to it what a zone is to package
// zones: it is configured, installed, booted and halted, with the same states
// and the same promise that every step can be repeated.
//
// It is not an isolation: what runs in a host pod is root on the host. Who may
// have one is the caller's to decide.
//
// A host pod outlives the agent. Its podinit is started in a process contract
// of its own (ctrun(1)), so that SMF does not end it with the agent's service,
// and is found again by the lock that it holds.
package hostpods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/command"
	"reddwarf.io/reddwarf/zones/podinit"
)

// Brand is what zones.Zone and zones.Config say of a host pod. No brand of
// brands(7) is called so.
const Brand = "host"

const (
	// recordFile is what zonecfg's and zoneadm's files are for a zone. It lies
	// in the pod's own directory, as HostFile does.
	recordFile = "host-record.json"

	// version is the record's. Another one is an error rather than a guess.
	version = 1
)

// How long podinit may take to take its lock, and to end its containers.
const (
	startTime = 10 * time.Second
	stopTime  = 10 * time.Second
	pause     = 20 * time.Millisecond
)

// Host runs the host pods of one machine. Its methods may be called from
// several goroutines for different pods.
type Host struct {
	run         command.Runner
	dir, prefix string
	podinit     string
}

// New returns the Host whose pods each have a directory in dir, called as the
// pod without prefix, and whose containers are supervised by the program
// podinit.
func New(run command.Runner, dir, prefix, podinit string) *Host {
	return &Host{run: run, dir: dir, prefix: prefix, podinit: podinit}
}

// dirOf returns the directory of a pod, or "" where that name has none.
func (h *Host) dirOf(name string) string {
	base, ok := strings.CutPrefix(name, h.prefix)
	if !ok || base == "" || base == "." || base == ".." || strings.ContainsRune(base, filepath.Separator) {
		return ""
	}
	return filepath.Join(h.dir, base)
}

// record is all that is remembered of a host pod.
type record struct {
	Version int          `json:"version"`
	State   string       `json:"state"` // configured, installed or booted
	Config  zones.Config `json:"config"`
}

const (
	configured = "configured"
	installed  = "installed"
	booted     = "booted" // and not halted since, whether or not it runs
)

// List returns every host pod of this machine, in no order.
func (h *Host) List(context.Context) ([]zones.Zone, error) {
	entries, err := os.ReadDir(h.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("host pods: %w", err)
	}
	var all []zones.Zone
	for _, e := range entries {
		dir := filepath.Join(h.dir, e.Name())
		r, err := read(dir)
		if err != nil {
			// A pod with a zone, or with neither yet. One whose record cannot be
			// read is left out, as zoneadm leaves out a zone: its own steps will
			// say so, and nobody else's wait for it.
			continue
		}
		z := zones.Zone{ID: -1, Name: r.Config.Name, Path: dir, Brand: Brand, IPType: "shared"}
		if z.State, err = state(dir, r); err != nil {
			return nil, err
		}
		if z.State == zones.Running {
			z.ID = 0 // the global zone's
		}
		all = append(all, z)
	}
	return all, nil
}

// Has reports whether a host pod of that name is configured.
func (h *Host) Has(name string) bool {
	_, _, err := h.find(name)
	return err == nil
}

// state is the pod's as a zone's. One that was booted and has no podinit is
// Down: its containers may still run, and have to be ended before anything else.
func state(dir string, r record) (zones.State, error) {
	switch r.State {
	case configured:
		return zones.Configured, nil
	case installed:
		return zones.Installed, nil
	}
	pid, err := lockHolder(dir)
	if err != nil {
		return zones.Absent, err
	}
	if pid == 0 {
		return zones.Down, nil
	}
	return zones.Running, nil
}

// lockHolder returns the process that runs the pod in dir, or 0.
func lockHolder(dir string) (int, error) {
	f, err := os.Open(filepath.Join(dir, podinit.HostLockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("host pod: lock: %w", err)
	}
	defer f.Close() //nolint:errcheck // only asked
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, fmt.Errorf("host pod: lock %s: %w", f.Name(), err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}

// Configure makes c the configuration of a host pod, as zonecfg would a zone's.
// c's mounts below /c are the containers' roots, those below /v the volumes;
// links and limits are an error, because a process of the global zone has none
// of its own. A pod that is installed already is a zones.ErrState.
func (h *Host) Configure(_ context.Context, c zones.Config) error {
	if err := h.check(c); err != nil {
		return fmt.Errorf("host pod %s: configure: %w", c.Name, err)
	}
	before, err := read(c.Path)
	if err == nil && before.State != configured {
		return fmt.Errorf("host pod %s: configure: %w: %s", c.Name, zones.ErrState, before.State)
	}
	return write(c.Path, record{Version: version, State: configured, Config: c})
}

func (h *Host) check(c zones.Config) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if dir := h.dirOf(c.Name); dir == "" || c.Path != dir {
		fault("path %q is not that of a pod of this name in %s", c.Path, h.dir)
	}
	if len(c.Links) > 0 {
		fault("it has links, but its network is the host's")
	}
	if c.CPUCap != 0 || c.Memory != (zones.Memory{}) {
		fault("it has limits, which nothing enforces in the global zone")
	}
	for _, m := range c.Mounts {
		_, volume := volumeName(m.Target)
		_, root := rootOf(m.Target)
		switch {
		case m.Type == "zfs" && (root || volume), m.Type == "lofs" && volume && filepath.IsAbs(m.Source):
		default:
			fault("it cannot mount %s %q at %q", m.Type, m.Source, m.Target)
		}
	}
	return errors.Join(faults...)
}

// volumeName returns the name of the volume that a zone would have at target.
func volumeName(target string) (string, bool) { return below(target, podinit.VolumeDir) }

// rootOf returns the container whose root a zone would have at target.
func rootOf(target string) (string, bool) { return below(target, podinit.ContainerDir) }

func below(target, dir string) (string, bool) {
	name, ok := strings.CutPrefix(target, dir+"/")
	return name, ok && name != "" && !strings.Contains(name, "/") && name != "." && name != ".."
}

// SetLimits refuses limits: nothing would enforce them. Shares mean nothing
// here and are passed over, as Configure does.
func (h *Host) SetLimits(_ context.Context, name string, l zones.Limits) error {
	if l.CPUCap != 0 || l.Memory != (zones.Memory{}) {
		return fmt.Errorf("host pod %s: it cannot have limits, which nothing enforces in the global zone", name)
	}
	return nil
}

// Attrs returns the attributes that a host pod was configured with. One that is
// not there is a zones.ErrNotFound.
func (h *Host) Attrs(_ context.Context, name string) (map[string]string, error) {
	_, r, err := h.find(name)
	if err != nil {
		return nil, err
	}
	attrs := make(map[string]string, len(r.Config.Attrs))
	for _, a := range r.Config.Attrs {
		attrs[a.Name] = a.Value
	}
	return attrs, nil
}

// MarkInstalled declares that what the containers need has been prepared.
func (h *Host) MarkInstalled(_ context.Context, name string) error {
	return h.mark(name, installed)
}

// MarkConfigured declares the contrary. The pod must not have been booted
// since it was last halted.
func (h *Host) MarkConfigured(_ context.Context, name string) error {
	return h.mark(name, configured)
}

func (h *Host) mark(name, as string) error {
	dir, r, err := h.find(name)
	if err != nil {
		return err
	}
	if r.State == booted {
		return fmt.Errorf("host pod %s: mark %s: %w: it was not halted", name, as, zones.ErrState)
	}
	r.State = as
	return write(dir, r)
}

// Boot mounts the containers' roots and starts the pod's podinit. It returns
// when that runs. Booting a pod that runs does nothing.
func (h *Host) Boot(ctx context.Context, name string) error {
	dir, r, err := h.find(name)
	if err != nil {
		return err
	}
	pid, err := lockHolder(dir)
	if err != nil || pid != 0 {
		return err
	}
	if r.State == configured {
		return fmt.Errorf("host pod %s: boot: %w: %s", name, zones.ErrState, r.State)
	}
	told := podinit.HostPod{Version: podinit.Version, Volumes: map[string]podinit.HostVolume{}}
	// From here on there is something to halt.
	r.State = booted
	if err := write(dir, r); err != nil {
		return err
	}
	for _, m := range r.Config.Mounts {
		at := m.Source
		if m.Type == "zfs" {
			at = filepath.Join(dir, podinit.HostRoot, m.Target)
			if err := h.mount(ctx, m.Source, at); err != nil {
				return fmt.Errorf("host pod %s: boot: %w", name, err)
			}
		}
		if volume, ok := volumeName(m.Target); ok {
			told.Volumes[volume] = podinit.HostVolume{Path: at, ReadOnly: slices.Contains(m.Options, "ro")}
		}
	}
	data, err := json.Marshal(told)
	if err != nil {
		return err
	}
	if err := writeFile(dir, podinit.HostFile, data); err != nil {
		return err
	}
	// -l none: ctrun gives the contract up as soon as the program runs, and
	// nobody's end is the program's.
	if _, err := h.run.Run(ctx, command.New("ctrun", "-l", "none", h.podinit, "host", dir)); err != nil {
		return fmt.Errorf("host pod %s: boot: %w", name, err)
	}
	return h.await(ctx, dir, name)
}

// mount mounts a dataset, whose mountpoint was legacy, in the global zone.
func (h *Host) mount(ctx context.Context, dataset, at string) error {
	// Setting the property mounts the file system, unless it has that value
	// already: then a reboot may have left it unmounted.
	out, err := h.run.Run(ctx, command.New("zfs", "get", "-Hp", "-o", "value", "mountpoint,mounted", dataset))
	if err != nil {
		return err
	}
	switch have := strings.Fields(string(out)); {
	case len(have) != 2:
		return fmt.Errorf("zfs get printed %q for mountpoint and mounted of %s", out, dataset)
	case have[0] != at:
		_, err = h.run.Run(ctx, command.New("zfs", "set", "mountpoint="+at, dataset))
	case have[1] != "yes":
		_, err = h.run.Run(ctx, command.New("zfs", "mount", dataset))
	}
	return err
}

// await returns when the pod's podinit has its lock, or with what it said.
func (h *Host) await(ctx context.Context, dir, name string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	err := until(ctx, func() (bool, error) {
		pid, err := lockHolder(dir)
		return pid != 0, err
	})
	if err != nil {
		return fmt.Errorf("host pod %s: podinit did not start: %w: %s", name, err, lastWords(filepath.Join(dir, podinit.HostConsole)))
	}
	return nil
}

// lastWords returns the end of a console file.
func lastWords(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close() //nolint:errcheck // only read
	const most = 1024
	if info, err := f.Stat(); err == nil && info.Size() > most {
		f.Seek(-most, io.SeekEnd) //nolint:errcheck // then more is read
	}
	b, _ := io.ReadAll(io.LimitReader(f, most)) //nolint:errcheck // words for people
	return strings.TrimSpace(string(b))
}

// until polls done until it is true, fails, or ctx ends.
func until(ctx context.Context, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// Halt ends every process of a host pod and unmounts what Boot mounted. A pod
// that does not run, or is not there, is no error.
func (h *Host) Halt(ctx context.Context, name string) error {
	dir, r, err := h.find(name)
	if errors.Is(err, zones.ErrNotFound) {
		return nil
	}
	if err != nil || r.State != booted {
		return err
	}
	if err := h.stop(ctx, dir); err != nil {
		return fmt.Errorf("host pod %s: halt: %w", name, err)
	}
	// Whatever a killed podinit has left behind.
	if _, err := h.run.Run(ctx, command.New(h.podinit, "sweep", dir)); err != nil {
		return fmt.Errorf("host pod %s: halt: %w", name, err)
	}
	for _, m := range r.Config.Mounts {
		if m.Type != "zfs" {
			continue
		}
		if _, err := h.run.Run(ctx, command.New("zfs", "set", "mountpoint=legacy", m.Source)); err != nil {
			return fmt.Errorf("host pod %s: halt: %w", name, err)
		}
	}
	r.State = installed
	return write(dir, r)
}

// stop ends the pod's podinit, which ends its containers first if it can.
func (h *Host) stop(ctx context.Context, dir string) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		pid, err := lockHolder(dir)
		if err != nil || pid == 0 {
			return err
		}
		// The lock is held now, so the number is that process's.
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("%v to podinit (process %d): %w", sig, pid, err)
		}
		wait, cancel := context.WithTimeout(ctx, stopTime)
		err = until(wait, func() (bool, error) {
			now, err := lockHolder(dir)
			return now != pid, err
		})
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return errors.New("podinit does not end")
}

// Delete removes a host pod's configuration. One that is not there is no error;
// one that was not halted is.
func (h *Host) Delete(_ context.Context, name string) error {
	dir, r, err := h.find(name)
	if errors.Is(err, zones.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if r.State == booted {
		return fmt.Errorf("host pod %s: delete: %w: it was not halted", name, zones.ErrState)
	}
	for _, file := range []string{podinit.HostFile, recordFile} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("host pod %s: delete: %w", name, err)
		}
	}
	return nil
}

// find returns the directory and the record of the host pod of that name.
func (h *Host) find(name string) (dir string, r record, err error) {
	if dir = h.dirOf(name); dir == "" {
		return "", record{}, fmt.Errorf("host pod %s: %w", name, zones.ErrNotFound)
	}
	r, err = read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", record{}, fmt.Errorf("host pod %s: %w", name, zones.ErrNotFound)
	case err != nil:
		return "", record{}, fmt.Errorf("host pod %s: %w", name, err)
	case r.Config.Name != name:
		return "", record{}, fmt.Errorf("host pod %s: %s is the record of %q", name, filepath.Join(dir, recordFile), r.Config.Name)
	}
	return dir, r, nil
}

// maxRecord bounds what is read back.
const maxRecord = 1 << 20

func read(dir string) (record, error) {
	f, err := os.Open(filepath.Join(dir, recordFile))
	if err != nil {
		return record{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return record{}, fmt.Errorf("host pod: %w", err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("host pod: %s: %w", f.Name(), err)
	}
	if r.Version != version {
		return record{}, fmt.Errorf("host pod: %s: version %d, want %d", f.Name(), r.Version, version)
	}
	return r, nil
}

func write(dir string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(dir, recordFile, data)
}

// writeFile replaces a file at once and durably: after a power cut it is the
// old one or the new one.
func writeFile(dir, name string, data []byte) error {
	fail := func(err error) error { return fmt.Errorf("host pod: write %s: %w", filepath.Join(dir, name), err) }
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return fail(err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return fail(errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
