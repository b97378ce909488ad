package images

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Agnhost returns the image that most of Kubernetes' own tests use, made of its
// compiled program and busybox for the shell that they expect beside it. What
// Alpine's image has more, such as dig and iperf, is not in it.
func Agnhost(binary string) (v1.Image, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("agnhost image: %w", err)
	}
	entries, err := busyboxEntries(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("agnhost image: %w", err)
	}
	// The tests of supplemental groups want this user in this group.
	for i, e := range entries {
		switch e.Path {
		case "etc/passwd":
			entries[i].Data = []byte(strings.Replace(string(e.Data), "\nuser:x:1000:1000:user:", "\nuser-defined-in-image:x:1000:1000::", 1))
		case "etc/group":
			entries[i].Data = append(e.Data, "group-defined-in-image:x:50000:user-defined-in-image\n"...)
		}
	}
	entries = append(entries,
		Entry{Path: "agnhost", Mode: 0o755, Data: program},
		Symlink("agnhost-2", "agnhost"),
		Entry{Path: "uploads/", Type: tar.TypeDir, Mode: 0o755},
	)
	layer, err := Layer(entries...)
	if err != nil {
		return nil, fmt.Errorf("agnhost image: %w", err)
	}
	return Image(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, v1.Config{
		Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, Env: []string{searchPath}, WorkingDir: "/",
	}, layer)
}

// NoNewPrivs returns the image with the program nnp, which is setuid and says
// as whom it runs.
func NoNewPrivs(binary string) (v1.Image, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("nonewprivs image: %w", err)
	}
	entries, err := busyboxEntries(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("nonewprivs image: %w", err)
	}
	layer, err := Layer(append(entries, Dir("usr"), Dir("usr/local"), Dir("usr/local/bin"),
		Entry{Path: "usr/local/bin/nnp", Mode: 0o755 | fs.ModeSetuid | fs.ModeSetgid, Data: program})...)
	if err != nil {
		return nil, fmt.Errorf("nonewprivs image: %w", err)
	}
	return Image(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, v1.Config{
		Cmd: []string{"nnp"}, Env: []string{searchPath}, WorkingDir: "/",
	}, layer)
}

// NonRoot returns busybox with a numeric user that is not root.
func NonRoot() (v1.Image, error) {
	entries, err := busyboxEntries(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("nonroot image: %w", err)
	}
	layer, err := Layer(entries...)
	if err != nil {
		return nil, fmt.Errorf("nonroot image: %w", err)
	}
	return Image(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, v1.Config{
		Cmd: []string{"sh"}, Env: []string{searchPath}, WorkingDir: "/", User: "1234",
	}, layer)
}

// busyboxEntries are the static busybox at path with a link for each of its
// applets.
func busyboxEntries(path string) ([]Entry, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w (Debian: apt-get install busybox-static)", err)
	}
	out, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", path, err)
	}
	applets := strings.Fields(string(out))
	slices.Sort(applets)
	entries := append(accounts(), Dir("bin"), Entry{Path: "bin/busybox", Mode: 0o755, Data: data})
	for _, applet := range slices.Compact(applets) {
		if applet != "busybox" && !strings.ContainsRune(applet, '/') {
			entries = append(entries, Symlink("bin/"+applet, "busybox"))
		}
	}
	return entries, nil
}
