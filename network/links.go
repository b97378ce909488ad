package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"reddwarf.io/reddwarf/zones/command"
)

// maxLinkName is the length of the longest name that dladm(8) takes.
const maxLinkName = 31

// linkName is the shape of a data link's name: letters first, at the end a
// number without a leading zero. See dladm_valid_linkname() in libdladm.c.
var linkName = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_.]*[A-Za-z_.])?(0|[1-9][0-9]*)$`)

// interfaceName is the shape of an IP interface's name: like a link's, but the
// administrator may have made it, on a system that takes more.
var interfaceName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)

// ValidLinkName says why dladm(8) would refuse name, wrapped in ErrName, or
// returns nil.
func ValidLinkName(name string) error {
	switch {
	case len(name) > maxLinkName:
		return fmt.Errorf("network: link %q: %w: longer than %d characters", name, ErrName, maxLinkName)
	case !linkName.MatchString(name):
		return fmt.Errorf("network: link %q: %w: want a letter, then letters, digits, _ or ., then a number without leading zeros", name, ErrName)
	}
	return nil
}

// VNIC is a virtual network interface.
type VNIC struct {
	Name string
	Over string           // the link that it is made over
	MAC  net.HardwareAddr // chosen by the host

	// Bandwidth is what passes in a second at most, in bits, in each of both
	// directions; 0 is no limit. It is not known of VNICs that are listed.
	Bandwidth int64
}

const (
	minMTU, maxMTU = 576, 9000 // of a VNIC over an etherstub

	// MinBandwidth is the smallest limit that a link takes: dladm_str2bw() and
	// mac_validate_props() have it as 1200K.
	MinBandwidth = 1_200_000
	// MaxBandwidth keeps the number of kilobits in dladm's hands.
	MaxBandwidth = 1_000_000_000_000
)

// VNICs lists the VNICs over our etherstub, the gateway's included.
func (h *Host) VNICs(ctx context.Context) ([]VNIC, error) {
	out, err := h.run.Run(ctx, command.New("dladm", "show-vnic", "-p", "-o", "link,over,macaddress"))
	if err != nil {
		return nil, fmt.Errorf("network: %w", classify(err))
	}
	all, err := parseVNICs(string(out))
	if err != nil {
		return nil, err
	}
	var ours []VNIC
	for _, v := range all {
		if v.Over == h.c.Etherstub {
			ours = append(ours, v)
		}
	}
	return ours, nil
}

// EnsureVNIC makes a VNIC over the etherstub, with a MAC address that the host
// chooses. It is one command for a new VNIC. The error is ErrConflict if a link
// of that name is something else.
func (h *Host) EnsureVNIC(ctx context.Context, v VNIC) error {
	if err := ValidLinkName(v.Name); err != nil {
		return err
	}
	if v.Bandwidth != 0 && (v.Bandwidth < MinBandwidth || v.Bandwidth > MaxBandwidth) {
		return fmt.Errorf("network: link %s: a limit of %d bit/s: want %d to %d", v.Name, v.Bandwidth, MinBandwidth, MaxBandwidth)
	}
	args := []string{"create-vnic", "-t", "-l", h.c.Etherstub}
	var props []string
	if mtu := h.mtu.Load(); mtu > 0 {
		props = append(props, fmt.Sprintf("mtu=%d", mtu))
	}
	if v.Bandwidth > 0 {
		props = append(props, "maxbw="+kilobits(v.Bandwidth))
	}
	if len(props) > 0 {
		args = append(args, "-p", strings.Join(props, ","))
	}
	err := h.dladm(ctx, append(args, v.Name)...)
	if !errors.Is(err, ErrExists) {
		return err
	}
	l, err := h.link(ctx, v.Name)
	if err != nil {
		return err
	}
	if err := h.checkVNIC(v.Name, l); err != nil || v.Name == h.c.Gateway {
		return err
	}
	// Of an earlier attempt, perhaps with another limit.
	if v.Bandwidth > 0 {
		return h.dladm(ctx, "set-linkprop", "-t", "-p", "maxbw="+kilobits(v.Bandwidth), v.Name)
	}
	return h.dladm(ctx, "reset-linkprop", "-t", "-p", "maxbw", v.Name)
}

// kilobits writes a bandwidth as dladm reads it; what is less than a thousand
// bits is left out.
func kilobits(bits int64) string { return fmt.Sprintf("%dK", bits/1000) }

// RemoveVNIC deletes a VNIC over our etherstub. An absent one is fine. The
// error is ErrBusy while something uses it, and ErrConflict if the link is not
// a VNIC over our etherstub.
func (h *Host) RemoveVNIC(ctx context.Context, name string) error {
	if err := ValidLinkName(name); err != nil {
		return err
	}
	l, err := h.link(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := h.checkVNIC(name, l); err != nil {
		return err
	}
	err = h.dladm(ctx, "delete-vnic", "-t", name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func (h *Host) checkVNIC(name string, l link) error {
	if l.class != "vnic" || l.over != h.c.Etherstub {
		return fmt.Errorf("network: link %s: %w: a %s over %q", name, ErrConflict, l.class, l.over)
	}
	return nil
}

// link is a data link as dladm show-link prints it.
type link struct{ class, over string }

func (h *Host) links(ctx context.Context) (map[string]link, error) {
	out, err := h.run.Run(ctx, command.New("dladm", "show-link", "-p", "-o", "link,class,over"))
	if err != nil {
		return nil, fmt.Errorf("network: %w", classify(err))
	}
	return parseLinks(string(out))
}

func (h *Host) link(ctx context.Context, name string) (link, error) {
	out, err := h.run.Run(ctx, command.New("dladm", "show-link", "-p", "-o", "link,class,over", name))
	if err != nil {
		return link{}, fmt.Errorf("network: %w", classify(err))
	}
	links, err := parseLinks(string(out))
	if err != nil {
		return link{}, err
	}
	l, ok := links[name]
	if !ok {
		return link{}, fmt.Errorf("network: link %s: %w", name, ErrNotFound)
	}
	return l, nil
}

func parseLinks(out string) (map[string]link, error) {
	rows, err := parseRows(out, 3)
	if err != nil {
		return nil, err
	}
	links := make(map[string]link, len(rows))
	for _, r := range rows {
		over := r[2]
		if over == "--" { // what show-link prints for none
			over = ""
		}
		links[r[0]] = link{class: r[1], over: over}
	}
	return links, nil
}

func parseVNICs(out string) ([]VNIC, error) {
	rows, err := parseRows(out, 3)
	if err != nil {
		return nil, err
	}
	var vnics []VNIC
	for _, r := range rows {
		mac, err := parseMAC(r[2])
		if err != nil {
			return nil, fmt.Errorf("network: link %s: %w", r[0], err)
		}
		vnics = append(vnics, VNIC{Name: r[0], Over: r[1], MAC: mac})
	}
	return vnics, nil
}

// parseMAC reads an address as illumos prints it, without leading zeros.
func parseMAC(s string) (net.HardwareAddr, error) {
	if s == "" || s == "--" {
		return nil, nil
	}
	parts := strings.Split(s, ":")
	for i, p := range parts {
		if len(p) == 1 {
			parts[i] = "0" + p
		}
	}
	return net.ParseMAC(strings.Join(parts, ":"))
}

// parseRows splits what dladm(8) and ipadm(8) print under -p with more than
// one field: fields between colons, a colon or backslash of a value escaped by
// a backslash. See ofmt_print_field() in libofmt.
func parseRows(out string, fields int) ([][]string, error) {
	var rows [][]string
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		row := splitFields(line)
		if len(row) != fields {
			return nil, fmt.Errorf("network: %d fields printed, want %d: %q", len(row), fields, line)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func splitFields(line string) []string {
	var row []string
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		case c == ':':
			row = append(row, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(row, b.String())
}
