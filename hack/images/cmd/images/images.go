// Images serves our test images from a registry in this process.
//
//	images serve --listen ADDR [--user U --password P] [--tls-cert F --tls-key F]
//	             [--web BINARY] [--coredns BINARY] [--tag NAME=KIND]... [--test-images] [--verbose]
//	             [--agnhost BINARY] [--nnp BINARY] [--sources DIR] [--tools DIR]
//
//	images push --clusterip F --reddwarf F [--os OS] [--arch ARCH] REPOSITORY:TAG
//
// Serve prints one line "registry ADDR" when it answers, and then a line
// "NAME DIGEST" for each image.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"reddwarf.io/reddwarf/hack/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err) //nolint:errcheck // nowhere else to say it
		os.Exit(1)
	}
}

type options struct {
	programs               images.HostPrograms
	listen, user, password string
	cert, key              string
	web, coredns           string
	kubernetes             images.Kubernetes
	tags                   []string // NAME=KIND
	test, verbose          bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "push" {
		return push(ctx, args[1:], stdout, stderr)
	}
	if len(args) == 0 || args[0] != "serve" {
		return errors.New("usage: images serve --listen ADDR ... (see images serve -h), or images push ... (see images push -h)")
	}
	var o options
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.listen, "listen", "127.0.0.1:5000", "`address` and port; port 0 takes a free one")
	fs.StringVar(&o.user, "user", "", "ask for this user by basic authentication")
	fs.StringVar(&o.password, "password", os.Getenv("IMAGES_PASSWORD"), "and this password (environment: IMAGES_PASSWORD)")
	fs.StringVar(&o.cert, "tls-cert", "", "serve HTTPS with this certificate `file`")
	fs.StringVar(&o.key, "tls-key", "", "and this key `file`")
	fs.StringVar(&o.programs.Clusterip, "clusterip", "", "the compiled clusterip; with --reddwarf it gives the kind host")
	fs.StringVar(&o.programs.Reddwarf, "reddwarf", "", "the compiled reddwarf")
	fs.StringVar(&o.web, "web", "", "the compiled web server; without it the go command compiles it")
	fs.StringVar(&o.coredns, "coredns", "", "CoreDNS as hack/coredns.sh builds it; gives the kind coredns")
	fs.StringVar(&o.kubernetes.Agnhost, "agnhost", "", "Kubernetes' compiled agnhost; with --sources it gives the kinds agnhost and kitten")
	fs.StringVar(&o.kubernetes.NNP, "nnp", "", "Kubernetes' compiled nnp; gives the kind nonewprivs")
	fs.StringVar(&o.kubernetes.Sources, "sources", "", "Kubernetes' folder test/images")
	fs.StringVar(&o.kubernetes.Tools, "tools", "", "tree made by hack/conformance/tools.sh; gives the kinds busybox-bash, glibc and nginx, and agnhost more programs")
	fs.BoolVar(&o.test, "test-images", false, "also serve the odd and hostile images for tests")
	fs.BoolVar(&o.verbose, "verbose", false, "print each request")
	fs.Func("tag", "another `NAME=KIND`, where KIND is web, web-native, host, busybox, busybox-bash, nonroot, idle, coredns, agnhost, kitten, nonewprivs, glibc or nginx; may be repeated", func(s string) error {
		o.tags = append(o.tags, s)
		return nil
	})
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	if (o.cert == "") != (o.key == "") {
		return errors.New("--tls-cert and --tls-key belong together")
	}
	all, err := collect(ctx, o)
	if err != nil {
		return err
	}
	return serve(ctx, o, all, stdout, stderr)
}

