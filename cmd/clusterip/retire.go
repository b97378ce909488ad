package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
	"k8s.io/client-go/rest"

	"reddwarf.io/reddwarf/network/ipnat"
)

// leaveTime bounds what the controller does at its end. The pod's grace period
// must be longer.
const leaveTime = 8 * time.Second

// clearer is the proxy, as far as leaving goes.
type clearer interface {
	Clear(ctx context.Context) (ipnat.Report, error)
}

// leave removes the rules if the controller ends for good: its DaemonSet is
// being deleted, or has been. Whatever else ends it (an update, a drain, an API
// server that does not answer) leaves them for the next one: without rules,
// Services fail.
func (c *controller) leave(ctx context.Context, config *rest.Config, proxy clearer) error {
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	gone, err := c.retired(ctx, config)
	if err != nil {
		c.log.Warn("whether the controller was removed is not known, so the rules stay", "daemonset", c.DaemonSet, "error", err)
		return nil
	}
	if !gone {
		return nil
	}
	report, err := proxy.Clear(ctx)
	if err != nil {
		return fmt.Errorf("the controller was removed, but not all of its rules: %w; run clusterip cleanup on the host", err)
	}
	c.log.Info("the controller was removed, and its rules with it", "removed", report.Removed)
	return nil
}

func (c *controller) retired(ctx context.Context, config *rest.Config) (bool, error) {
	namespace, name, err := splitName(c.DaemonSet)
	if err != nil {
		return false, err
	}
	apps, err := appsclient.NewForConfig(config)
	if err != nil {
		return false, err
	}
	set, err := apps.DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return err == nil && set.DeletionTimestamp != nil, err
}

func splitName(s string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("%q is not NAMESPACE/NAME", s)
	}
	return namespace, name, nil
}

// retireCommand takes the controllers of all hosts away so that each removes
// its rules. Deleting the DaemonSet alone might take the right to ask about it
// away before the controllers do.
func retireCommand() *cobra.Command {
	var c config
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "retire NAMESPACE/DAEMONSET",
		Short: "Delete the controllers of all hosts and wait until they have removed their rules",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, name, err := splitName(args[0])
			if err != nil {
				return err
			}
			config, err := c.rest()
			if err != nil {
				return err
			}
			apps, err := appsclient.NewForConfig(config)
			if err != nil {
				return err
			}
			return retire(cmd.Context(), apps.DaemonSets(namespace), name, patience)
		},
	}
	cmd.Flags().StringVar(&c.Kubeconfig, "kubeconfig", "", "how to reach the API server (default: as the service account of this pod)")
	cmd.Flags().StringVar(&c.Server, "server", "", "URL of the API server, instead of the kubeconfig's or the pod's")
	cmd.Flags().StringVar(&c.ServiceAccount, "service-account-dir", os.Getenv("CONTAINER_SANDBOX_MOUNT_POINT")+"/var/run/secrets/kubernetes.io/serviceaccount", "token and ca.crt of the pod's service account, where there is no kubeconfig")
	cmd.Flags().DurationVar(&patience, "timeout", 2*time.Minute, "how long to wait; a host that is away keeps its rules")
	return cmd
}

// retire deletes a DaemonSet in the foreground: it stays, marked as going, until
// its pods are gone, so that each controller sees why it ends.
func retire(ctx context.Context, sets appsclient.DaemonSetInterface, name string, patience time.Duration) error {
	foreground := metav1.DeletePropagationForeground
	err := sets.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &foreground})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete DaemonSet %s: %w", name, err)
	}
	left := int32(0)
	err = wait.PollUntilContextTimeout(ctx, time.Second, patience, true, func(ctx context.Context) (bool, error) {
		set, err := sets.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, nil //nolint:nilerr // it may answer the next time
		}
		left = set.Status.CurrentNumberScheduled
		return false, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the controllers of %d hosts have not ended within %s; clusterip cleanup removes the rules of a host", left, patience)
	}
	return err
}
