package zones

import (
	"fmt"
	"net"
	"syscall"
	"unsafe"
)

// x/sys knows getpeerucred(3C) but not ucred_getzoneid, so both are taken from
// libc here in the way that x/sys does it.

//go:cgo_import_dynamic libc_getpeerucred getpeerucred "libc.so"
//go:cgo_import_dynamic libc_ucred_getzoneid ucred_getzoneid "libc.so"
//go:cgo_import_dynamic libc_ucred_free ucred_free "libc.so"

//go:linkname procGetpeerucred libc_getpeerucred
//go:linkname procUcredGetzoneid libc_ucred_getzoneid
//go:linkname procUcredFree libc_ucred_free

var procGetpeerucred, procUcredGetzoneid, procUcredFree uintptr

// sysvicall6 calls a function of libc; it is the syscall package's, reached by
// a jump in peer_illumos_amd64.s.
func sysvicall6(fn, nargs, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2 uintptr, err syscall.Errno)

// checkPeer says whether the process that listens at the other end of conn
// lives in zone.
func checkPeer(conn *net.UnixConn, zone int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	peer := -1
	var perr error
	if err := raw.Control(func(fd uintptr) { peer, perr = peerZone(fd) }); err != nil {
		return err
	}
	if perr != nil {
		return fmt.Errorf("%w: getpeerucred: %w", ErrPeer, perr)
	}
	if peer != zone {
		return fmt.Errorf("%w: it belongs to zone id %d, not %d", ErrPeer, peer, zone)
	}
	return nil
}

func peerZone(fd uintptr) (int, error) {
	var cred uintptr // a null ucred_t pointer makes libc allocate one
	_, _, errno := sysvicall6(uintptr(unsafe.Pointer(&procGetpeerucred)), 2, fd, uintptr(unsafe.Pointer(&cred)), 0, 0, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	defer sysvicall6(uintptr(unsafe.Pointer(&procUcredFree)), 1, cred, 0, 0, 0, 0, 0)
	id, _, errno := sysvicall6(uintptr(unsafe.Pointer(&procUcredGetzoneid)), 1, cred, 0, 0, 0, 0, 0)
	if int32(id) < 0 {
		return -1, errno
	}
	return int(int32(id)), nil
}
