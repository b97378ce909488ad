package logs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
)

// lines reads one file's lines. It remembers where the next line begins and
// reads at that place again after it met the end: the last line may not have
// been whole, or may be taken back by a writer whose disk is full.
type lines struct {
	f    *os.File
	info fs.FileInfo
	off  int64 // where the next line begins
	end  int64 // where the last scan ended
}

// each calls do with every whole line from here on. Lines not in the format,
// and text without an end, are skipped.
func (l *lines) each(ctx context.Context, do func(Line) error) error {
	var failed error
	off, err := scan(l.f, l.off, func(_ int64, data []byte) bool {
		if ctx.Err() != nil {
			failed = context.Cause(ctx)
			return false
		}
		if line, err := ParseLine(data); err == nil {
			failed = do(line)
		}
		return failed == nil
	})
	l.off = off
	return errors.Join(failed, err)
}

// offsets returns where the last n lines of a stream begin.
func (l *lines) offsets(n int64, stream Stream) ([]int64, error) {
	var found []int64
	end, err := scan(l.f, 0, func(off int64, data []byte) bool {
		line, err := ParseLine(data)
		if err != nil || stream != "" && line.Stream != stream {
			return true
		}
		if found = append(found, off); int64(len(found)) > 2*n+16 {
			found = append(found[:0], found[int64(len(found))-n:]...)
		}
		return true
	})
	l.end = end
	if int64(len(found)) > n {
		found = found[int64(len(found))-n:]
	}
	return found, err
}

// scan calls do with the lines of f from off, without their newlines, until it
// returns false, and returns where the next line begins. A line longer than any
// that the writer makes is passed over. The data is valid during the call.
func scan(f io.ReaderAt, off int64, do func(off int64, data []byte) bool) (int64, error) {
	buf := make([]byte, 4*maxLine)
	have := 0 // bytes in buf, from off
	tooLong := false
	for {
		n, err := f.ReadAt(buf[have:], off+int64(have))
		have += n
		used := 0
		for {
			i := bytes.IndexByte(buf[used:have], '\n')
			if i < 0 {
				break
			}
			line := buf[used : used+i]
			going := tooLong || do(off+int64(used), line)
			tooLong = false
			used += i + 1
			if !going {
				return off + int64(used), nil
			}
		}
		off += int64(used)
		have = copy(buf, buf[used:have])
		if have > maxLine {
			tooLong = true
			off += int64(have)
			have = 0
		}
		if errors.Is(err, io.EOF) {
			return off, nil
		}
		if err != nil {
			return off, err
		}
	}
}
