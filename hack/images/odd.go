package images

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var linux = v1.Platform{OS: "linux", Architecture: "amd64"}

// Odd returns an image of two layers with everything rare that honest images
// have: whiteouts, an opaque directory, links of all kinds, special modes and
// owners, extended attributes, long and non-ASCII names, entries that change
// their type, and a directory that no member announces. Its Config sets every
// field that a container takes from an image.
//
// Unpacked it holds what OddFiles says.
func Odd() (v1.Image, error) {
	lower, err := Layer(
		Dir("etc"),
		File("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
		File("kept", "kept\n"),
		File("removed", "removed\n"),
		Dir("removed-dir"),
		File("removed-dir/inside", "gone\n"),
		Dir("opaque"),
		File("opaque/below", "hidden\n"),
		Dir("opaque/sub"),
		File("opaque/sub/below", "hidden\n"),
		File("file-to-dir", "was a file\n"),
		Dir("dir-to-link"),
		File("dir-to-link/inside", "gone\n"),
		Hardlink("hardlink", "kept"),
		Symlink("relative", "etc/passwd"),
		Symlink("absolute", "/etc/passwd"),
		Symlink("dangling", "/no/such/file"),
		Entry{Path: "setuid", Mode: 0o755 | fs.ModeSetuid, Data: []byte("s\n")},
		Entry{Path: "setgid-dir/", Type: tar.TypeDir, Mode: 0o775 | fs.ModeSetgid, GID: 50},
		Entry{Path: "sticky/", Type: tar.TypeDir, Mode: 0o777 | fs.ModeSticky},
		Entry{Path: "owned", Mode: 0o600, Data: []byte("o\n"), UID: 1000, GID: 2000},
		Entry{Path: "fifo", Type: tar.TypeFifo, Mode: 0o644},
		Entry{Path: "xattr", Mode: 0o644, Data: []byte("x\n"), Xattrs: map[string]string{"user.reddwarf": "value"}},
		File("long/"+strings.Repeat("d/", 80)+"file", "deep\n"),
		File("grüße \t'\"$(id)", "name\n"),
		File("unannounced/parent/file", "u\n"),
		File("empty", ""),
	)
	if err != nil {
		return nil, err
	}
	upper, err := Layer(
		File(".wh.removed", ""),
		File(".wh.removed-dir", ""),
		File("opaque/above", "seen\n"), // before the marker: it hides lower layers only
		File("opaque/.wh..wh..opq", ""),
		Dir("file-to-dir"),
		File("file-to-dir/inside", "now a directory\n"),
		Symlink("dir-to-link", "etc"),
		Hardlink("hardlink-to-lower", "kept"),
		File("etc/.wh.never-there", ""),
	)
	if err != nil {
		return nil, err
	}
	return Image(linux, v1.Config{
		Entrypoint: []string{"/bin/entry"},
		Cmd:        []string{"one", "two words"},
		Env:        []string{"A=1", "QUOTED=a 'b' \"c\" $(d) ; e", "EMPTY=", "EQUALS=a=b"},
		User:       "1000:2000",
		WorkingDir: "/work dir",
		Volumes:    map[string]struct{}{"/data": {}},
		StopSignal: "SIGQUIT",
		Labels:     map[string]string{"io.reddwarf.test": "odd"},
	}, lower, upper)
}

// OddFiles says what the unpacked Odd image has at a path: the content of a
// regular file, "-> target" for a symbolic link, "dir", "fifo", or "absent".
func OddFiles() map[string]string {
	return map[string]string{
		"kept": "kept\n", "hardlink": "kept\n", "hardlink-to-lower": "kept\n",
		"removed": "absent", "removed-dir": "absent",
		"opaque/below": "absent", "opaque/sub": "absent", "opaque/above": "seen\n",
		"file-to-dir": "dir", "file-to-dir/inside": "now a directory\n",
		"dir-to-link": "-> etc", "etc/inside": "absent",
		"relative": "-> etc/passwd", "absolute": "-> /etc/passwd", "dangling": "-> /no/such/file",
		"etc/passwd": "root:x:0:0:root:/:/bin/sh\n",
		"setuid":     "s\n", "setgid-dir": "dir", "sticky": "dir", "owned": "o\n", "fifo": "fifo", "xattr": "x\n",
		"long/" + strings.Repeat("d/", 80) + "file": "deep\n",
		"grüße \t'\"$(id)":                          "name\n",
		"unannounced/parent/file":                   "u\n", "empty": "",
		".wh.removed": "absent", "opaque/.wh..wh..opq": "absent",
	}
}

// Hostile returns images by name that try to write, link or delete outside
// their root when they are unpacked. Nothing may ever appear or vanish there,
// whether the image is refused or unpacked harmlessly. Names of files to watch
// for have "escaped" in them.
func Hostile() (map[string]v1.Image, error) {
	cases := map[string][][]Entry{
		"dotdot":          {{File("../escaped", "x")}},
		"deep-dotdot":     {{Dir("a"), File("a/../../escaped", "x")}},
		"absolute":        {{File("/escaped", "x")}},
		"symlink-file":    {{Symlink("out", "../escaped"), File("out", "x")}},
		"symlink-parent":  {{Symlink("up", ".."), File("up/escaped", "x")}},
		"symlink-abs":     {{Symlink("tmp", "/tmp"), File("tmp/escaped", "x")}},
		"symlink-layers":  {{Symlink("up", "../..")}, {File("up/escaped", "x")}},
		"symlink-chain":   {{Symlink("a", "b"), Symlink("b", ".."), File("a/escaped", "x")}},
		"hardlink-out":    {{Hardlink("escaped", "../../../../../../etc/shadow")}},
		"hardlink-abs":    {{Hardlink("escaped", "/etc/shadow")}},
		"hardlink-link":   {{Symlink("etc", "/etc"), Hardlink("escaped", "etc/shadow")}},
		"whiteout-dotdot": {{File(".wh...", "")}},
		"whiteout-self":   {{File(".wh..", "")}},
		"whiteout-empty":  {{File(".wh.", "")}},
		"whiteout-link":   {{Symlink("up", "..")}, {File("up/.wh.keep", "")}},
		"opaque-link":     {{Symlink("up", "..")}, {File("up/.wh..wh..opq", "")}},
		"device":          {{Entry{Path: "escaped", Type: tar.TypeBlock, Mode: 0o666}}},
		"char-device":     {{Entry{Path: "escaped", Type: tar.TypeChar, Mode: 0o666}}},
	}
	images := make(map[string]v1.Image, len(cases))
	for name, layers := range cases {
		var all []v1.Layer
		for _, entries := range layers {
			layer, err := Layer(entries...)
			if err != nil {
				return nil, fmt.Errorf("hostile %s: %w", name, err)
			}
			all = append(all, layer)
		}
		img, err := Image(linux, v1.Config{Cmd: []string{"/x"}}, all...)
		if err != nil {
			return nil, fmt.Errorf("hostile %s: %w", name, err)
		}
		images[name] = img
	}
	return images, nil
}

// WrongPlatform returns an index that has nothing for amd64 of Linux or illumos.
func WrongPlatform() (v1.ImageIndex, error) {
	var all []v1.Image
	for _, p := range []v1.Platform{{OS: "windows", Architecture: "amd64"}, {OS: "linux", Architecture: "s390x"}} {
		layer, err := Layer(File("platform", p.String()))
		if err != nil {
			return nil, err
		}
		img, err := Image(p, v1.Config{Cmd: []string{"/x"}}, layer)
		if err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	return Index(all...)
}

// Test returns the images that only tests want: reddwarf/odd:1, one
// reddwarf/hostile tag per case, and reddwarf/platform:1, the index without an
// image for us.
func Test() ([]Named, error) {
	odd, err := Odd()
	if err != nil {
		return nil, err
	}
	index, err := WrongPlatform()
	if err != nil {
		return nil, err
	}
	named := []Named{{Name: "reddwarf/odd:1", Image: odd}, {Name: "reddwarf/platform:1", Index: index}}
	hostile, err := Hostile()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(hostile)) {
		named = append(named, Named{Name: "reddwarf/hostile:" + name, Image: hostile[name]})
	}
	return named, nil
}
