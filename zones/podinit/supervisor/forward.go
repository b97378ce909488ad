package supervisor

import (
	"io"
	"net"
	"strconv"
	"time"

	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/wire"
)

// dialTime bounds a connection to a port of our own loopback interface.
const dialTime = 5 * time.Second

// forward joins a client to a TCP port of the zone, on IPv4's loopback address
// or else on IPv6's.
func (k *client) forward(port uint16) {
	d := net.Dialer{Timeout: dialTime}
	p := strconv.Itoa(int(port))
	to, err := d.DialContext(k.s.ctx, "tcp", net.JoinHostPort("127.0.0.1", p))
	if err != nil {
		var err6 error
		if to, err6 = d.DialContext(k.s.ctx, "tcp", net.JoinHostPort("::1", p)); err6 != nil {
			k.refuse(refuse(podinit.ReasonNotFound, "port %d: %v", port, err))
			return
		}
	}
	defer to.Close() //nolint:errcheck // both directions are over
	if !k.answer(nil) {
		return
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, err := io.CopyBuffer(struct{ io.Writer }{k.w.Stream(wire.Data)}, struct{ io.Reader }{to}, make([]byte, 16<<10))
		if err != nil || k.w.Message(wire.DataClose, nil) != nil {
			k.conn.Close() //nolint:errcheck // it ends receiveData
		}
	}()
	k.receiveData(to.(*net.TCPConn))
	to.Close() //nolint:errcheck // it ends the copy, if that has not ended
	<-sent
}

// receiveData carries a client's data to the program until the client goes.
func (k *client) receiveData(to *net.TCPConn) {
	for {
		kind, p, err := k.r.Next()
		if err != nil {
			return
		}
		switch kind {
		case wire.Data:
			if _, err := to.Write(p); err != nil {
				return
			}
		case wire.DataClose:
			if to.CloseWrite() != nil {
				return
			}
		default:
			return
		}
	}
}
