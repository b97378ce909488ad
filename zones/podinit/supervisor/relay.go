package supervisor

import (
	"errors"
	"io"
	"net"
	"path/filepath"

	"reddwarf.io/reddwarf/zones/podinit"
)

// Relay joins in and out to the channel of the podinit that runs with config:
// what zlogin(1) starts in the zone where the agent cannot reach the socket. It
// returns when podinit closes the connection. The end of in closes it.
func Relay(config Config, in io.Reader, out io.Writer) error {
	path := filepath.Join(config.run(), podinit.SocketFile)
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	go func() { // ends with in, or with the process
		io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{in}) //nolint:errcheck // the other direction reports
		conn.Close()                                                //nolint:errcheck // as above
	}()
	_, err = io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{conn})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
