//go:build linux

package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// capability is one Linux capability and the privilege, see privileges(7), on
// whose account a zone's root has it.
type capability struct {
	number    uintptr
	privilege string
}

// zoneCapabilities are what root in a zone may do. All others are dropped from
// the bounding set, among them those that act on the whole machine:
// SYS_MODULE, SYS_BOOT, SYS_TIME, SYS_RAWIO and MKNOD (sys_config, sys_devices
// are prohibited in zones), SYSLOG, BPF, PERFMON (dtrace_kernel), SYS_PACCT,
// MAC_*, AUDIT_CONTROL and the suspend ones.
func zoneCapabilities() []capability {
	return []capability{
		{unix.CAP_CHOWN, "file_chown"},
		{unix.CAP_DAC_OVERRIDE, "file_dac_write"},
		{unix.CAP_DAC_READ_SEARCH, "file_dac_search"},
		{unix.CAP_FOWNER, "file_owner"},
		{unix.CAP_FSETID, "file_setid"},
		{unix.CAP_SETFCAP, "file_setid"},
		{unix.CAP_KILL, "proc_owner"},
		{unix.CAP_SYS_PTRACE, "proc_owner"},
		{unix.CAP_SETUID, "proc_setid"},
		{unix.CAP_SETGID, "proc_setid"},
		{unix.CAP_SETPCAP, "any process may give up privileges"},
		{unix.CAP_SYS_CHROOT, "proc_chroot"},
		{unix.CAP_SYS_NICE, "proc_prioup"},
		{unix.CAP_SYS_RESOURCE, "sys_resource"},
		{unix.CAP_SYS_ADMIN, "sys_mount"},
		{unix.CAP_IPC_OWNER, "ipc_owner"},
		{unix.CAP_IPC_LOCK, "proc_lock_memory"},
		{unix.CAP_LEASE, "file_owner"},
		{unix.CAP_AUDIT_WRITE, "proc_audit"},
		{unix.CAP_NET_BIND_SERVICE, "net_privaddr"},
		{unix.CAP_NET_BROADCAST, "net_rawaccess"},
		{unix.CAP_NET_RAW, "net_rawaccess"},
		{unix.CAP_NET_ADMIN, "sys_ip_config, which zones of ip-type exclusive have"},
	}
}

// boundCapabilities drops from this thread's bounding set all that a zone does
// not have, so that no program executed from here on can get it. With locked,
// memory can be locked only up to so many bytes: Linux counts them per user
// and process where zone.max-locked-memory counts the whole zone.
func boundCapabilities(locked uint64) error {
	keep := make(map[uintptr]bool)
	for _, c := range zoneCapabilities() {
		keep[c.number] = true
	}
	if locked > 0 {
		keep[unix.CAP_IPC_LOCK] = false // it would lift the limit
		limit := unix.Rlimit{Cur: locked, Max: locked}
		err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit)
		if errors.Is(err, unix.EPERM) { // in a user namespace: a lower one is there and binds
			err = nil
		}
		if err != nil {
			return fmt.Errorf("zone.max-locked-memory: %w", err)
		}
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if keep[c] {
			continue
		}
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil || has == 0 {
			continue // unknown to this kernel, or not ours to drop
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}
