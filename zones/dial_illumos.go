package zones

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// dialSocket connects to a socket in a directory that a zone writes to.
// illumos cannot pin a socket before connecting to it, so the zone is known
// afterwards, before a byte is sent, by the zone id that getpeerucred(3C) gives.
func dialSocket(ctx context.Context, dir, name string, zone int) (net.Conn, error) {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%w: %s is no socket", ErrPeer, path)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn.(*net.UnixConn), zone); err != nil {
		conn.Close() //nolint:errcheck // nothing was sent
		return nil, err
	}
	return conn, nil
}
