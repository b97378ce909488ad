package oci

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"reddwarf.io/reddwarf/storage"
)

// stallTimeout is how long a pull may go without a byte from the registry.
const stallTimeout = 2 * time.Minute

// zstdWindow bounds what the decompressor keeps in memory. zstd's own command
// needs an option for more.
const zstdWindow = 128 << 20

var errStalled = errors.New("the registry has stopped sending")

// unpack makes the datasets of r that are not here, from the first layer on.
// stop ends ctx.
func (im *Images) unpack(ctx context.Context, stop context.CancelCauseFunc, r *resolved, q Request) error {
	top := r.dataset()
	if have, err := im.store.HasImage(ctx, top); err != nil || have {
		return err
	}
	if len(r.chains) == 0 {
		return im.chain(ctx, top, "", func(context.Context, string) error { return nil })
	}
	first, err := im.firstMissing(ctx, r.chains)
	if err != nil {
		return err
	}
	p := &progress{report: q.Progress, total: r.record.Size, stop: stop}
	b := &budget{bytes: im.c.MaxBytes, entries: im.c.MaxEntries}
	c, err := r.image.ConfigFile()
	if err != nil {
		return classify(err)
	}
	for i := first; i < len(r.chains); i++ {
		parent := ""
		if i > 0 {
			parent = r.chains[i-1]
		}
		err := im.chain(ctx, r.chains[i], parent, func(ctx context.Context, dir string) error {
			return im.applyLayer(ctx, dir, r.layers[i], c.RootFS.DiffIDs[i], b, p)
		})
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

// firstMissing returns the first layer above the last one that is here.
func (im *Images) firstMissing(ctx context.Context, chains []string) (int, error) {
	for i := len(chains) - 1; i >= 0; i-- {
		have, err := im.store.HasImage(ctx, chains[i])
		if err != nil || have {
			return i + 1, err
		}
	}
	return 0, nil
}

// chain makes one dataset. Only one goroutine does so at a time, and not too
// many make different ones.
func (im *Images) chain(ctx context.Context, id, parent string, fill func(ctx context.Context, dir string) error) error {
	unlock, err := im.chains.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	// Who waited for another pull of it needs no turn of its own.
	if have, err := im.store.HasImage(ctx, id); err != nil || have {
		return err
	}
	if err := im.pulls.Acquire(ctx, 1); err != nil {
		return err
	}
	defer im.pulls.Release(1)
	return im.store.MakeImage(ctx, id, parent, fill)
}

// applyLayer pulls one layer and applies it to dir.
func (im *Images) applyLayer(ctx context.Context, dir string, l v1.Layer, want v1.Hash, b *budget, p *progress) error {
	compressed, err := l.Compressed()
	if err != nil {
		return classify(err)
	}
	// What it could complain of has been seen while reading.
	defer compressed.Close()
	plain, err := decompress(p.reader(compressed))
	if err != nil {
		return pullError(err)
	}
	defer plain.Close()
	tar := newVerifier(plain, b)
	if err := apply(ctx, dir, tar, b, !im.c.DropOwner); err != nil {
		return pullError(err)
	}
	if err := tar.finish(want); err != nil {
		return pullError(err)
	}
	// The compressed stream has an end of its own, where its digest is checked.
	if _, err := io.Copy(io.Discard, io.LimitReader(compressed, 1<<20)); err != nil {
		return pullError(err)
	}
	return nil
}

// pullError gives the faults of a stream a meaning. One that ended too soon
// stays what it is: it is worth trying again.
func pullError(err error) error {
	var bad flate.CorruptInputError
	switch {
	case err == nil, errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, &bad),
		errors.Is(err, zstd.ErrCRCMismatch), errors.Is(err, zstd.ErrMagicMismatch):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	return classify(err)
}

// decompress returns what r holds, compressed in whatever way its first bytes
// tell: registries have layers whose media type is wrong about that.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(br)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(br), nil
}

// verifier hashes what is read through it and takes it from the budget.
type verifier struct {
	r    io.Reader
	hash hash.Hash
	left int64
}

func newVerifier(r io.Reader, b *budget) *verifier {
	// An archive is a little larger than its files.
	return &verifier{r: r, hash: sha256.New(), left: b.bytes + b.entries*archiveOverhead + 1<<20}
}

// archiveOverhead is what an entry adds to an archive, in usual layers.
const archiveOverhead = 2048

// Read implements io.Reader.
func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if v.left -= int64(n); v.left < 0 {
		return n, fmt.Errorf("%w: the unpacked layer is too long", ErrTooLarge)
	}
	return n, err
}

// finish reads to the end, which archives have behind their last entry, and
// checks the digest.
func (v *verifier) finish(want v1.Hash) error {
	if _, err := io.Copy(io.Discard, v); err != nil {
		return err
	}
	got := hex.EncodeToString(v.hash.Sum(nil))
	if want.Algorithm != "sha256" || got != want.Hex {
		return fmt.Errorf("%w: layer has digest sha256:%s, its image says %s", ErrCorrupt, got, want)
	}
	return nil
}

// progress counts what arrives, tells the caller, and ends a pull that stalls.
type progress struct {
	report func(done, total int64)
	total  int64
	done   atomic.Int64
	stop   context.CancelCauseFunc
}

func (p *progress) reader(r io.Reader) io.Reader { return &progressReader{p: p, r: r} }

type progressReader struct {
	p *progress
	r io.Reader
}

// Read implements io.Reader.
func (r *progressReader) Read(b []byte) (int, error) {
	t := time.AfterFunc(stallTimeout, func() { r.p.stop(errStalled) })
	n, err := r.r.Read(b)
	t.Stop()
	done := r.p.done.Add(int64(n))
	if r.p.report != nil && n > 0 {
		r.p.report(done, r.p.total)
	}
	return n, err
}
