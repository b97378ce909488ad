package images

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Kubernetes builds stand-ins for the images of Kubernetes' own tests: their own
// programs compiled from source, Debian's busybox, and programs of Debian
// packages instead of Alpine's.
type Kubernetes struct {
	// Agnhost is the compiled program agnhost.
	Agnhost string
	// NNP is the compiled program nnp of the image nonewprivs.
	NNP string
	// Sources is Kubernetes' folder test/images, for the files that the images have
	// beside their programs.
	Sources string
	// Tools is a tree with curl, dig, nc, getent, hostname, nginx, what they load
	// and bash-static; hack/conformance/tools.sh makes it.
	Tools string
}

var thisLinux = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}

// toolLinks are names of Tools; the first hides busybox's program. The shell is
// none of busybox's either: Debian's runs its own nc whatever PATH has.
func toolLinks() []Entry {
	return []Entry{Symlink("bin/nc", "nc.openbsd"), Symlink("bin/bash", "bash-static"), Symlink("bin/sh", "bash-static")}
}

// AgnhostImage returns the image that most of the tests use.
func (k Kubernetes) AgnhostImage() (v1.Image, error) {
	layers, err := k.agnhostLayers()
	if err != nil {
		return nil, fmt.Errorf("agnhost image: %w", err)
	}
	return Image(thisLinux, v1.Config{
		Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, Env: []string{searchPath}, WorkingDir: "/",
	}, layers...)
}

func (k Kubernetes) agnhostLayers() ([]v1.Layer, error) {
	program, err := os.ReadFile(k.Agnhost)
	if err != nil {
		return nil, err
	}
	entries, err := busyboxEntries(BusyboxPath)
	if err != nil {
		return nil, err
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
		Dir("uploads"),
	)
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		data, err := os.ReadFile(filepath.Join(k.Sources, "agnhost/porter", name))
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Path: name, Mode: 0o644, Data: data})
	}
	return k.withTools(entries)
}

// KittenImage returns the image whose files the tests of image volumes read.
func (k Kubernetes) KittenImage() (v1.Image, error) {
	layers, err := k.agnhostLayers()
	if err != nil {
		return nil, fmt.Errorf("kitten image: %w", err)
	}
	files, err := Tree(filepath.Join(k.Sources, "kitten/html"))
	if err != nil {
		return nil, fmt.Errorf("kitten image: %w", err)
	}
	// The original is built on Alpine's image, and the tests look for that.
	top, err := Layer(append(files, File("etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\n"))...)
	if err != nil {
		return nil, fmt.Errorf("kitten image: %w", err)
	}
	return Image(thisLinux, v1.Config{
		Entrypoint: []string{"/agnhost"}, Cmd: []string{"test-webserver"}, Env: []string{searchPath}, WorkingDir: "/",
	}, append(layers, top)...)
}

// NoNewPrivsImage returns the image with the program nnp, which is setuid and
// says as whom it runs.
func (k Kubernetes) NoNewPrivsImage() (v1.Image, error) {
	program, err := os.ReadFile(k.NNP)
	if err != nil {
		return nil, fmt.Errorf("nonewprivs image: %w", err)
	}
	return onBusybox("nonewprivs", v1.Config{Cmd: []string{"nnp"}},
		Dir("usr"), Dir("usr/local"), Dir("usr/local/bin"),
		Entry{Path: "usr/local/bin/nnp", Mode: 0o755 | fs.ModeSetuid | fs.ModeSetgid, Data: program})
}

// NonRootImage returns busybox with a numeric user that is not root.
func (Kubernetes) NonRootImage() (v1.Image, error) {
	return onBusybox("nonroot", v1.Config{Cmd: []string{"sh"}, User: "1234"})
}

