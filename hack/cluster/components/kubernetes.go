package components

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controlleroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"reddwarf.io/reddwarf/hack/cluster/config"
)

func (p *ControlPlane) runAPIServer(ctx context.Context) error {
	o := apiserveroptions.NewServerRunOptions()
	if err := parse("kube-apiserver", o.Flags(), p.config.APIServerArgs(p.etcd.url())); err != nil {
		return err
	}
	o.SecureServing.Listener = p.apiserver
	o.SecureServing.BindPort = p.config.Port
	if err := o.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := o.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return utilerrors.NewAggregate(errs)
	}
	return apiserver.Run(ctx, completed)
}

func (p *ControlPlane) runControllerManager(ctx context.Context) error {
	o, err := controlleroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	known, disabled, aliases := controllers.KnownControllers(), controllers.ControllersDisabledByDefault(), controllers.ControllerAliases()
	flags := o.Flags(known, disabled, aliases)
	o.ParsedFlags = &flags
	if err := parse(config.ControllerManager, flags, p.config.ControllerManagerArgs()); err != nil {
		return err
	}
	o.SecureServing.Listener = p.controller
	if err := o.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	c, err := o.Config(ctx, known, disabled, aliases)
	if err != nil {
		return err
	}
	return controllers.Run(ctx, c.Complete())
}

func (p *ControlPlane) runScheduler(ctx context.Context) error {
	o := scheduleroptions.NewOptions()
	if err := parse(config.Scheduler, *o.Flags, p.config.SchedulerArgs()); err != nil {
		return err
	}
	o.SecureServing.Listener = p.scheduler
	if err := o.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, sched, err := scheduler.Setup(ctx, o)
	if err != nil {
		return err
	}
	return scheduler.Run(ctx, completed, sched)
}

// checkControllers asks for what the controllers make in a new cluster. Without
// the default service account no pod is admitted.
func (p *ControlPlane) checkControllers(ctx context.Context) error {
	client, err := p.Client()
	if err != nil {
		return err
	}
	_, err = client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err
}

// AllowKubeletAPI gives the API server its rights on kubelet APIs, as a cluster's
// installer does.
func (p *ControlPlane) AllowKubeletAPI(ctx context.Context) error {
	client, err := p.Client()
	if err != nil {
		return err
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reddwarf-dev:kubelet-api-admin"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:kubelet-api-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: config.KubeletClientUser}},
	}
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("kubelet API rights: %w", err)
	}
	return nil
}
