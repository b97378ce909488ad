// Package wire is the framing of the channel between the agent and podinit.
//
// A frame is a kind (one byte), a length (four bytes, most significant first)
// and that many bytes. Each kind has its own largest length, and a frame that
// exceeds it is an error before a byte of it is read: either side may be
// hostile to the other. A connection carries one operation: a Request, its
// Reply, and then the frames that the operation calls for.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Kind says what a frame carries.
type Kind byte

// The kinds. Their numbers are part of the contract's version.
const (
	Request    Kind = 1  // to podinit: JSON, the first frame
	Reply      Kind = 2  // from podinit: JSON, the answer to Request
	State      Kind = 3  // from podinit: JSON, a podinit.State
	Stdin      Kind = 4  // to podinit: input of a process
	StdinClose Kind = 5  // to podinit: end of that input, empty
	Resize     Kind = 6  // to podinit: JSON, a terminal's size
	Stdout     Kind = 7  // from podinit
	Stderr     Kind = 8  // from podinit
	Exit       Kind = 9  // from podinit: JSON, how a process ended; the last frame
	Data       Kind = 10 // either way: bytes of a forwarded connection
	DataClose  Kind = 11 // either way: no more Data from this side, empty
	End        Kind = 12 // from podinit: the operation is over, empty; the last frame
)

// MaxData is the most that one frame of a stream carries.
const MaxData = 32 << 10

// MaxMessage bounds a JSON frame. A State of many containers, each with a
// termination message of bytes that JSON must escape, is the largest.
const MaxMessage = 4 << 20

const headerSize = 5

// ErrFrame means that the peer sent something that is not a frame: it does not
// follow the protocol, and nothing more can be read from it.
var ErrFrame = errors.New("wire: bad frame")

// limit returns the largest payload of a kind, and whether the kind exists.
func (k Kind) limit() (int, bool) {
	switch k {
	case Request, Reply, State:
		return MaxMessage, true
	case Resize, Exit:
		return 1 << 10, true
	case Stdin, Stdout, Stderr, Data:
		return MaxData, true
	case StdinClose, DataClose, End:
		return 0, true
	}
	return 0, false
}

// Reader reads frames. It is for one goroutine.
type Reader struct {
	r   io.Reader
	buf []byte
}

// NewReader returns a Reader of r, which it reads no further than it is asked.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next returns the next frame. The payload is valid until the next call. At
// the end of the stream between two frames the error is io.EOF.
func (r *Reader) Next() (Kind, []byte, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r.r, h[:1]); err != nil {
		return 0, nil, err
	}
	if _, err := io.ReadFull(r.r, h[1:]); err != nil {
		return 0, nil, noEOF(err)
	}
	k := Kind(h[0])
	most, ok := k.limit()
	if !ok {
		return 0, nil, fmt.Errorf("%w: kind %d", ErrFrame, k)
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n > uint32(most) {
		return 0, nil, fmt.Errorf("%w: %d bytes in a frame of kind %d", ErrFrame, n, k)
	}
	p, err := r.payload(int(n))
	return k, p, err
}

// payload grows its buffer only as bytes arrive, so that a header alone costs
// the receiver nothing.
func (r *Reader) payload(n int) ([]byte, error) {
	for have := 0; have < n; {
		step := min(n-have, MaxData)
		if len(r.buf) < have+step {
			r.buf = append(r.buf[:have], make([]byte, step)...)
		}
		m, err := io.ReadFull(r.r, r.buf[have:have+step])
		if err != nil {
			return nil, noEOF(err)
		}
		have += m
	}
	p := r.buf[:n]
	if cap(r.buf) > 2*MaxData { // do not keep a large message's buffer
		r.buf = nil
	}
	return p, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Writer writes frames. It is safe for several goroutines.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewWriter returns a Writer to w. Each frame is one Write.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Message writes one frame. A payload that is too long for its kind is an
// error and nothing is written.
func (w *Writer) Message(k Kind, payload []byte) error {
	most, ok := k.limit()
	if !ok || len(payload) > most {
		return fmt.Errorf("%w: %d bytes for kind %d", ErrFrame, len(payload), k)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], byte(k), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(w.buf[1:], uint32(len(payload)))
	w.buf = append(w.buf, payload...)
	_, err := w.w.Write(w.buf)
	if cap(w.buf) > 2*MaxData {
		w.buf = nil
	}
	return err
}

// Stream returns an io.Writer that cuts what it is given into frames of kind k.
func (w *Writer) Stream(k Kind) io.Writer { return stream{w, k} }

type stream struct {
	w *Writer
	k Kind
}

func (s stream) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, MaxData)
		if err := s.w.Message(s.k, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}
