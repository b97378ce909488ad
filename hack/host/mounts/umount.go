package mounts

import (
	"context"
	"errors"
	"slices"
	"syscall"

	"reddwarf.io/reddwarf/hack/host/program"
)

// umount is /usr/sbin/umount.
func (m *Model) umount(ctx context.Context, inv *program.Invocation) int {
	usage := func() int {
		inv.Errf("Usage:\numount [-f] [-V] [-o specific_options] {special | mount-point}\n" +
			"umount -a [-f] [-V] [-o specific_options] [mount_point ...]\n")
		return 1
	}
	force := false
	found, rest := getopt(inv, "umount", "ado:Vf?", inv.Args())
	for _, o := range found {
		switch o.flag {
		case 'f':
			force = true
		case '?', 'd':
			return usage()
		default:
			inv.Errf("simulated host: umount -%c is not modelled\n", o.flag)
			return 1
		}
	}
	if len(rest) != 1 {
		return usage()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name := rest[0]
	number, ok := 0, false
	if real, err := m.cfg.Resolve(name); err == nil {
		number, ok = m.last(func(e Entry) bool { return e.Point == real })
	}
	if !ok {
		number, ok = m.last(func(e Entry) bool { return e.Point == name || e.Special == name })
	}
	if !ok {
		if slices.ContainsFunc(m.cfg.Others(), func(e Entry) bool { return e.Point == name || e.Special == name }) {
			inv.Errf("simulated host: umount of a file system that mount(8) did not mount is not modelled\n")
			return 1
		}
		inv.Errf("umount: warning: %s not in mnttab\numount: %s not mounted\n", name, name)
		return 1
	}
	return m.take(ctx, inv, number, force)
}

// take unmounts one entry: nfs has a program of its own, lofs has none and
// cannot be forced.
func (m *Model) take(ctx context.Context, inv *program.Invocation, number int, force bool) int {
	e := m.table[number]
	if e.Type == "lofs" && force {
		inv.Errf("umount: Operation not supported\numount: cannot unmount %s\n", e.Point)
		return 1
	}
	err := error(nil)
	if m.busy(number) && !force {
		err = syscall.EBUSY
	}
	if err == nil {
		err = m.cfg.Backend.Unmount(ctx, e.Point)
	}
	switch {
	case err == nil:
		m.table = slices.Delete(m.table, number, number+1)
		return 0
	case e.Type == "nfs" && errors.Is(err, syscall.EBUSY):
		inv.Errf("nfs umount: %s: is busy\n", e.Point)
		return 32
	case e.Type == "nfs":
		inv.Errf("nfs umount: %s: not mounted\n", e.Point)
		return 32
	case errors.Is(err, syscall.EBUSY):
		inv.Errf("umount: %s busy\n", e.Point)
	default:
		inv.Errf("umount: %s\numount: cannot unmount %s\n", errnoText(err), e.Point)
	}
	return 1
}
