package supervisor

import (
	"bufio"
	"os"
	"strings"
)

func isLX() bool { return false }

// sbin is where the global zone's /sbin is: the brand mounts it into the zone.
func (m mounter) sbin(program string) string {
	if m.host {
		return "/sbin/" + program
	}
	return "/native/sbin/" + program
}

// bind makes source visible at target with a lofs mount, by mount(8): Go has no
// mount(2) for illumos.
func (m mounter) bind(source, target *place, flags mountFlags) error {
	options := []string{"rw"}
	if flags.readOnly {
		options = []string{"ro"}
	}
	if flags.noSetuid {
		options = append(options, "nosuid")
	}
	return m.reaper.command(m.sbin("mount"), []string{"-F", "lofs", "-o", strings.Join(options, ","), source.path, target.path})
}

func (m mounter) unmount(path string, force bool) error {
	if force {
		return m.reaper.command(m.sbin("umount"), []string{"-f", path})
	}
	return m.reaper.command(m.sbin("umount"), []string{path})
}

func mountPoints() ([]string, error) {
	f, err := os.Open("/etc/mnttab")
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	var points []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Split(lines.Text(), "\t"); len(fields) > 1 {
			points = append(points, fields[1])
		}
	}
	return points, lines.Err()
}

// systemWishes are what every container has. A container of the global zone also
// gets the host's system, which in a native zone is said in the spec, and what
// programs that manage the host need: the devices behind /dev, contracts, and
// the doors of the daemons.
func systemWishes(host bool) []wish {
	list := []wish{
		{from: "/", source: "proc", target: "/proc"},
		{from: "/", source: "dev", target: "/dev"},
	}
	if !host {
		return list
	}
	ro := mountFlags{readOnly: true}
	return append(list,
		wish{from: "/", source: "usr", target: "/usr", flags: ro},
		wish{from: "/", source: "lib", target: "/lib", flags: ro},
		wish{from: "/", source: "sbin", target: "/sbin", flags: ro},
		wish{from: "/", source: "devices", target: "/devices"},
		wish{from: "/", source: "system/contract", target: "/system/contract"},
		wish{from: "/", source: "etc/svc/volatile", target: "/etc/svc/volatile"},
		wish{from: "/", source: "var/run", target: "/var/run"},
	)
}

// illumos has no handles that do not make a mount point busy.
func pinDir(*os.Root) (*os.File, error)          { return nil, nil }
func pinFile(*os.Root, string) (*os.File, error) { return nil, nil }
