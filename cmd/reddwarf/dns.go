package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"sigs.k8s.io/yaml"
)

// Where kubeadm keeps the configuration that all kubelets of a cluster share.
// It lets nodes read it (Role kubeadm:kubelet-config).
const (
	kubeletConfigName = "kubelet-config"
	kubeletConfigKey  = "kubelet"
)

// defaultDomain is a cluster's domain where nobody says otherwise.
const defaultDomain = "cluster.local"

// domainSource finds out the cluster's DNS domain once, with the rights that a
// node has, and remembers it as long as the agent runs, as a kubelet does.
type domainSource struct {
	maps corev1client.ConfigMapsGetter
	log  *logrus.Entry

	mu    sync.Mutex
	known string
}

// get returns the domain. An API server that does not answer is an error:
// pods keep what they are given, so it is better to wait than to guess.
func (d *domainSource) get(ctx context.Context) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known != "" {
		return d.known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := d.maps.ConfigMaps(metav1.NamespaceSystem).Get(ctx, kubeletConfigName, metav1.GetOptions{})
	why := "the kubelets' configuration in the cluster"
	switch {
	case apierrors.IsNotFound(err) || apierrors.IsForbidden(err): // no cluster of kubeadm's
		d.known, why = defaultDomain, "the cluster does not say; set --cluster-domain if it is another one"
	case err != nil:
		return "", fmt.Errorf("ConfigMap %s/%s: %w", metav1.NamespaceSystem, kubeletConfigName, err)
	default:
		domain, err := parseDomain(m.Data[kubeletConfigKey])
		if err != nil {
			return "", fmt.Errorf("ConfigMap %s/%s: %w; set --cluster-domain", metav1.NamespaceSystem, kubeletConfigName, err)
		}
		d.known = domain
	}
	d.log.WithField("clusterDomain", d.known).Info("DNS domain of the cluster: " + why)
	return d.known, nil
}

// parseDomain reads the domain of a KubeletConfiguration.
func parseDomain(text string) (string, error) {
	var c struct {
		ClusterDomain string `json:"clusterDomain"`
	}
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		return "", err
	}
	if c.ClusterDomain == "" {
		return defaultDomain, nil
	}
	domain := strings.TrimSuffix(c.ClusterDomain, ".")
	if msgs := validation.IsDNS1123Subdomain(domain); len(msgs) > 0 {
		return "", fmt.Errorf("clusterDomain %q: %s", c.ClusterDomain, strings.Join(msgs, ", "))
	}
	return domain, nil
}
