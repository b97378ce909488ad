package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"reddwarf.io/reddwarf/hack/images"
)

// push puts the chart's image into a registry.
func push(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var programs images.HostPrograms
	var platform v1.Platform
	fs := flag.NewFlagSet("push", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&programs.Clusterip, "clusterip", "", "the compiled clusterip")
	fs.StringVar(&programs.Reddwarf, "reddwarf", "", "the compiled reddwarf")
	fs.StringVar(&platform.OS, "os", "illumos", "what they are compiled for")
	fs.StringVar(&platform.Architecture, "arch", runtime.GOARCH, "and for which processors")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 || programs.Clusterip == "" || programs.Reddwarf == "" {
		return errors.New("usage: images push --clusterip F --reddwarf F [--os OS] [--arch ARCH] REPOSITORY:TAG")
	}
	ref, err := name.ParseReference(fs.Arg(0), name.WithDefaultRegistry(""))
	if err != nil {
		return err
	}
	img, err := programs.HostImage(platform)
	if err != nil {
		return err
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s@%s\n", ref.Context(), digest)
	return err
}
