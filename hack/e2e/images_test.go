package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/hack/images"
	"reddwarf.io/reddwarf/hack/testbed"
)

// pushImage puts an image with the web program and that many MiB, which cannot be
// compressed, into the registry.
func pushImage(t *testing.T, repository string, mebibytes int) string {
	t.Helper()
	web, err := os.ReadFile(filepath.Join(os.Getenv("REDDWARF_BIN"), "web"))
	if err != nil {
		t.Fatal(err)
	}
	fill := make([]byte, mebibytes<<20)
	rand.Read(fill) //nolint:errcheck // never fails
	layer, err := images.Layer(images.Entry{Path: "fill", Mode: 0o644, Data: fill}, images.Entry{Path: "web", Mode: 0o755, Data: web})
	if err != nil {
		t.Fatal(err)
	}
	img, err := images.Image(v1.Platform{OS: "linux", Architecture: "amd64"}, v1.Config{Entrypoint: []string{"/web"}}, layer)
	if err != nil {
		t.Fatal(err)
	}
	full := image(repository)
	ref, err := name.ParseReference(full, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return full
}

// TestImagesGo fills a small pool with images: beyond the threshold those go that
// were not used for the longest time, and what a pod uses stays. What an agent
// learned of their use outlives it.
func TestImagesGo(t *testing.T) {
	const node = "small"
	h, err := bed.AddHost(t.Context(), node, testbed.HostOptions{PoolSize: "512M", AgentFlags: []string{
		"--image-gc-high-threshold", "30", "--image-gc-low-threshold", "25", "--image-minimum-gc-age", "1s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bed.Kubectl(context.Background(), "delete", "node", node) })
	t.Cleanup(func() { h.StopAgent() })
	reddwarf := func(args ...string) string {
		t.Helper()
		out, err := h.Run(t.Context(), append([]string{filepath.Join(os.Getenv("REDDWARF_BIN"), "reddwarf")}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	large, middle, small := pushImage(t, "images/large:1", 120), pushImage(t, "images/middle:1", 30), pushImage(t, "images/small:1", 10)
	start := func(name, image string) {
		t.Helper()
		apply(t, pod(name, image, "terminationGracePeriodSeconds: 1\nnodeName: "+node, ""))
		waitPod(t, name, "a running pod", ready)
	}
	start("image-middle", middle)
	start("image-large", large)
	kubectl(t, "delete", "pod", "image-large", "--wait=true")
	start("image-small", small)

	list := reddwarf("image", "list")
	for image, used := range map[string]string{large: " - ", middle: "default/image-middle", small: "default/image-small"} {
		line := lineWith(list, image)
		if !strings.Contains(line, used) || !strings.Contains(line, "sha256:") || !strings.Contains(line, "MiB") {
			t.Errorf("image list says of %s: %q, want its user %q", image, line, used)
		}
	}
	if out := reddwarf("image", "prune", "--dry-run"); !strings.Contains(out, "would remove "+large) || strings.Contains(out, middle) || strings.Contains(out, small) {
		t.Errorf("a dry run would remove:\n%s", out)
	}
	awaitImages(t, node, []string{large, middle, small}, nil)
	kubectl(t, "delete", "pod", "image-middle", "--wait=true")

	// An agent looks when it begins.
	if err := h.StopAgent(); err != nil {
		t.Fatal(err)
	}
	if err := h.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitImages(t, node, []string{middle, small}, []string{large})
	if p := waitPod(t, "image-small", "a running pod", ready); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the pod whose image is in use was restarted")
	}

	if out := reddwarf("image", "prune"); !strings.Contains(out, "removed "+middle) || !strings.Contains(out, "1 images removed") {
		t.Errorf("prune says:\n%s", out)
	}
	awaitImages(t, node, []string{small}, []string{large, middle})

	// What is gone comes again, and without an agent the records count.
	start("image-again", large)
	kubectl(t, "delete", "pod", "image-again", "--wait=true")
	if err := h.StopAgent(); err != nil {
		t.Fatal(err)
	}
	if out := reddwarf("image", "prune"); !strings.Contains(out, "removed "+large) || strings.Contains(out, small) {
		t.Errorf("prune without an agent says:\n%s", out)
	}
	if line := lineWith(reddwarf("image", "list"), small); !strings.Contains(line, "default/image-small") {
		t.Errorf("image list without an agent says of the image in use: %q", line)
	}
	if err := h.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "delete", "pod", "image-small", "--wait=true")
	reddwarf("image", "prune")
	if out, err := h.Run(t.Context(), "zfs", "list", "-H", "-o", "name", "-r", "rpool/reddwarf/images"); err != nil || strings.TrimSpace(out) != "rpool/reddwarf/images" {
		t.Errorf("datasets left: %q, %v", out, err)
	}
}

func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}

// awaitImages waits until a node's status tells of some images and not of others.
func awaitImages(t *testing.T, node string, with, without []string) {
	t.Helper()
	err := bed.Eventually(t.Context(), time.Minute, "the node's images", func(ctx context.Context) error {
		out, err := bed.Kubectl(ctx, "get", "node", node, "-o", "json")
		if err != nil {
			return err
		}
		var n corev1.Node
		if err := json.Unmarshal([]byte(out), &n); err != nil {
			return err
		}
		sizes := map[string]int64{}
		for _, i := range n.Status.Images {
			for _, name := range i.Names {
				sizes[name] = i.SizeBytes
			}
		}
		for _, name := range with {
			if sizes[name] <= 0 {
				return fmt.Errorf("%s is not among %v", name, sizes)
			}
		}
		for _, name := range without {
			if _, ok := sizes[name]; ok {
				return fmt.Errorf("%s is still among %v", name, sizes)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
