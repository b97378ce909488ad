package zfs

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Errors by which a Backend says what the commands must tell apart.
var (
	ErrBusy     = errors.New("device busy")            // a process or a mount uses it
	ErrNotEmpty = errors.New("directory is not empty") // a mount would hide files
	ErrNoSpace  = errors.New("no space left")
)

// Refused is an operation that the host would do and the backend cannot. Its
// text says what and why, for the user.
type Refused string

// Error returns the text.
func (r Refused) Error() string { return string(r) }

// Backend keeps the contents of file systems and snapshots, which it knows by
// number: names, and with them renames and promotions, are the model's alone.
// The model calls it under its own lock, except Send and Receive.
type Backend interface {
	// Create makes an empty file system. groups are the quota groups to which
	// it is charged.
	Create(ctx context.Context, id uint64, groups []uint64) error

	// Snapshot keeps what the file system holds now as object snap.
	Snapshot(ctx context.Context, id, snap uint64, groups []uint64) error

	// Clone makes a file system that begins as the snapshot.
	Clone(ctx context.Context, snap, id uint64, groups []uint64) error

	// Destroy removes an object and its contents. Nothing depends on it any
	// more. Space may come back later.
	Destroy(ctx context.Context, id uint64) error

	// Rollback makes the file system's contents those of the snapshot, in
	// place: whatever shows the file system shows the new contents.
	Rollback(ctx context.Context, id, snap uint64) error

	// Dir returns the directory that shows the object, outside of every path
	// that the host knows.
	Dir(id uint64) string

	// Mount shows the file system at dir, which it makes with its parents
	// where needed. Without overlay, a directory with files is ErrNotEmpty.
	Mount(ctx context.Context, id uint64, dir string, o MountOptions, overlay bool) error

	// Remount changes the options of a mount.
	Remount(ctx context.Context, id uint64, dir string, o MountOptions) error

	// Unmount takes a mount down: ErrBusy while it is in use, unless forced.
	Unmount(ctx context.Context, id uint64, dir string, force bool) error

	// RemoveDir removes an empty directory that a mount has left behind.
	RemoveDir(dir string)

	// SetReadOnly forbids writing to a file system wherever it is shown.
	SetReadOnly(ctx context.Context, id uint64, on bool) error

	// SetQuota limits the bytes charged to a group, makes the group where it
	// is new and makes members be charged to it. A limit of 0 removes it.
	SetQuota(ctx context.Context, group, limit uint64, members []uint64) error

	// SetRefQuota limits the bytes charged to one file system; 0 is no limit.
	SetRefQuota(ctx context.Context, id, limit uint64) error

	// Regroup changes the groups to which an object is charged.
	Regroup(ctx context.Context, id uint64, from, to []uint64) error

	// Usage returns the bytes charged to each object.
	Usage(ctx context.Context) (map[uint64]uint64, error)

	// Capacity returns the size of the pool in bytes, and 0 where only the
	// configuration says.
	Capacity(ctx context.Context) (uint64, error)

	// Send writes the snapshot's contents. Receive makes them the contents of
	// a file system, in place.
	Send(ctx context.Context, snap uint64, w io.Writer) error
	Receive(ctx context.Context, id uint64, r io.Reader) error
}

// MountOptions are those that a mount point can enforce.
type MountOptions struct {
	ReadOnly, NoDevices, NoSetuid, NoExec, NoAtime bool
}

// memory is a backend without contents.
type memory struct{}

func (memory) Create(context.Context, uint64, []uint64) error           { return nil }
func (memory) Snapshot(context.Context, uint64, uint64, []uint64) error { return nil }
func (memory) Clone(context.Context, uint64, uint64, []uint64) error    { return nil }
func (memory) Destroy(context.Context, uint64) error                    { return nil }
func (memory) Rollback(context.Context, uint64, uint64) error           { return nil }
func (memory) Dir(id uint64) string                                     { return fmt.Sprintf("/.objects/%d", id) }

func (memory) Mount(context.Context, uint64, string, MountOptions, bool) error { return nil }
func (memory) Remount(context.Context, uint64, string, MountOptions) error     { return nil }
func (memory) Unmount(context.Context, uint64, string, bool) error             { return nil }
func (memory) RemoveDir(string)                                                {}

func (memory) SetReadOnly(context.Context, uint64, bool) error           { return nil }
func (memory) SetQuota(context.Context, uint64, uint64, []uint64) error  { return nil }
func (memory) SetRefQuota(context.Context, uint64, uint64) error         { return nil }
func (memory) Regroup(context.Context, uint64, []uint64, []uint64) error { return nil }
func (memory) Usage(context.Context) (map[uint64]uint64, error)          { return nil, nil }
func (memory) Capacity(context.Context) (uint64, error)                  { return 0, nil }
func (memory) Send(context.Context, uint64, io.Writer) error             { return nil }
func (memory) Receive(_ context.Context, _ uint64, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
