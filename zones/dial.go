package zones

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"reddwarf.io/reddwarf/zones/command"
)

// Transport is a way to reach process 1 of a zone.
type Transport string

// The transports.
const (
	// Socket connects to a unix socket in a directory of the zone's dataset
	// that is mounted in the zone by lofs. It costs no process.
	Socket Transport = "socket"

	// Zlogin runs zlogin(1) for every connection. It works where sockets
	// between zones do not.
	Zlogin Transport = "zlogin"

	// Auto is Socket, and Zlogin where the socket cannot be reached.
	Auto Transport = "auto"
)

// ParseTransport reads a transport's name.
func ParseTransport(s string) (Transport, error) {
	switch t := Transport(s); t {
	case Socket, Zlogin, Auto:
		return t, nil
	}
	return "", fmt.Errorf("zone transport %q is not one of auto, socket, zlogin", s)
}

// Where process 1 listens, below the zonepath, and what it is asked through
// zlogin: one argument of plain words, because zlogin hands it to su or a shell.
const (
	runDir        = "run"
	socketFile    = "podinit.sock"
	channelInvoke = "/sbin/podinit channel"
)

// Dial connects to process 1 of a running zone. The connection outlives ctx,
// which bounds only the dialling.
func (h *Host) Dial(ctx context.Context, zone Zone, t Transport) (net.Conn, error) {
	const op = "dial"
	if err := checkName(zone.Name); err != nil {
		return nil, opError(op, zone.Name, err)
	}
	var err error
	if t != Zlogin {
		var conn net.Conn
		conn, err = awaitSocket(ctx, zone)
		if err == nil {
			return conn, nil
		}
		// A zone that answers falsely is not asked another way.
		if t == Socket || ctx.Err() != nil || errors.Is(err, ErrPeer) {
			return nil, opError(op, zone.Name, err)
		}
	}
	conn, zerr := dialProgram(h.run, zlogin(zone))
	if zerr != nil {
		return nil, opError(op, zone.Name, errors.Join(zerr, err))
	}
	return conn, nil
}

// A zone runs some time before its process 1 listens. Asking through zlogin
// then would cost two processes for as long as the connection lasts.
const (
	socketPatience = 2 * time.Second
	socketPause    = 5 * time.Millisecond
)

// awaitSocket connects to the zone's socket, and waits a while for one that
// is not there yet or does not listen.
func awaitSocket(ctx context.Context, zone Zone) (net.Conn, error) {
	dir := filepath.Join(zone.Path, runDir)
	if _, err := os.Lstat(dir); err != nil {
		return nil, err // not a zone of ours, or one without the shared directory
	}
	ctx, cancel := context.WithTimeout(ctx, socketPatience)
	defer cancel()
	for pause := socketPause; ; pause = min(2*pause, 20*socketPause) {
		conn, err := dialSocket(ctx, dir, socketFile, zone.ID)
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// zlogin is the command that enters a zone. An lx zone is entered through its
// su, which is podinit. In a native zone su would be the host's, with PAM; the
// failsafe mode goes to /sbin/sh instead, which is podinit there.
func zlogin(zone Zone) command.Cmd {
	if zone.Brand == "lx" {
		return command.New("zlogin", zone.Name, channelInvoke)
	}
	return command.New("zlogin", "-S", zone.Name, channelInvoke)
}

// ErrPeer means that what answers at a zone's socket is not that zone.
var ErrPeer = errors.New("the socket is not the zone's")
