// Package mounts models mount(8) and umount(8) of the global zone, for the file
// systems lofs and nfs, after cmd/fs.d of illumos: mount.c, umount.c,
// lofs/mount/mount.c, nfs/mount/mount.c and nfs/umount/umount.c.
//
// It keeps the part of /etc/mnttab that these commands made. A Backend makes
// the mounts real. What it does not know it refuses with a line that begins
// with "simulated host:".
package mounts

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/hack/host/program"
)

// Config says what the mounts are made on.
type Config struct {
	Backend Backend // nil: they are in the table only
	Servers Servers // NFS servers; nil: there are none
	Clock   func() time.Time

	// Resolve is realpath(3C); nil: no path has links.
	Resolve func(path string) (string, error)

	// InZone reports whether a zone has something mounted that lies in dir: it
	// holds dir busy.
	InZone func(dir string) bool

	// Others returns the rest of the table, such as datasets.
	Others func() []Entry
}

// Backend makes mounts real.
type Backend interface {
	// Mount shows the file or directory source, and for lofs what is mounted
	// below it, at point, which is of the same kind.
	Mount(ctx context.Context, source, point string, o Options) error

	// Unmount takes away what was mounted last at point. It fails with
	// syscall.EBUSY while something uses it.
	Unmount(ctx context.Context, point string) error
}

// Options are what a mount adds to its source.
type Options struct {
	ReadOnly, NoDevices, NoSetuid, NoExec bool
}

// Servers are the NFS servers of the network.
type Servers interface {
	// Export returns the directory that stands for what a server exports under
	// a path: ErrNoHost, ErrSilent, fs.ErrNotExist or fs.ErrPermission say why
	// there is none.
	Export(server, path string) (dir string, err error)
}

// How a server can fail.
var (
	ErrNoHost = errors.New("unknown host")
	ErrSilent = errors.New("server does not respond")
)

// Entry is a line of /etc/mnttab.
type Entry struct {
	Special, Point, Type string
	Options              []string
	Time                 time.Time
}

// Model is the mount table. Its methods may be called at the same time.
type Model struct {
	cfg Config

	mu    sync.Mutex
	table []Entry // in the order in which they were mounted
}

// New returns a host on which nothing is mounted by hand.
func New(c Config) *Model {
	if c.Backend == nil {
		c.Backend = memory{}
	}
	if c.Servers == nil {
		c.Servers = noServers{}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Resolve == nil {
		c.Resolve = func(p string) (string, error) { return path.Clean(p), nil }
	}
	if c.InZone == nil {
		c.InZone = func(string) bool { return false }
	}
	if c.Others == nil {
		c.Others = func() []Entry { return nil }
	}
	return &Model{cfg: c}
}

// Commands returns the commands by name.
func (m *Model) Commands() map[string]program.Command {
	return map[string]program.Command{"mount": m.mount, "umount": m.umount}
}

// Save returns nothing: the table is the kernel's and does not outlive it.
func (m *Model) Save() ([]byte, error) { return []byte("null"), nil }

// Load does nothing.
func (m *Model) Load([]byte) error { return nil }

// Reboot takes everything away, newest first.
func (m *Model) Reboot(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, e := range slices.Backward(m.table) {
		errs = append(errs, m.cfg.Backend.Unmount(ctx, e.Point))
	}
	m.table = nil
	return errors.Join(errs...)
}

// last returns the newest entry that match accepts.
func (m *Model) last(match func(Entry) bool) (int, bool) {
	for i := len(m.table) - 1; i >= 0; i-- {
		if match(m.table[i]) {
			return i, true
		}
	}
	return 0, false
}

// busy says whether the mount with that number cannot be taken away, as far as
// the kernel's reference counts go: other mounts show it or lie below it. The
// backend knows of processes.
func (m *Model) busy(number int) bool {
	e := m.table[number]
	for i, other := range m.table {
		if i != number && (other.Type == "lofs" && within(other.Special, e.Point) || i > number && within(other.Point, e.Point)) {
			return true
		}
	}
	return m.cfg.InZone(e.Point)
}

func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// errnoText is strerror(3C) of illumos for what can happen here.
func errnoText(err error) string {
	for _, e := range []struct {
		err  error
		text string
	}{
		{fs.ErrNotExist, "No such file or directory"}, {fs.ErrPermission, "Permission denied"}, {syscall.EBUSY, "Device busy"},
		{syscall.ENOTDIR, "Not a directory"}, {syscall.EISDIR, "Is a directory"}, {syscall.EINVAL, "Invalid argument"},
		{syscall.EROFS, "Read-only file system"},
	} {
		if errors.Is(err, e.err) {
			return e.text
		}
	}
	return err.Error()
}

type memory struct{}

func (memory) Mount(context.Context, string, string, Options) error { return nil }
func (memory) Unmount(context.Context, string) error                { return nil }

type noServers struct{}

func (noServers) Export(string, string) (string, error) { return "", ErrNoHost }
