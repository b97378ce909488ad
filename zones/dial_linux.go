package zones

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// dialSocket connects to a socket in a directory that a zone writes to. The
// socket is pinned before it is connected to, so that the zone cannot point us
// elsewhere with a link, not even between two calls.
func dialSocket(ctx context.Context, dir, name string, _ int) (net.Conn, error) {
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(d) //nolint:errcheck // a path handle
	s, err := unix.Openat(d, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s/%s: %w", dir, name, err)
	}
	defer unix.Close(s) //nolint:errcheck // a path handle
	var st unix.Stat_t
	if err := unix.Fstat(s, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%w: %s/%s is no socket", ErrPeer, dir, name)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(s))
}
