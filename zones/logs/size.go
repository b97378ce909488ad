package logs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// maxEntries bounds how many files of a container are counted: a zone writes
// the directory and could fill it with names.
const maxEntries = 1000

// Size returns how many bytes the log files of a container hold, below dir. As
// for Read, dir is trusted and what is below is a zone's; no link is followed,
// and what is no regular file counts nothing. A container without logs has 0.
func Size(dir, container string) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, fmt.Errorf("logs: %w", err)
	}
	defer root.Close() //nolint:errcheck // only read
	info, err := root.Lstat(container)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("logs: %w", err)
	}
	if !info.IsDir() {
		return 0, fmt.Errorf("logs: %s is not a directory", container)
	}
	d, err := root.Open(container)
	if err != nil {
		return 0, fmt.Errorf("logs: %w", err)
	}
	defer d.Close() //nolint:errcheck // only read
	entries, err := d.ReadDir(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("logs: %w", err)
	}
	var sum int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() { // Info is an lstat
			sum += info.Size()
		}
	}
	return sum, nil
}
