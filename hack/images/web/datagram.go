package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// answer answers every datagram with who it is, until SIGTERM.
func answer(ctx context.Context, args []string, out io.Writer) (int, error) {
	fs := flag.NewFlagSet("answer", flag.ContinueOnError)
	port := fs.String("port", envOr("PORT", "8080"), "UDP port (environment: PORT)")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	var listen net.ListenConfig
	c, err := listen.ListenPacket(ctx, "udp", net.JoinHostPort("", *port))
	if err != nil {
		return 1, err
	}
	host, err := os.Hostname()
	if err != nil {
		return 1, err
	}
	fmt.Fprintf(out, "listening on %s\n", c.LocalAddr()) //nolint:errcheck // nobody may be looking
	stop := context.AfterFunc(ctx, func() { c.Close() }) //nolint:errcheck // the loop ends by it
	defer stop()
	buf := make([]byte, 1500)
	for {
		_, from, err := c.ReadFrom(buf)
		if ctx.Err() != nil {
			return 0, nil
		}
		if err != nil {
			return 1, err
		}
		fmt.Fprintf(packetTo{c, from}, "hostname: %s\nremote: %s\n", host, from) //nolint:errcheck // the client asks again
	}
}

// packetTo writes datagrams to one address.
type packetTo struct {
	net.PacketConn
	to net.Addr
}

func (p packetTo) Write(b []byte) (int, error) { return p.WriteTo(b, p.to) }

// ask sends a datagram and prints the answer.
func ask(ctx context.Context, args []string, out io.Writer) (int, error) {
	if len(args) != 1 {
		return 2, errors.New("ask: which ADDRESS:PORT?")
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "udp", args[0])
	if err != nil {
		return 1, err
	}
	defer c.Close() //nolint:errcheck // only datagrams
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 1, err
	}
	if _, err := io.WriteString(c, "?"); err != nil {
		return 1, err
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil {
		return 1, err
	}
	_, err = out.Write(buf[:n])
	if err != nil {
		return 1, err
	}
	return 0, nil
}
