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
	Network   netip.Prefix
	Interface string     // the gateway interface
	Gateway   netip.Addr // the host's own address on it
}

// Refuse answers what keeps a cluster address: TCP with a reset, by a filter
// rule, which is asked after all redirects; the rest with an ICMP message, by a
// route that rejects. Without them such a packet leaves by the default route,
// and its sender waits. What is there already stays.
//
// The route is also for TCP where an operator's rule stands before ours, and
// for IPv6. It is bound to the gateway's address, so it goes when that does; one
// through 127.0.0.1, which is seen everywhere, drops silently on illumos.
func (l *Loader) Refuse(ctx context.Context, all []Refusal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.routes(ctx, "add", all, "entry exists"), l.resets(ctx, all, "File exists", "-f", "-"))
}

// Unrefuse removes what [Loader.Refuse] makes. Absent ones are fine, and so is
// a filter that is off.
func (l *Loader) Unrefuse(ctx context.Context, all []Refusal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.resets(ctx, all, "No such process", "-r", "-f", "-")
	if errors.Is(err, ErrOff) {
		err = nil
	}
	return errors.Join(l.routes(ctx, "delete", all, "not in table"), err)
}

// Clear removes every rule of ours and what [Loader.Refuse] made for all, from a
// host that is left for good. A filter that is off, or not there, has none.
func (l *Loader) Clear(ctx context.Context, all []Refusal) (Report, error) {
	report, err := l.Sync(ctx, nil)
	if errors.Is(err, ErrOff) || errors.Is(err, ErrNoDevice) {
		err = nil
	}
	return report, errors.Join(err, l.Unrefuse(ctx, all))
}

// resets gives the filter rules of IPv4 networks to ipf(8), which says of each
// that the kernel refuses why it does; done is what it says to a change that has
// been made before.
func (l *Loader) resets(ctx context.Context, all []Refusal, done string, args ...string) error {
	var errs []error
	for _, r := range all {
		if !r.valid() || !r.Gateway.Is4() {
			continue
		}
		rule := fmt.Sprintf("block return-rst in quick on %s proto tcp from any to %s\n", r.Interface, r.Network)
		_, err := l.host.Run(ctx, command.Cmd{Name: "ipf", Args: args, Stdin: rule, Silent: true})
		var ce *command.Error
		switch {
		case err == nil:
		case errors.As(err, &ce) && strings.HasSuffix(strings.TrimSpace(ce.Stderr), " rule): "+done):
		case errors.As(err, &ce) && strings.Contains(ce.Stderr, "rule): I/O error"):
			errs = append(errs, fmt.Errorf("ipnat: refusing %s: %w: %w", r.Network, ErrOff, err))
		default:
			errs = append(errs, fmt.Errorf("ipnat: refusing %s: %w", r.Network, err))
		}
	}
	return errors.Join(errs...)
}

func (r Refusal) valid() bool {
	return r.Network.IsValid() && r.Network == r.Network.Masked() && validInterface(r.Interface) && plain(r.Gateway) && r.Gateway.Is4() == r.Network.Addr().Is4()
}

// routes runs route(8) for each of them; done is what the kernel says to a
// change that has been made before.
func (l *Loader) routes(ctx context.Context, verb string, all []Refusal, done string) error {
	var errs []error
	for _, r := range all {
		if !r.valid() {
			errs = append(errs, fmt.Errorf("ipnat: refusing %s by %s on %s: not a network, and a gateway of its family", r.Network, r.Gateway, r.Interface))
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
