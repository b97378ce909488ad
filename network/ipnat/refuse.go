package ipnat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// Refusal is a network of cluster addresses whose packets are refused when no
// rule takes them: a Service without endpoints, a port that no Service has.
type Refusal struct {
	Network netip.Prefix
	Gateway netip.Addr // the host's own address on the gateway interface
}

// Refuse makes routes that reject what reaches routing with a cluster address,
// which answers "connection refused" at once. Without one such a packet leaves
// by the default route, and its sender waits. What is there already stays.
//
// The route is bound to the gateway's address, so it goes when that does; one
// through 127.0.0.1, which is seen everywhere, drops silently on illumos.
func (l *Loader) Refuse(ctx context.Context, all []Refusal) error {
	return l.routes(ctx, "add", all, "entry exists")
}

// Unrefuse removes the routes of [Loader.Refuse]. Absent ones are fine.
func (l *Loader) Unrefuse(ctx context.Context, all []Refusal) error {
	return l.routes(ctx, "delete", all, "not in table")
}

// routes runs route(8) for each of them; done is what the kernel says to a
// change that has been made before.
func (l *Loader) routes(ctx context.Context, verb string, all []Refusal, done string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, r := range all {
		if !r.Network.IsValid() || r.Network != r.Network.Masked() || !plain(r.Gateway) || r.Gateway.Is4() != r.Network.Addr().Is4() {
			errs = append(errs, fmt.Errorf("ipnat: refusing %s by %s: not a network and a gateway of its family", r.Network, r.Gateway))
			continue
		}
		args := []string{"-n", verb}
		if r.Network.Addr().Is6() {
			args = append(args, "-inet6")
		}
		_, err := l.host.Run(ctx, command.New("route", append(args, r.Network.String(), r.Gateway.String(), "-interface", "-reject")...))
		var ce *command.Error
		if err != nil && errors.As(err, &ce) && strings.Contains(ce.Stdout, ": "+done) {
			err = nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("ipnat: refusing %s: %w", r.Network, err))
		}
	}
	return errors.Join(errs...)
}
