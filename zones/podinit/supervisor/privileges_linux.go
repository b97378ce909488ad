package supervisor

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"reddwarf.io/reddwarf/zones/podinit"
)

// hasNoNewPrivileges says whether the system has no_new_privs. An lx zone has
// not; there the container's root is mounted without set-user-id instead.
func hasNoNewPrivileges() bool {
	_, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	return err == nil
}

// closeOnExec makes sure that nothing but the standard streams survives execve.
func closeOnExec() {
	if unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		for fd := 3; fd < 1024; fd++ {
			unix.CloseOnExec(fd)
		}
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// takeOn sets groups, user and capabilities of the calling thread, in the order
// in which each is still allowed.
func takeOn(id identity, c podinit.Container) error {
	want, err := capabilities(c)
	if err != nil {
		return err
	}
	have, err := permitted()
	if err != nil {
		return err
	}
	defaults, err := capabilities(podinit.Container{})
	if err != nil {
		return err
	}
	for _, name := range c.AddCapabilities {
		if one, err := capSet(name); err == nil && one != allCaps && one&^(have|defaults) != 0 {
			return fmt.Errorf("capability %s is none that this zone has", name)
		}
	}
	want &= have // never more than the zone's
	if err := dropBounding(want); err != nil {
		return err
	}
	if c.NoNewPrivileges && hasNoNewPrivileges() {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no_new_privs: %w", err)
		}
	}
	if id.UID == 0 {
		if err := setIDs(id); err != nil {
			return err
		}
		return setCapabilities(want)
	}
	return becomeUser(id, want&bindService)
}

// bindService is what lets a user other than root listen on ports below 1024.
const bindService = 1 << unix.CAP_NET_BIND_SERVICE

// becomeUser sets the ids of a user who is not root. All capabilities go with
// root but keep: container runtimes let everybody listen on every port
// (net.ipv4.ip_unprivileged_port_start=0), and images count on it; illumos has
// no such setting below 1024, only the privilege.
func becomeUser(id identity, keep uint64) error {
	if keep == 0 {
		return setIDs(id)
	}
	if isLX() {
		// What is inheritable survives execve, and nothing else does. The brand
		// sets it only together with a change of the effective set.
		ids := uint64(1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID)
		if err := capset(keep|ids, keep); err != nil {
			return err
		}
		return setIDs(id)
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := setIDs(id); err != nil {
		return err
	}
	if err := capset(keep, keep); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_BIND_SERVICE, 0, 0); err != nil {
		return fmt.Errorf("ambient capability: %w", err)
	}
	return nil
}

// setIDs calls the system itself: package syscall's functions act on every
// thread of the process, which have other capabilities by now.
func setIDs(id identity) error {
	groups := make([]uint32, len(id.Groups))
	for i, g := range id.Groups {
		groups[i] = uint32(g)
	}
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); e != 0 {
		return fmt.Errorf("setgroups: %w", e)
	}
	g := uintptr(id.GID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, g, g, g); e != 0 {
		return fmt.Errorf("setgid %d: %w", id.GID, e)
	}
	u := uintptr(id.UID)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, u, u, u); e != 0 {
		return fmt.Errorf("setuid %d: %w", id.UID, e)
	}
	return nil
}

// capNames are Linux' capabilities in the order of their numbers.
const capNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE " +
	"NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT " +
	"SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE " +
	"AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ " +
	"PERFMON BPF CHECKPOINT_RESTORE"

// defaultCaps are what a container runtime gives a container.
const defaultCaps = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP " +
	"NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"

const allCaps = ^uint64(0)

// capSet returns the set of a name, with or without CAP_, or of ALL.
func capSet(name string) (uint64, error) {
	name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	if name == "ALL" {
		return allCaps, nil
	}
	for i, n := range strings.Fields(capNames) {
		if n == name {
			return 1 << i, nil
		}
	}
	return 0, fmt.Errorf("unknown capability %q", name)
}

// capabilities returns what a container should have. Dropping ALL comes before
// adding some, adding ALL before dropping some, as a kubelet has it.
func capabilities(c podinit.Container) (uint64, error) {
	var set, add, drop uint64
	for _, n := range strings.Fields(defaultCaps) {
		one, err := capSet(n)
		if err != nil {
			return 0, err
		}
		set |= one
	}
	for _, list := range []struct {
		names []string
		into  *uint64
	}{{c.AddCapabilities, &add}, {c.DropCapabilities, &drop}} {
		for _, n := range list.names {
			one, err := capSet(n)
			if err != nil {
				return 0, err
			}
			*list.into |= one
		}
	}
	if drop == allCaps {
		return add, nil
	}
	return (set | add) &^ drop, nil
}

func permitted() (uint64, error) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return 0, fmt.Errorf("capget: %w", err)
	}
	return uint64(d[0].Permitted) | uint64(d[1].Permitted)<<32, nil
}

// dropBounding takes everything but keep from what the process and its
// children can ever have.
func dropBounding(keep uint64) error {
	for i := range len(strings.Fields(capNames)) {
		if keep&(1<<i) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(i), 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) { // a kernel that does not know that one
			return fmt.Errorf("drop capability %d: %w", i, err)
		}
	}
	return nil
}

// setCapabilities sets what root has. They are not inheritable on Linux, where
// execve gives root its bounding set. An lx zone has no bounding set, and there
// only the inheritable set survives execve.
func setCapabilities(set uint64) error {
	if isLX() {
		return capset(set, set)
	}
	return capset(set, 0)
}

// capset sets the capabilities of the calling thread. Ambient ones go with
// their permission.
func capset(permitted, inheritable uint64) error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	for i := range d {
		half := uint32(permitted >> (32 * i))
		d[i] = unix.CapUserData{Effective: half, Permitted: half, Inheritable: uint32(inheritable >> (32 * i))}
	}
	if err := unix.Capset(&h, &d[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}
