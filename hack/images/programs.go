package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// searchPath is the PATH in our images.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// webPackage is the import path of the web server.
const webPackage = "reddwarf.io/reddwarf/hack/images/web"

// Web compiles our web server for Linux and returns an image of it. It needs the
// go command, and a working directory inside this module.
func Web(ctx context.Context) (v1.Image, error) {
	return WebFor(ctx, v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// WebFor is Web for another platform.
func WebFor(ctx context.Context, platform v1.Platform) (v1.Image, error) {
	dir, err := os.MkdirTemp("", "web-image-")
	if err != nil {
		return nil, fmt.Errorf("web image: %w", err)
	}
	binary := filepath.Join(dir, "web")
	img, err := func() (v1.Image, error) {
		// No path, version or build id of this machine may get into the binary.
		c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", binary, webPackage)
		c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS="+platform.OS, "GOARCH="+platform.Architecture)
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("web image: go build: %w: %s", err, strings.TrimSpace(string(out)))
		}
		return WebFrom(binary, platform)
	}()
	return img, errors.Join(err, os.RemoveAll(dir))
}

// WebFrom returns the image of a web server that is compiled already.
func WebFrom(binary string, platform v1.Platform) (v1.Image, error) {
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("web image: %w", err)
	}
	layer, err := Layer(append(accounts(), Entry{Path: "web", Mode: 0o755, Data: data})...)
	if err != nil {
		return nil, fmt.Errorf("web image: %w", err)
	}
	return Image(platform, v1.Config{
		Entrypoint:   []string{"/web"},
		Env:          []string{searchPath},
		WorkingDir:   "/",
		User:         "1000:1000",
		ExposedPorts: map[string]struct{}{"8080/tcp": {}},
	}, layer)
}

// bindService is the file capability cap_net_bind_service=ep, as Linux keeps it
// (struct vfs_cap_data, revision 2).
const bindService = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// CoreDNS returns an image of a compiled CoreDNS that is like the official one:
// its user is not root, and its program has a file capability.
func CoreDNS(binary string, platform v1.Platform) (v1.Image, error) {
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("coredns image: %w", err)
	}
	layer, err := Layer(append(accounts(), Entry{
		Path: "coredns", Mode: 0o755, Data: data, Xattrs: map[string]string{"security.capability": bindService},
	})...)
	if err != nil {
		return nil, fmt.Errorf("coredns image: %w", err)
	}
	return Image(platform, v1.Config{
		Entrypoint: []string{"/coredns"}, Env: []string{searchPath}, WorkingDir: "/", User: "1000:1000",
		ExposedPorts: map[string]struct{}{"53/tcp": {}, "53/udp": {}},
	}, layer)
}

// Native returns img as an image for native zones of illumos. Its programs stay
// what they are: a simulated host runs them in zones of every brand, and a real
// one could not.
func Native(img v1.Image) (v1.Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("native image: %w", err)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("native image: %w", err)
	}
	return Image(v1.Platform{OS: "illumos", Architecture: config.Architecture}, config.Config, layers...)
}

// BusyboxPath is where Debian's busybox-static puts its program.
const BusyboxPath = "/bin/busybox"

// Busybox returns an image of the machine's static busybox, with a link for
// each of its applets.
func Busybox() (v1.Image, error) { return BusyboxFrom(BusyboxPath) }

// BusyboxFrom is Busybox with the program at path.
func BusyboxFrom(path string) (v1.Image, error) {
	entries, err := busyboxEntries(path)
	if err != nil {
		return nil, fmt.Errorf("busybox image: %w", err)
	}
	layer, err := Layer(entries...)
	if err != nil {
		return nil, fmt.Errorf("busybox image: %w", err)
	}
	return Image(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, v1.Config{
		Cmd: []string{"sh"}, Env: []string{searchPath}, WorkingDir: "/",
	}, layer)
}

// HostTools returns an image for host pods: busybox, and no PATH, so that the
// host's own applies. It is for illumos' containers. Native programs do not run
// on the simulated host, so what is in it is Linux' busybox.
func HostTools() (v1.Image, error) {
	entries, err := busyboxEntries(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("host tools image: %w", err)
	}
	layer, err := Layer(entries...)
	if err != nil {
		return nil, fmt.Errorf("host tools image: %w", err)
	}
	return Image(v1.Platform{OS: "illumos", Architecture: runtime.GOARCH}, v1.Config{Cmd: []string{"/bin/sh"}, WorkingDir: "/"}, layer)
}

// Idle returns an image whose program does nothing until it is told to end, as
// Kubernetes' pause image does.
func Idle() (v1.Image, error) {
	data, err := os.ReadFile(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("idle image: %w (Debian: apt-get install busybox-static)", err)
	}
	layer, err := Layer(append(accounts(), Entry{Path: "sleep", Mode: 0o755, Data: data})...)
	if err != nil {
		return nil, fmt.Errorf("idle image: %w", err)
	}
	return Image(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, v1.Config{
		Entrypoint: []string{"/sleep", "2147483647"}, Env: []string{searchPath}, WorkingDir: "/",
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
