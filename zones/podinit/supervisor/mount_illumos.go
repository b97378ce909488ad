package supervisor

import (
	"bufio"
	"os"
	"strings"
)

func isLX() bool { return false }

// programs of the global zone that the brand mounts into the zone.
const (
	mountProgram  = "/native/sbin/mount"
	umountProgram = "/native/sbin/umount"
)

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
	return m.reaper.command(mountProgram, []string{"-F", "lofs", "-o", strings.Join(options, ","), source.path, target.path})
}

func (m mounter) unmount(path string, force bool) error {
	if force {
		return m.reaper.command(umountProgram, []string{"-f", path})
	}
	return m.reaper.command(umountProgram, []string{path})
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

// systemWishes are what every container has. Its libc and programs are the
// host's, which the brand mounts into the zone: an image brings neither.
func systemWishes() []wish {
	ro := mountFlags{readOnly: true}
	return []wish{
		{from: "/", source: "proc", target: "/proc"},
		{from: "/", source: "dev", target: "/dev"},
		{from: "/", source: "usr", target: "/usr", flags: ro},
		{from: "/", source: "lib", target: "/lib", flags: ro},
		{from: "/", source: "native/sbin", target: "/sbin", flags: ro},
	}
}

// illumos has no handles that do not make a mount point busy.
func pinDir(*os.Root) (*os.File, error)          { return nil, nil }
func pinFile(*os.Root, string) (*os.File, error) { return nil, nil }
