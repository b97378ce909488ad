package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

func kubeletConfig(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubelet-config"},
		Data:       map[string]string{"kubelet": text},
	}
}

func TestClusterDomainIsDiscovered(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	resource := corev1.Resource("configmaps")
	for _, tt := range []struct {
		name   string
		config *corev1.ConfigMap
		err    error
		want   string
		fault  string
	}{
		{name: "kubeadm's", config: kubeletConfig("kind: KubeletConfiguration\nclusterDomain: lab.example\n"), want: "lab.example"},
		{name: "with a dot", config: kubeletConfig("clusterDomain: lab.example."), want: "lab.example"},
		{name: "not said", config: kubeletConfig("kind: KubeletConfiguration\n"), want: "cluster.local"},
		{name: "none", want: "cluster.local"},
		{name: "forbidden", err: apierrors.NewForbidden(resource, "kubelet-config", errors.New("no")), want: "cluster.local"},
		{name: "away", err: apierrors.NewServiceUnavailable("starting"), fault: "starting"},
		{name: "nonsense", config: kubeletConfig("clusterDomain: Lab_Example\n"), fault: "set --cluster-domain"},
		{name: "no YAML", config: kubeletConfig("\t"), fault: "kube-system/kubelet-config"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := fake.NewClientset()
			if tt.config != nil {
				api = fake.NewClientset(tt.config)
			}
			reads := 0
			api.PrependReactor("get", "configmaps", func(ktesting.Action) (bool, runtime.Object, error) {
				reads++
				return tt.err != nil, nil, tt.err
			})
			d := &domainSource{maps: api.CoreV1(), log: logrus.NewEntry(log)}
			for range 2 {
				got, err := d.get(t.Context())
				if got != tt.want || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("domain %q, %v; want %q, %q", got, err, tt.want, tt.fault)
				}
			}
			want := 1
			if tt.fault != "" {
				want = 2 // it is tried again
			}
			if reads != want {
				t.Errorf("%d reads, want %d", reads, want)
			}
		})
	}
}
