package zfs

import "context"

// failing is a backend that cannot create.
type failing struct {
	memory
	err error
}

func (f failing) Create(context.Context, uint64, []uint64) error { return f.err }
