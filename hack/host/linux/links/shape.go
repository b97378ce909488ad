package links

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// burst is how many bytes may pass at once under a limit: a twentieth of a
// second's, but enough for the large packets that Linux gives to its cards.
func burst(bitsPerSecond uint64) uint32 {
	return uint32(min(max(bitsPerSecond/8/20, 128<<10), 1<<30))
}

// shape limits what leaves the bridge at a port. 0 takes the limit away.
func shape(port string, bitsPerSecond uint64) error {
	l, err := netlink.LinkByName(port)
	if isNotFound(err) && bitsPerSecond == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bandwidth of %s: %w", port, err)
	}
	attrs := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)}
	if bitsPerSecond == 0 {
		err := netlink.QdiscDel(&netlink.Tbf{QdiscAttrs: attrs})
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) { // there is none
			return fmt.Errorf("bandwidth of %s: %w", port, err)
		}
		return nil
	}
	rate, size := bitsPerSecond/8, burst(bitsPerSecond)
	err = netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: attrs, Rate: rate, Limit: 2 * size, Buffer: netlink.Xmittime(rate, size),
	})
	if err != nil {
		return fmt.Errorf("bandwidth of %s: %w", port, err)
	}
	return nil
}
