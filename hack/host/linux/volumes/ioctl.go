//go:build linux

package volumes

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of <linux/btrfs.h> and <linux/btrfs_tree.h>.
const (
	iocSubvolCreate2 = 0x50009418
	iocSnapCreate2   = 0x50009417
	iocSnapDestroy   = 0x5000940f
	iocSubvolFlags   = 0x4008941a // set
	iocSubvolInfo    = 0x81f8943c
	iocQuotaCtl      = 0xc0109428
	iocQgroupAssign  = 0x40189429
	iocQgroupCreate  = 0x4010942a
	iocQgroupLimit   = 0x8030942b
	iocSync          = 0x9408
	iocTreeSearch2   = 0xc0709411

	subvolReadOnly      = 1 << 1
	rootReadOnly        = 1 << 0
	subvolQgroupInherit = 1 << 2
	enableSimpleQuota   = 4
	limitMaxReferenced  = 1 << 0

	quotaTree      = 8
	inodeItemKey   = 1
	qgroupInfoKey  = 242
	inodeItemBytes = 160
)

// order is that of the disk; ioctls use the machine's, which Go on Linux gives
// as NativeEndian.
var order = binary.LittleEndian

// ioctl calls a btrfs ioctl with a buffer as its argument.
func ioctl(fd int, request uintptr, arg []byte) error {
	var p unsafe.Pointer
	if len(arg) > 0 {
		p = unsafe.Pointer(&arg[0])
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(p)); errno != 0 {
		return errno
	}
	return nil
}

// words lays out 64-bit values as a C structure of them.
func words(values ...uint64) []byte {
	b := make([]byte, 0, 8*len(values))
	for _, v := range values {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

// withDir opens a directory for an ioctl.
func withDir(dir string, f func(fd int) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // only read
	return f(int(d.Fd()))
}

// makeSubvolume makes dir a new subvolume: a snapshot of from, or empty where
// that is "". It belongs to the qgroups from its beginning.
func makeSubvolume(dir, from string, qgroups []uint64, readOnly bool) error {
	parent, name := filepath.Split(dir)
	request := uintptr(iocSubvolCreate2)
	source := -1
	if from != "" {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // only read
		request, source = iocSnapCreate2, int(f.Fd())
	}
	arg := make([]byte, 4096) // struct btrfs_ioctl_vol_args_v2
	binary.NativeEndian.PutUint64(arg[0:], uint64(int64(source)))
	var flags uint64
	if readOnly {
		flags |= subvolReadOnly
	}
	var inherit []byte
	if len(qgroups) > 0 {
		flags |= subvolQgroupInherit
		inherit = words(append([]uint64{0, uint64(len(qgroups)), 0, 0, 0, 0, 0, 0, 0}, qgroups...)...)
		binary.NativeEndian.PutUint64(arg[24:], uint64(len(inherit)))
		*(*unsafe.Pointer)(unsafe.Pointer(&arg[32])) = unsafe.Pointer(&inherit[0])
	}
	binary.NativeEndian.PutUint64(arg[16:], flags)
	copy(arg[56:], name)
	var pin runtime.Pinner
	defer pin.Unpin()
	if inherit != nil {
		pin.Pin(&inherit[0])
	}
	return withDir(parent, func(fd int) error { return ioctl(fd, request, arg) })
}

// destroySubvolume removes a subvolume; the kernel frees its space later.
func destroySubvolume(dir string) error {
	parent, name := filepath.Split(dir)
	arg := make([]byte, 4096) // struct btrfs_ioctl_vol_args
	copy(arg[8:], name)
	return withDir(parent, func(fd int) error { return ioctl(fd, iocSnapDestroy, arg) })
}

// setSubvolumeReadOnly sets or clears the subvolume's read-only flag.
func setSubvolumeReadOnly(dir string, on bool) error {
	var flags uint64
	if on {
		flags = subvolReadOnly
	}
	return withDir(dir, func(fd int) error { return ioctl(fd, iocSubvolFlags, words(flags)) })
}

// subvolume is part of struct btrfs_ioctl_get_subvol_info_args.
type subvolume struct {
	id           uint64
	readOnly     bool
	uuid, parent [16]byte
}

// inspect reads what a subvolume is.
func inspect(dir string) (subvolume, error) {
	arg := make([]byte, 504)
	if err := withDir(dir, func(fd int) error { return ioctl(fd, iocSubvolInfo, arg) }); err != nil {
		return subvolume{}, fmt.Errorf("subvolume %s: %w", dir, err)
	}
	s := subvolume{id: binary.NativeEndian.Uint64(arg)}
	s.readOnly = binary.NativeEndian.Uint64(arg[288:])&rootReadOnly != 0
	copy(s.uuid[:], arg[296:])
	copy(s.parent[:], arg[312:])
	return s, nil
}

// search calls visit for every item of a tree with one key type, whose object
// numbers are in a range. The kernel returns every item between two keys, so
// those of other types are passed over here.
func search(fd int, tree uint64, keyType uint32, first, last uint64, visit func(object, offset uint64, data []byte)) error {
	const header = 112 // struct btrfs_ioctl_search_args_v2 before its buffer
	arg := make([]byte, header+256<<10)
	var offset uint64
	from := keyType
	for {
		clear(arg[:header])
		n := binary.NativeEndian
		for i, v := range []uint64{tree, first, last, offset, ^uint64(0), 0, ^uint64(0)} {
			n.PutUint64(arg[8*i:], v)
		}
		n.PutUint32(arg[56:], from)
		n.PutUint32(arg[60:], keyType)
		n.PutUint32(arg[64:], ^uint32(0))
		n.PutUint64(arg[104:], uint64(len(arg)-header))
		if err := ioctl(fd, iocTreeSearch2, arg); err != nil {
			return fmt.Errorf("tree search: %w", err)
		}
		count := n.Uint32(arg[64:])
		if count == 0 {
			return nil
		}
		at := header
		for range count { // struct btrfs_ioctl_search_header, then the item
			object, off := n.Uint64(arg[at+8:]), n.Uint64(arg[at+16:])
			kind, size := n.Uint32(arg[at+24:]), int(n.Uint32(arg[at+28:]))
			at += 32
			if kind == keyType {
				visit(object, off, arg[at:at+size])
			}
			at += size
			first, from, offset = object, kind, off
		}
		if offset++; offset == 0 { // the next key
			from++
		}
	}
}
