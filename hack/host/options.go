package host

import (
	"io"
	"time"

	"reddwarf.io/reddwarf/hack/host/datalink"
	"reddwarf.io/reddwarf/hack/host/ipf"
	"reddwarf.io/reddwarf/hack/host/mounts"
	"reddwarf.io/reddwarf/hack/host/zfs"
	"reddwarf.io/reddwarf/hack/host/zones"
)

// Option changes what NewModel makes.
type Option func(*options)

type options struct {
	distro   string
	hostname string
	cpus     int
	memory   uint64
	pool     string
	poolSize uint64
	uplinks  []datalink.Physical
	backends Backends
	servers  mounts.Servers
	paths    zones.Paths
	clock    func() time.Time
	trace    io.Writer
	log      func(zone, message string)
	kill     func()
}

// defaults are a small machine with OmniOS.
func defaults() options {
	return options{
		distro: "omnios", hostname: "host", cpus: 4, memory: 8 << 30, pool: "rpool", poolSize: 20 << 30,
		uplinks: []datalink.Physical{{Name: "net0", MAC: []byte{0x02, 0x08, 0x20, 0, 0, 1}}},
		clock:   time.Now, kill: func() {},
	}
}

// Backends make a host's effects real. A nil one leaves that part in memory.
type Backends struct {
	Zones  zones.Backend
	Links  datalink.Backend
	NAT    ipf.Backend
	ZFS    zfs.Backend
	Mounts mounts.Backend
}

// Distro makes the host another distribution than omnios: smartos or
// openindiana.
func Distro(name string) Option { return func(o *options) { o.distro = name } }

// Hostname sets what uname -n says.
func Hostname(name string) Option { return func(o *options) { o.hostname = name } }

// CPUs sets the number of processors that the host shows.
func CPUs(n int) Option { return func(o *options) { o.cpus = n } }

// Memory sets the bytes of memory that the host shows.
func Memory(bytes uint64) Option { return func(o *options) { o.memory = bytes } }

// Pool sets the name of the host's pool and its size in bytes.
func Pool(name string, size uint64) Option {
	return func(o *options) { o.pool, o.poolSize = name, size }
}

// Uplinks sets the host's network cards.
func Uplinks(cards ...datalink.Physical) Option { return func(o *options) { o.uplinks = cards } }

// WithBackends makes effects real.
func WithBackends(b Backends) Option { return func(o *options) { o.backends = b } }

// NFS sets the servers that mount -F nfs finds. The default is none.
func NFS(s mounts.Servers) Option { return func(o *options) { o.servers = s } }

// Paths sets the file system that zoneadm looks at. The default is one in
// memory, in which every zonepath is as it should be.
func Paths(p zones.Paths) Option { return func(o *options) { o.paths = p } }

// Clock sets where the host takes the time from.
func Clock(now func() time.Time) Option { return func(o *options) { o.clock = now } }

// TraceTo traces every command to w, see Model.Trace.
func TraceTo(w io.Writer) Option { return func(o *options) { o.trace = w } }

// Log gets what zoneadmd tells syslog and the zones' consoles.
func Log(f func(zone, message string)) Option { return func(o *options) { o.log = f } }

// OnKill sets what the faults that kill the agent do where the agent is part
// of this process.
func OnKill(f func()) Option { return func(o *options) { o.kill = f } }
