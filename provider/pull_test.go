package provider

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"reddwarf.io/reddwarf/provider/translate"
	"reddwarf.io/reddwarf/storage/oci"
)

// imagesOf has images for one operating system each.
type imagesOf struct {
	Images
	os map[string]string // by reference
}

func (i imagesOf) Ensure(ctx context.Context, r oci.Request) (oci.Image, error) {
	if have := i.os[r.Ref]; have != r.OS {
		return oci.Image{}, fmt.Errorf("%s: %w", r.Ref, oci.ErrPlatform)
	}
	ref := r.Ref
	r.Ref = "web:1"
	image, err := i.Images.Ensure(ctx, r)
	image.Ref = ref
	return image, err
}

// TestImagesDecideOnTheBrand where the pod does not, and the first one for the
// others too.
func TestImagesDecideOnTheBrand(t *testing.T) {
	for _, tt := range []struct {
		name, first, second string
		want                string // the zone's brand; empty if there is none
	}{
		{"linux", "linux:1", "linux:1", translate.BrandLX},
		{"illumos", "illumos:1", "illumos:1", translate.BrandNative},
		{"both", "linux:1", "illumos:1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.p.c.Images = imagesOf{w.p.c.Images, map[string]string{"linux:1": "linux", "illumos:1": "illumos"}}
				w.p.c.Node.Brands = []string{translate.BrandLX, translate.BrandNative}
				w.p.c.Node.Podinit = map[string]string{translate.BrandLX: "/lx", translate.BrandNative: "/native"}
				w.create(testPod(func(p *corev1.Pod) {
					p.Spec.Containers = []corev1.Container{{Name: "web", Image: tt.first}, {Name: "two", Image: tt.second}}
				}))
				settle(5 * time.Second)
				if tt.want == "" {
					if s := w.status().ContainerStatuses[1].State.Waiting; s == nil || s.Reason != translate.ReasonErrImagePull {
						t.Errorf("the second container: %+v", s)
					}
					return
				}
				w.mustRun()
				zones, err := w.p.c.Zones.List(t.Context())
				if err != nil || len(zones) != 1 || zones[0].Brand != tt.want {
					t.Errorf("zones are %+v, %v", zones, err)
				}
			})
		})
	}
}

func TestNodeAffinityIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.p.c.NodeLabels = func() map[string]string { return map[string]string{"kubernetes.io/os": "illumos"} }
		w.create(testPod(func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "linux"} }))
		settle(5 * time.Second)
		if s := w.status(); s.Phase != corev1.PodFailed || s.Reason != translate.ReasonNodeAffinity {
			t.Errorf("status is %s, %s", s.Phase, s.Reason)
		}
	})
}
