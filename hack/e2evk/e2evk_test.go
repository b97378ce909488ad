package e2evk

import (
	"context"
	"os"
	"testing"
	"time"

	vke2e "github.com/virtual-kubelet/virtual-kubelet/test/e2e"
	"k8s.io/client-go/tools/clientcmd"

	"reddwarf.io/reddwarf/hack/testbed"
)

// node is the name of the host under test.
const node = "e2evk1"

// images are what the tests ask for, which is no more than these names: they
// do not care what runs, but three of them share a pod.
var images = []string{"--tag", "library/foo:latest=idle", "--tag", "library/bar:latest=idle", "--tag", "library/baz:latest=idle"}

// TestVirtualKubelet skips nothing of the suite.
func TestVirtualKubelet(t *testing.T) {
	if os.Getenv("REDDWARF_BED") == "" {
		t.Skip("not in a lab; run hack/e2e-vk.sh")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	bed, err := testbed.Start(ctx, testbed.Options{Progress: os.Stdout, RegistryFlags: images})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	})
	host, err := bed.AddHost(ctx, node, testbed.HostOptions{AgentFlags: []string{"--registry-mirror", "docker.io=" + testbed.Registry}})
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", bed.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	var provider *standIn
	vke2e.NewEndToEndTestSuite(vke2e.EndToEndTestSuiteConfig{
		Kubeconfig: bed.Kubeconfig(),
		Namespace:  "default",
		NodeName:   node,
		Setup: func() (err error) {
			provider, err = startStandIn(ctx, config, "default", node, host.IP, testbed.APIServer)
			return err
		},
		Teardown: func() error { return provider.stop(context.WithoutCancel(ctx)) },
	}).Run(t)
}
