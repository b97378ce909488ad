package supervisor

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// checkPeer lets only root talk to us: the agent in the global zone, or our own
// relay.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if cerr != nil {
		return fmt.Errorf("peer: %w", cerr)
	}
	if cred.Uid != 0 {
		return fmt.Errorf("peer: user %d is not root", cred.Uid)
	}
	return nil
}
