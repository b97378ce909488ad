package probes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// UserAgent is what HTTP and gRPC checks call themselves, unless a header says
// otherwise. Services know a kubelet's checks by it.
const UserAgent = "kube-probe/1.37"

// HTTP passes when a GET of URL is answered with a status from 200 to 399.
// Redirects within the host are followed; one to another host passes with a
// warning. Certificates are not verified.
type HTTP struct {
	URL *url.URL

	// Header is sent; its Host replaces that of URL. Without User-Agent and
	// Accept, UserAgent and "*/*" are sent; an empty Accept sends none.
	Header http.Header

	// Cleartext2 speaks HTTP/2 without TLS, and without asking whether the
	// service does.
	Cleartext2 bool
}

// maxRedirects is how many redirects are followed.
const maxRedirects = 10

// Check implements Checker.
func (h HTTP) Check(ctx context.Context) (Result, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL.String(), nil)
	if err != nil {
		return Result{}, err
	}
	req.Header = h.header()
	req.Host = req.Header.Get("Host")
	client := http.Client{Transport: h.transport(), CheckRedirect: sameHost}
	answer, err := client.Do(req)
	if err != nil {
		return failed(err)
	}
	defer answer.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxOutput))
	switch {
	case err != nil && ctx.Err() != nil:
		return Result{Message: fmt.Sprintf("Get %q: the answer did not end in time: %v", h.URL, err)}, nil
	case err != nil:
		return Result{}, fmt.Errorf("get %q: read the answer: %w", h.URL, err)
	case answer.StatusCode < http.StatusOK || answer.StatusCode >= http.StatusBadRequest:
		// Never with the body: it may be of any service that the check was
		// pointed at, and messages are read by others.
		return Result{Message: fmt.Sprintf("HTTP probe failed with statuscode: %d", answer.StatusCode)}, nil
	case answer.StatusCode >= http.StatusMultipleChoices:
		return Result{Passed: true, Message: fmt.Sprintf("Probe terminated redirects, Response body: %s", body)}, nil
	}
	return Result{Passed: true}, nil
}

func (h HTTP) header() http.Header {
	header := h.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if _, ok := header["User-Agent"]; !ok {
		header.Set("User-Agent", UserAgent)
	}
	if _, ok := header["Accept"]; !ok {
		header.Set("Accept", "*/*")
	} else if header.Get("Accept") == "" {
		header.Del("Accept")
	}
	return header
}

// transport is made for one request: checks share no connection, so that each
// says something about the service as it is now, and none keeps one open.
func (h HTTP) transport() *http.Transport {
	t := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,                                  // no Accept-Encoding that nobody asked for
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as a kubelet: the check is about life, not identity
		ForceAttemptHTTP2:  h.URL.Scheme == "https",
		// No Proxy: the one of the agent's environment is not for pods.
	}
	if h.Cleartext2 {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}
