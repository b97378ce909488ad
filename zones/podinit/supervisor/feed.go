package supervisor

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// feeder writes input without making the reader of the connection wait for a
// process that does not read: the reader must see the client go.
type feeder struct {
	chunks   chan []byte
	done     chan struct{}
	into     io.Writer
	stopping atomic.Bool
}

const maxInput = 8 // chunks that wait

func newFeeder(into io.Writer, end func()) *feeder {
	f := &feeder{chunks: make(chan []byte, maxInput), done: make(chan struct{}), into: into}
	go func() {
		defer close(f.done)
		broken := into == nil
		for b := range f.chunks {
			switch {
			case b == nil:
				end()
				broken = true
			case !broken:
				broken = !f.write(b) // the rest is dropped, as by a pipe
			}
		}
	}()
	return f
}

// put queues a chunk; nil stands for the end. While there is no room it looks
// whether the client is still there, and returns false if not.
func (f *feeder) put(b []byte, conn *net.UnixConn) bool {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case f.chunks <- b:
			return true
		case <-tick.C:
			if hungUp(conn) {
				return false
			}
		}
	}
}

// write writes one chunk. A deadline that was not meant for this feeder, where
// several clients write to one process, is waited out.
func (f *feeder) write(b []byte) bool {
	for len(b) > 0 {
		n, err := f.into.Write(b)
		b = b[n:]
		if err != nil && (f.stopping.Load() || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return false
		}
	}
	return true
}

// stop ends the feeder. A write that the process does not read is given up.
func (f *feeder) stop() {
	f.stopping.Store(true)
	close(f.chunks)
	if d, ok := f.into.(interface{ SetWriteDeadline(time.Time) error }); ok {
		d.SetWriteDeadline(time.Now())        //nolint:errcheck // pipes have deadlines
		defer d.SetWriteDeadline(time.Time{}) //nolint:errcheck // as above
	}
	<-f.done
}

// hungUp says whether the other side of a connection has closed it.
func hungUp(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, perr := unix.Poll(p, 0)
		gone = perr == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
	})
	return err != nil || gone
}
