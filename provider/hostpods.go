package provider

import (
	"context"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/zones"
)

// HostPods are the pods of the global zone, which have the life of zones.
type HostPods interface {
	Zones

	// Has reports whether a host pod of that name is configured.
	Has(name string) bool
}

// WithHostPods returns Zones in which each pod has what its brand says: a zone
// of z, or a host pod of h.
func WithHostPods(z Zones, h HostPods) Zones { return kinds{z, h} }

type kinds struct {
	zones Zones
	host  HostPods
}

func (k kinds) of(name string) Zones {
	if k.host.Has(name) {
		return k.host
	}
	return k.zones
}

func (k kinds) List(ctx context.Context) ([]zones.Zone, error) {
	all, err := k.zones.List(ctx)
	if err != nil {
		return nil, err
	}
	host, err := k.host.List(ctx)
	return append(all, host...), err
}

func (k kinds) Configure(ctx context.Context, c zones.Config) error {
	if c.Brand == translate.BrandHost {
		return k.host.Configure(ctx, c)
	}
	return k.zones.Configure(ctx, c)
}

func (k kinds) Attrs(ctx context.Context, name string) (map[string]string, error) {
	return k.of(name).Attrs(ctx, name)
}

func (k kinds) MarkInstalled(ctx context.Context, name string) error {
	return k.of(name).MarkInstalled(ctx, name)
}

func (k kinds) MarkConfigured(ctx context.Context, name string) error {
	return k.of(name).MarkConfigured(ctx, name)
}

func (k kinds) Boot(ctx context.Context, name string) error { return k.of(name).Boot(ctx, name) }

func (k kinds) Halt(ctx context.Context, name string) error { return k.of(name).Halt(ctx, name) }

func (k kinds) SetLimits(ctx context.Context, name string, l zones.Limits) error {
	return k.of(name).SetLimits(ctx, name, l)
}

func (k kinds) Delete(ctx context.Context, name string) error { return k.of(name).Delete(ctx, name) }
