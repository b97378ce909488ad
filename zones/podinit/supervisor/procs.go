package supervisor

import (
	"os"
	"strings"
	"time"
)

// proc is what /proc says of a process.
type proc struct {
	pid, ppid, pgid, sid int
	root                 string        // empty if it could not be read
	program              string        // as root
	cpu                  time.Duration // its own and that of the children that it waited for
	rss                  uint64        // bytes
}

// members returns the living processes of a container.
//
// There is no cgroup to ask, and no process 1 of its own, so three things are
// looked at. A process is the container's if its root directory is the
// container's root or below it: that stays so through fork, setsid and the
// death of parents, and only a chroot by root can change it. It is too if it
// descends from, or is in a session or group of, a process that podinit started
// in the container, as after such a chroot. What has escaped both ways belongs
// to no container at all; process 1 knows every process that is not of a
// container, so it counts such strays to whichever container is asked about.
func (c *container) members() []int { return c.among(processes()) }

// among returns those of all that are the container's.
func (c *container) among(all []proc) []int {
	c.mu.Lock()
	leads := make(map[int]bool, len(c.leads))
	for pid := range c.leads {
		leads[pid] = true
	}
	c.mu.Unlock()
	at := make(map[int]proc, len(all))
	for _, p := range all {
		at[p.pid] = p
	}
	mine := []string{c.home(), c.s.config.view(c.spec.Name)}
	roots := c.s.config.roots()
	var found []int
	for _, p := range all {
		switch {
		case p.pid == os.Getpid():
		case within(p.root, mine):
			found = append(found, p.pid)
		case within(p.root, roots): // another container's, whatever its parents
		case descends(p, leads, at):
			found = append(found, p.pid)
		case c.s.config.Zone && c.s.stray(p, at):
			found = append(found, p.pid)
		}
	}
	return found
}

func within(path string, dirs []string) bool {
	path = strings.TrimSuffix(path, " (deleted)")
	for _, d := range dirs {
		if path == d || strings.HasPrefix(path, strings.TrimSuffix(d, "/")+"/") {
			return true
		}
	}
	return false
}

// descends says whether p has one of leads as an ancestor or as the leader of
// its session or group. A loop cannot be, but /proc is not read at one moment.
func descends(p proc, leads map[int]bool, at map[int]proc) bool {
	if leads[p.pid] || leads[p.sid] || leads[p.pgid] {
		return true
	}
	for range 1000 {
		parent, ok := at[p.ppid]
		if !ok || parent.pid == os.Getpid() {
			return false
		}
		if leads[parent.pid] {
			return true
		}
		p = parent
	}
	return false
}

// stray says whether p is neither podinit's nor any container's. podinit's
// own program with the zone's root is a stub on its way, or a relay that came
// in from the global zone.
func (s *Supervisor) stray(p proc, at map[int]proc) bool {
	if p.program == "" || p.root == "" {
		return false // a kernel's process, or gone
	}
	if p.root == "/" && p.program == s.config.Self || s.brands[p.pid] == p.program {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range s.containers {
		if other.owns(p, at) {
			return false
		}
	}
	return true
}

// owns says whether p descends from what podinit started in a container that
// still lives.
func (c *container) owns(p proc, at map[int]proc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.ended && descends(p, c.leads, at)
}