// BusyboxImage returns busybox with bash for its shell: unlike the busybox that
// the tests are written for, Debian's drops variables whose names a shell could
// not set, such as "data-1".
func (k Kubernetes) BusyboxImage() (v1.Image, error) {
	shell, err := os.ReadFile(filepath.Join(k.Tools, "bin/bash-static"))
	if err != nil {
		return nil, fmt.Errorf("busybox image: %w", err)
	}
	return onBusybox("busybox", v1.Config{Cmd: []string{"sh"}}, Entry{Path: "bin/sh", Mode: 0o755, Data: shell})
}

// GlibcImage returns the image from which the tests ask for names as programs
// linked to the GNU C library do.
func (k Kubernetes) GlibcImage() (v1.Image, error) {
	entries, err := busyboxEntries(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("glibc image: %w", err)
	}
	layers, err := k.withTools(entries)
	if err != nil {
		return nil, fmt.Errorf("glibc image: %w", err)
	}
	return Image(thisLinux, v1.Config{Cmd: []string{"bash"}, Env: []string{searchPath}, WorkingDir: "/"}, layers...)
}

// NginxImage returns Debian's nginx, which serves its welcome page on port 80.
func (k Kubernetes) NginxImage() (v1.Image, error) {
	const config = "user root; daemon off; pid /run/nginx.pid; error_log stderr;\nevents {}\n" +
		"http { include mime.types; access_log /dev/stdout; server { listen 80; root /usr/share/nginx/html; } }\n"
	entries, err := busyboxEntries(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("nginx image: %w", err)
	}
	layers, err := k.withTools(append(entries,
		Dir("run"), Dir("var"), Dir("var/lib"), Dir("var/lib/nginx"), Dir("var/log"), Dir("var/log/nginx"),
		Dir("etc/nginx"), File("etc/nginx/nginx.conf", config)))
	if err != nil {
		return nil, fmt.Errorf("nginx image: %w", err)
	}
	return Image(thisLinux, v1.Config{
		Entrypoint: []string{"/usr/sbin/nginx"}, Env: []string{searchPath}, WorkingDir: "/", StopSignal: "SIGQUIT",
		ExposedPorts: map[string]struct{}{"80/tcp": {}},
	}, layers...)
}

// withTools returns a layer of entries, and one of Tools where there are any.
func (k Kubernetes) withTools(entries []Entry) ([]v1.Layer, error) {
	base, err := Layer(entries...)
	if err != nil || k.Tools == "" {
		return []v1.Layer{base}, err
	}
	files, err := Tree(k.Tools)
	if err != nil {
		return nil, err
	}
	tools, err := Layer(append(files, toolLinks()...)...)
	return []v1.Layer{base, tools}, err
}

// onBusybox returns an image of busybox and more entries.
func onBusybox(name string, config v1.Config, more ...Entry) (v1.Image, error) {
	entries, err := busyboxEntries(BusyboxPath)
	if err != nil {
		return nil, fmt.Errorf("%s image: %w", name, err)
	}
	base, err := Layer(entries...)
	if err != nil {
		return nil, fmt.Errorf("%s image: %w", name, err)
	}
	layers := []v1.Layer{base}
	if len(more) > 0 {
		top, err := Layer(more...)
		if err != nil {
			return nil, fmt.Errorf("%s image: %w", name, err)
		}
		layers = append(layers, top)
	}
	config.Env, config.WorkingDir = []string{searchPath}, "/"
	return Image(thisLinux, config, layers...)
}

// Tree returns what is in a folder as entries that root owns, in a fixed order.
func Tree(dir string) ([]Entry, error) {
	var entries []Entry
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := Entry{Path: name, Mode: info.Mode()}
		switch {
		case d.IsDir():
			e = Entry{Path: name + "/", Type: tar.TypeDir, Mode: 0o755}
		case d.Type() == fs.ModeSymlink:
			e.Type = tar.TypeSymlink
			e.Link, err = os.Readlink(path)
		case d.Type().IsRegular():
			e.Data, err = os.ReadFile(path)
		default:
			err = fmt.Errorf("%s: neither a file, a folder nor a symbolic link", path)
		}
		entries = append(entries, e)
		return err
	})
	return entries, err
}
