package zones

import (
	"context"
	"errors"
	"fmt"
	"os"

	"reddwarf.io/reddwarf/zones/command"
)

// Configure makes c the configuration of its zone. A zone that is configured
// and no more is configured anew; one that has a root is an ErrState, because
// zonecfg would silently add to what is there. After a failure a zone that was
// absent before is absent again.
func (h *Host) Configure(ctx context.Context, c Config) error {
	const op = "configure"
	script, err := c.Script(h.features)
	if err != nil {
		return opError(op, c.Name, err)
	}
	before, err := h.Zone(ctx, c.Name)
	if err != nil {
		return err
	}
	if before.State != Absent && before.State != Configured {
		return opError(op, c.Name, fmt.Errorf("%w: %s", ErrState, before.State))
	}
	file, err := h.writeScript(c.Name, script)
	if err != nil {
		return opError(op, c.Name, err)
	}
	defer os.Remove(file) //nolint:errcheck // root's own directory; the next start of the agent may clear it
	_, err = h.run.Run(ctx, command.New("zonecfg", "-z", c.Name, "-f", file))
	if err == nil {
		return nil
	}
	err = opError(op, c.Name, err)
	if before.State == Absent {
		// zonecfg saves what it had understood before the error. The context
		// may be what ended it.
		if derr := h.Delete(context.WithoutCancel(ctx), c.Name); derr != nil {
			err = errors.Join(err, derr)
		}
	}
	return err
}

// writeScript puts the script where only root can read or replace it: zonecfg
// takes no standard input without becoming interactive, which ignores errors.
func (h *Host) writeScript(zone, script string) (file string, err error) {
	if err := os.MkdirAll(h.scripts, 0o700); err != nil {
		return "", err
	}
	info, err := os.Lstat(h.scripts)
	if err != nil {
		return "", err
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: not a directory of mode 0700", h.scripts)
	}
	f, err := os.CreateTemp(h.scripts, zone+"-*.zonecfg") // mode 0600, exclusively
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(script)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(f.Name()) //nolint:errcheck // the write's error matters
		return "", err
	}
	return f.Name(), nil
}

// Delete removes a zone's configuration. A zone that is not there is no error;
// one that runs is.
func (h *Host) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return opError("delete", name, err)
	}
	_, err := h.run.Run(ctx, command.New("zonecfg", "-z", name, "delete", "-F"))
	if err = opError("delete", name, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Attrs returns a zone's attributes, by which its owner is known. The zone must
// be there: else the error is ErrNotFound.
func (h *Host) Attrs(ctx context.Context, name string) (map[string]string, error) {
	if err := checkName(name); err != nil {
		return nil, opError("attrs", name, err)
	}
	out, err := h.run.Run(ctx, command.New("zonecfg", "-z", name, "info", "attr"))
	if err != nil {
		return nil, opError("attrs", name, err)
	}
	attrs, err := parseAttrs(out)
	return attrs, opError("attrs", name, err)
}
