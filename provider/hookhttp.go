package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// httpHook asks what an httpGet hook names. Any answer is a success, as for a
// kubelet; only that there was none is a failure.
func httpHook(ctx context.Context, c *corev1.Container, get *corev1.HTTPGetAction, podIP string) error {
	target, err := hookURL(c, get, podIP)
	if err != nil {
		return err
	}
	err = request(ctx, target, get.HTTPHeaders)
	if err != nil && target.Scheme == "https" && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		target.Scheme = "http" // manifests from before kubelets honoured the scheme
		return request(ctx, target, get.HTTPHeaders)
	}
	return err
}

// hookURL is where an httpGet hook points to.
func hookURL(c *corev1.Container, get *corev1.HTTPGetAction, podIP string) (*url.URL, error) {
	port, err := portNumber(c, get.Port)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(get.Path)
	if err != nil {
		u = &url.URL{Path: get.Path}
	}
	u.Scheme = "http"
	if get.Scheme != "" {
		u.Scheme = strings.ToLower(string(get.Scheme))
	}
	host := podIP
	if get.Host != "" {
		host = get.Host
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	return u, nil
}

// portNumber resolves a port that may be given by its name in the container.
func portNumber(c *corev1.Container, p intstr.IntOrString) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, have := range c.Ports {
			if have.Name == p.StrVal {
				n = int(have.ContainerPort)
			}
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("container %s has no port %q", c.Name, p.String())
	}
	return n, nil
}

func request(ctx context.Context, target *url.URL, headers []corev1.HTTPHeader) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	for _, h := range headers {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			r.Host = h.Value
		}
		r.Header.Add(h.Name, h.Value)
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "kube-lifecycle/1.37")
	}
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "*/*")
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a pod's certificate is nobody's business but the pod's
		},
		CheckRedirect: sameHost,
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	io.CopyN(io.Discard, answer.Body, 10<<10) //nolint:errcheck // what it says does not matter
	return answer.Body.Close()
}

// sameHost keeps a pod from sending the node's requests elsewhere.
func sameHost(to *http.Request, via []*http.Request) error {
	const most = 10
	switch {
	case to.URL.Hostname() != via[0].URL.Hostname():
		return http.ErrUseLastResponse
	case len(via) >= most:
		return errors.New("stopped after 10 redirects")
	}
	return nil
}
