package supervisor

import (
	"io"

	"reddwarf.io/reddwarf/zones/logs"
	"reddwarf.io/reddwarf/zones/podinit"
	"reddwarf.io/reddwarf/zones/podinit/wire"
)

// attach joins a client to a container's main process.
func (k *client) attach(name string, stdin bool) {
	c, err := k.s.running(name)
	if err != nil {
		k.answer(err)
		return
	}
	out := c.output
	v, leave := out.attach()
	defer leave()
	if !k.answer(nil) {
		return
	}
	var into io.Writer
	if stdin {
		into = out.stdin()
	}
	gone := k.receive(into, func(s podinit.Size) { resize(out.streams.pty, s) },
		func() { out.closeInput() }) //nolint:errcheck // the process may be gone
	k.show(v, gone)
	k.conn.Close() //nolint:errcheck // it ends receive
	<-gone
	if stdin && into != nil {
		out.closeInput() //nolint:errcheck // as above
	}
}

// show sends a viewer's chunks until the output or the client ends.
func (k *client) show(v *viewer, gone <-chan struct{}) {
	for {
		select {
		case ch, ok := <-v.chunks:
			if !ok {
				if !v.tooSlow {
					k.w.Message(wire.End, nil) //nolint:errcheck // the client may have gone
				}
				return
			}
			kind := wire.Stdout
			if ch.stream == logs.Stderr {
				kind = wire.Stderr
			}
			if _, err := k.w.Stream(kind).Write(ch.data); err != nil {
				return
			}
		case <-gone:
			return
		}
	}
}
