// Package e2evk runs the end-to-end tests of the virtual-kubelet project
// against our agent, all of them and unchanged. hack/e2e-vk.sh runs it in a lab.
//
// The tests were made for a provider that runs as a pod with the name of its
// node, and read its statistics through the API server's proxy to that pod,
// without credentials. Our agent runs on a host and answers nobody whom it does
// not know, so a stand-in for that pod forwards such requests with the
// administrator's credentials.
package e2evk

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// kubeletPort is where the tests expect the provider.
const kubeletPort = "10250"

// standIn is the pod that the tests take for the provider.
type standIn struct {
	pods   kubernetes.Interface
	ns     string
	name   string
	server *http.Server
	done   chan struct{}
}

// startStandIn makes a pod object with the name of the node and the address ip,
// which must be one of this machine, and forwards what comes to that address
// to the node's agent with the identity of config.
func startStandIn(ctx context.Context, config *rest.Config, ns, node, nodeIP, ip string) (*standIn, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("stand-in: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("stand-in: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(ip, kubeletPort))
	if err != nil {
		return nil, fmt.Errorf("stand-in: %w", err)
	}
	s := &standIn{pods: client, ns: ns, name: node, done: make(chan struct{})}
	s.server = &http.Server{
		Handler:           forward(net.JoinHostPort(nodeIP, kubeletPort), transport),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{anyCertificate()}, MinVersion: tls.VersionTLS12},
	}
	go func() {
		defer close(s.done)
		if err := s.server.ServeTLS(l, "", ""); err != http.ErrServerClosed {
			log.Print("stand-in: ", err)
		}
	}()
	return s, s.makePod(ctx, ip)
}

func forward(agent string, transport http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: agent})
		},
	}
}

// anyCertificate returns one that the API server takes: it does not verify the
// certificates of pods.
func anyCertificate() tls.Certificate {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	return s.TLS.Certificates[0]
}

// makePod makes the object. The scheduler leaves it alone, and so it is nobody's
// task to run it.
func (s *standIn) makePod(ctx context.Context, ip string) error {
	pod, err := s.pods.CoreV1().Pods(s.ns).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: s.name},
		Spec: corev1.PodSpec{
			SchedulerName: "none",
			Containers:    []corev1.Container{{Name: "provider", Image: "none"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("stand-in: %w", err)
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIP = ip
	pod.Status.PodIPs = []corev1.PodIP{{IP: ip}}
	if _, err := s.pods.CoreV1().Pods(s.ns).UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("stand-in: %w", err)
	}
	return nil
}

// stop removes the object and ends the forwarding.
func (s *standIn) stop(ctx context.Context) error {
	err := s.pods.CoreV1().Pods(s.ns).Delete(ctx, s.name, *metav1.NewDeleteOptions(0))
	if apierrors.IsNotFound(err) {
		err = nil
	}
	if cerr := s.server.Close(); err == nil {
		err = cerr
	}
	<-s.done
	return err
}
