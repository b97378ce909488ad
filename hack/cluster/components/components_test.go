package components

import (
	"net/netip"
	"strings"
	"testing"

	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controlleroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"reddwarf.io/reddwarf/hack/cluster/config"
)

// The arguments are those of this Kubernetes version, and mean what they say.
func TestArgumentsParse(t *testing.T) {
	c := config.Config{
		Dir: t.TempDir(), Bind: netip.MustParseAddr("198.51.100.1"), Advertise: netip.MustParseAddr("198.51.100.1"), Port: 6443,
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), PodCIDR: netip.MustParsePrefix("10.244.0.0/16"),
	}
	api := apiserveroptions.NewServerRunOptions()
	if err := parse("kube-apiserver", api.Flags(), c.APIServerArgs("https://127.0.0.1:2379")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(api.Authorization.Modes, ","); got != "Node,RBAC" {
		t.Errorf("authorization %s", got)
	}
	if !api.Authentication.BootstrapToken.Enable {
		t.Error("bootstrap tokens are off")
	}
	if got := api.KubeletConfig.PreferredAddressTypes[0]; got != "InternalIP" {
		t.Errorf("kubelets are called at %s", got)
	}
	manager, err := controlleroptions.NewKubeControllerManagerOptions()
	if err != nil {
		t.Fatal(err)
	}
	flags := manager.Flags(controllers.KnownControllers(), controllers.ControllersDisabledByDefault(), controllers.ControllerAliases())
	if err := parse(config.ControllerManager, flags, c.ControllerManagerArgs()); err != nil {
		t.Fatal(err)
	}
	if !manager.KubeCloudShared.AllocateNodeCIDRs || manager.KubeCloudShared.ClusterCIDR != "10.244.0.0/16" {
		t.Errorf("node CIDRs: %+v", manager.KubeCloudShared)
	}
	if err := parse(config.Scheduler, *scheduleroptions.NewOptions().Flags, c.SchedulerArgs()); err != nil {
		t.Fatal(err)
	}
	if err := parse(config.Scheduler, *scheduleroptions.NewOptions().Flags, []string{"--no-such-flag"}); err == nil {
		t.Error("an unknown flag was accepted")
	}
}
