package zones

import (
	"context"
)

// anyLinks stands for a host where every link exists.
type anyLinks struct{}

func (anyLinks) CheckAssign(string) error { return nil }
func (anyLinks) Assign(context.Context, string, int, string, LinkConfig) error {
	return nil
}
func (anyLinks) Plumb(context.Context, string, int, string, LinkConfig) error { return nil }
func (anyLinks) Return(context.Context, string, int) error                    { return nil }

// anyDatasets stands for a host where every dataset exists.
type anyDatasets struct{}

func (anyDatasets) Source(dataset, _ string) (string, error) { return "/" + dataset, nil }
func (anyDatasets) Release(string)                           {}
func (anyDatasets) MountpointOf(string) (string, bool)       { return "", false }
func (anyDatasets) MountsBelow(string) []string              { return nil }
