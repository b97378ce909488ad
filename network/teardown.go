package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// Teardown removes what this package made: rules, routes, the gateway, the
// etherstub, and puts settings back to what they were. VNICs of pods must be
// gone before: the error is ErrBusy while there are any. It can be repeated;
// what is not there is fine, and what is somebody else's stays.
func (h *Host) Teardown(ctx context.Context) error {
	if err := h.syncNAT(ctx, nil); err != nil {
		return err
	}
	if err := h.SyncRoutes(ctx, nil, false); err != nil {
		return err
	}
	if err := h.removeLinks(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.restore(ctx)
}

// removeLinks removes the gateway and the etherstub.
func (h *Host) removeLinks(ctx context.Context) error {
	links, err := h.links(ctx)
	if err != nil {
		return err
	}
	if gw, ok := links[h.c.Gateway]; ok && h.checkVNIC(h.c.Gateway, gw) == nil {
		// An interface goes with all its addresses.
		if err := h.ipadm(ctx, "delete-if", h.c.Gateway); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := h.RemoveVNIC(ctx, h.c.Gateway); err != nil {
			return err
		}
	}
	if stub, ok := links[h.c.Etherstub]; ok && stub.class == "etherstub" {
		if err := h.dladm(ctx, "delete-etherstub", "-t", h.c.Etherstub); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// restore gives every setting its value from before, and then forgets
// everything. Call it with the lock held.
func (h *Host) restore(ctx context.Context) error {
	r, err := h.recordLocked()
	if err != nil {
		return err
	}
	for key, before := range r.Before {
		s, ok := settingOf(key)
		if !ok {
			return fmt.Errorf("network: record of routes and rules: setting %q", key)
		}
		now, err := h.current(ctx, s)
		if errors.Is(err, ErrNotFound) || err == nil && now == before {
			continue
		}
		if err != nil {
			return err
		}
		if err := h.set(ctx, s, before); err != nil {
			return err
		}
	}
	return r.remove()
}

// Remains says what of a Teardown's work is still there: nothing afterwards.
func (h *Host) Remains(ctx context.Context) ([]string, error) {
	links, err := h.links(ctx)
	if err != nil {
		return nil, err
	}
	var left []string
	for name, l := range links {
		if name == h.c.Etherstub && l.class == "etherstub" || l.over == h.c.Etherstub && l.class == "vnic" {
			left = append(left, "link "+name)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.recordLocked()
	if err != nil {
		return nil, err
	}
	for _, route := range r.Routes {
		left = append(left, fmt.Sprintf("route to %s through %s", route.To, route.Gateway))
	}
	for _, rule := range r.Rules {
		left = append(left, "ipnat rule "+rule)
	}
	slices.Sort(left)
	return left, nil
}

// ForwardsAll says whether the host forwards packets between all its
// interfaces, which is more than pods need.
func (h *Host) ForwardsAll(ctx context.Context) (bool, error) {
	out, err := h.run.Run(ctx, command.New("ipadm", "show-prop", "-c", "-o", "current", "-p", "forwarding", "ipv4"))
	if err != nil {
		return false, fmt.Errorf("network: %w", classify(err))
	}
	return strings.TrimSpace(string(out)) == "on", nil
}