// collect builds the images under all of their names.
func collect(ctx context.Context, o options) ([]images.Named, error) {
	web, err := func() (v1.Image, error) {
		if o.web != "" {
			return images.WebFrom(o.web, v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
		}
		return images.Web(ctx)
	}()
	if err != nil {
		return nil, err
	}
	kinds, err := kindsOf(o)
	if err != nil {
		return nil, err
	}
	native, err := images.Native(web)
	if err != nil {
		return nil, err
	}
	kinds["web"], kinds["web-native"] = web, native
	busybox := kinds["busybox"]
	named := []images.Named{
		{Name: "reddwarf/web:1", Image: web},
		{Name: "reddwarf/web:latest", Image: web},
		{Name: "reddwarf/web-native:1", Image: native},
		{Name: "busybox:1", Image: busybox},
		{Name: "busybox:latest", Image: busybox},
		{Name: "reddwarf/hosttools:1", Image: kinds["hosttools"]},
	}
	for _, tag := range o.tags {
		name, kind, _ := strings.Cut(tag, "=")
		img, ok := kinds[kind]
		if !ok {
			return nil, fmt.Errorf("--tag %s: no such KIND, or the flag with its program is missing", tag)
		}
		named = append(named, images.Named{Name: name, Image: img})
	}
	if !o.test {
		return named, nil
	}
	test, err := images.Test()
	return append(named, test...), err
}

// kindsOf builds the images that --tag may name, but for web.
func kindsOf(o options) (map[string]v1.Image, error) {
	k := o.kubernetes
	build := map[string]func() (v1.Image, error){
		"busybox": images.Busybox, "idle": images.Idle, "nonroot": k.NonRootImage, "hosttools": images.HostTools,
	}
	if p := o.programs; p.Clusterip != "" && p.Reddwarf != "" {
		// The simulated host runs Linux' programs where illumos would run its own.
		build["host"] = func() (v1.Image, error) {
			return p.HostImage(v1.Platform{OS: "illumos", Architecture: runtime.GOARCH})
		}
	}
	if o.coredns != "" {
		build["coredns"] = func() (v1.Image, error) {
			return images.CoreDNS(o.coredns, v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
		}
	}
	if k.Agnhost != "" && k.Sources != "" {
		build["agnhost"] = k.AgnhostImage
		build["kitten"] = k.KittenImage
	}
	if k.NNP != "" {
		build["nonewprivs"] = k.NoNewPrivsImage
	}
	if k.Tools != "" {
		build["busybox-bash"] = k.BusyboxImage
		build["glibc"] = k.GlibcImage
		build["nginx"] = k.NginxImage
	}
	kinds := map[string]v1.Image{}
	for kind, make := range build {
		img, err := make()
		if err != nil {
			return nil, err
		}
		kinds[kind] = img
	}
	return kinds, nil
}

func serve(ctx context.Context, o options, all []images.Named, stdout, stderr io.Writer) error {
	ro := images.Options{User: o.user, Password: o.password}
	if o.verbose {
		ro.Log = log.New(stderr, "", log.LstdFlags)
	}
	handler, err := images.Handler(ctx, ro, all...)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error, 1)
	go func() {
		if o.cert != "" {
			ended <- server.ServeTLS(l, o.cert, o.key)
		} else {
			ended <- server.Serve(l)
		}
	}()
	if err := printImages(stdout, l.Addr(), all); err != nil {
		return errors.Join(err, server.Close())
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	err = server.Close()
	<-ended //nolint:errcheck // it says that the server was closed
	return err
}

func printImages(out io.Writer, addr net.Addr, all []images.Named) error {
	digests := make(map[string]string)
	for _, n := range all {
		var (
			digest v1.Hash
			err    error
		)
		if n.Image != nil {
			digest, err = n.Image.Digest()
		} else {
			digest, err = n.Index.Digest()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		digests[n.Name] = digest.String()
	}
	_, err := fmt.Fprintf(out, "registry %s\n", addr)
	for _, name := range slices.Sorted(maps.Keys(digests)) {
		_, perr := fmt.Fprintln(out, name, digests[name])
		err = errors.Join(err, perr)
	}
	return err
}
