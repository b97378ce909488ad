package zfs

import (
	"context"

	"reddwarf.io/reddwarf/hack/host/program"
)

func (m *Model) zpool(ctx context.Context, inv *program.Invocation) int { return 1 }
