package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"reddwarf.io/reddwarf/zones/podinit/wire"
)

func TestFramesRoundTrip(t *testing.T) {
	var b bytes.Buffer
	w := wire.NewWriter(&b)
	big := []byte(strings.Repeat("x", wire.MaxMessage))
	for _, p := range []struct {
		k wire.Kind
		p []byte
	}{{wire.Request, []byte("{}")}, {wire.State, big}, {wire.Stdout, big[:wire.MaxData]}, {wire.End, nil}} {
		if err := w.Message(p.k, p.p); err != nil {
			t.Fatal(err)
		}
	}
	r := wire.NewReader(iotest.HalfReader(&b))
	for _, want := range []struct {
		k wire.Kind
		n int
	}{{wire.Request, 2}, {wire.State, len(big)}, {wire.Stdout, wire.MaxData}, {wire.End, 0}} {
		k, p, err := r.Next()
		if err != nil || k != want.k || len(p) != want.n {
			t.Fatalf("Next = %d, %d bytes, %v; want %d, %d", k, len(p), err, want.k, want.n)
		}
	}
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestWriterRefusesWhatAReaderWould(t *testing.T) {
	var b bytes.Buffer
	w := wire.NewWriter(&b)
	for k, n := range map[wire.Kind]int{wire.Stdin: wire.MaxData + 1, wire.State: wire.MaxMessage + 1, wire.End: 1, 0: 0, 99: 0} {
		if err := w.Message(k, make([]byte, n)); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("kind %d with %d bytes: %v", k, n, err)
		}
	}
	if b.Len() > 0 {
		t.Errorf("%d bytes were written", b.Len())
	}
}

func TestReaderRefuses(t *testing.T) {
	header := func(k wire.Kind, n uint32) string {
		b := []byte{byte(k), 0, 0, 0, 0}
		binary.BigEndian.PutUint32(b[1:], n)
		return string(b)
	}
	for _, tt := range []struct {
		in   string
		want error
	}{
		{header(0, 0), wire.ErrFrame},
		{header(200, 0), wire.ErrFrame},
		{header(wire.Stdout, wire.MaxData+1), wire.ErrFrame},
		{header(wire.State, 1<<32-1), wire.ErrFrame},
		{header(wire.DataClose, 1) + "x", wire.ErrFrame},
		{header(wire.State, wire.MaxMessage) + "half", io.ErrUnexpectedEOF},
		{header(wire.State, 5)[:3], io.ErrUnexpectedEOF},
		{"", io.EOF},
	} {
		if _, _, err := wire.NewReader(strings.NewReader(tt.in)).Next(); !errors.Is(err, tt.want) {
			t.Errorf("%q: %v, want %v", tt.in, err, tt.want)
		}
	}
}

func TestStreamCutsIntoFrames(t *testing.T) {
	var b bytes.Buffer
	data := []byte(strings.Repeat("0123456789", wire.MaxData/4))
	if n, err := wire.NewWriter(&b).Stream(wire.Data).Write(data); n != len(data) || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	var got []byte
	r := wire.NewReader(&b)
	for {
		k, p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || k != wire.Data {
			t.Fatal(k, err)
		}
		got = append(got, p...)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d", len(got), len(data))
	}
}

// FuzzReader checks that whatever a peer sends, a reader returns frames within
// their bounds, and that these written again read the same.
func FuzzReader(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x02{}\x0c\x00\x00\x00\x00"))
	f.Add([]byte("\x03\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewReader(bytes.NewReader(in))
		var again bytes.Buffer
		w := wire.NewWriter(&again)
		for {
			k, p, err := r.Next()
			if err != nil {
				break
			}
			if err := w.Message(k, p); err != nil {
				t.Fatalf("a frame that was read cannot be written: %v", err)
			}
		}
		if !bytes.HasPrefix(in, again.Bytes()) {
			t.Errorf("%q became %q", in, again.Bytes())
		}
	})
}
