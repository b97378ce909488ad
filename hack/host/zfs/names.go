package zfs

import (
	"fmt"
	"strings"
)

// Which names an argument may be.
const (
	typeFilesystem = 1 << iota
	typeSnapshot
	typeVolume
	typeBookmark

	typeDataset = typeFilesystem | typeSnapshot | typeVolume
)

// maxName is the length of the longest name (ZFS_MAX_DATASET_NAME_LEN less
// its terminator); maxDepth is zfs_max_dataset_nesting.
const (
	maxName  = 255
	maxDepth = 50
)

// checkName returns why name is no name of the wanted types, or "". It is
// libzfs' zfs_validate_name over entity_namecheck. modifying is for names that
// are about to be made.
func checkName(name string, types int, modifying bool) string {
	if why := checkEntity(name); why != "" {
		return why
	}
	snap, mark := strings.Contains(name, "@"), strings.Contains(name, "#")
	switch {
	case types&typeSnapshot == 0 && snap:
		return "snapshot delimiter '@' is not expected here"
	case types == typeSnapshot && !snap:
		return "missing '@' delimiter in snapshot name"
	case types&typeBookmark == 0 && mark:
		return "bookmark delimiter '#' is not expected here"
	case modifying && strings.Contains(name, "%"):
		return "invalid character % in name"
	}
	return ""
}

// checkEntity is entity_namecheck of zfs_namecheck.c.
func checkEntity(name string) string {
	switch {
	case len(name) > maxName:
		return "name is too long"
	case strings.HasPrefix(name, "/"):
		return "leading slash in name"
	case name == "":
		return "empty component in name"
	}
	start, delimiter := 0, false
	for {
		end := start
		for end < len(name) && strings.IndexByte("/@#", name[end]) < 0 {
			end++
		}
		last := end == len(name)
		if last && name[end-1] == '/' {
			return "trailing slash in name"
		}
		for _, c := range []byte(name[start:end]) {
			if !validChar(c) && c != '%' {
				return fmt.Sprintf("invalid character '%c' in name", c)
			}
		}
		if !last && name[end] != '/' {
			if delimiter {
				return "multiple '@' and/or '#' delimiters in name"
			}
			delimiter = true
		}
		switch {
		case start == end:
			return "empty component in name"
		case last:
			return ""
		case name[end] == '/' && delimiter:
			return "trailing slash in name"
		}
		start = end + 1
	}
}

// validChar is valid_char of zfs_namecheck.c.
func validChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("-_.: ", c) >= 0
}

// checkMountpoint is mountpoint_namecheck.
func checkMountpoint(path string) string {
	if !strings.HasPrefix(path, "/") {
		return "'mountpoint' must be an absolute path, 'none', or 'legacy'"
	}
	for c := range strings.SplitSeq(path, "/") {
		if len(c) > maxName {
			return "component of 'mountpoint' is too long"
		}
	}
	return ""
}

// depth is the number of names above a dataset, the pool's included.
func depth(name string) int {
	return strings.Count(filesystem(name), "/")
}
