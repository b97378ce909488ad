package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"reddwarf.io/reddwarf/hack/cluster/config"
	"reddwarf.io/reddwarf/hack/cluster/lock"
)

const (
	downTimeout   = 45 * time.Second // a bit more than up gives its components
	healthTimeout = 5 * time.Second
)

func down(ctx context.Context, args []string, _, stderr io.Writer) error {
	fs := flag.NewFlagSet("down", flag.ContinueOnError)
	dirOf := dirFlag(fs)
	if err := parse(fs, args, stderr); err != nil {
		return err
	}
	dir, err := dirOf()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	return lock.Terminate(ctx, filepath.Join(dir, lockFile))
}

func status(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("status", flag.ContinueOnError)
	dirOf := dirFlag(fs)
	if err := parse(fs, args, stderr); err != nil {
		return err
	}
	dir, err := dirOf()
	if err != nil {
		return err
	}
	pid, err := lock.Holder(filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	if pid == 0 {
		return fmt.Errorf("no cluster runs in %s", dir)
	}
	s, err := readState(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("process %d is starting or stopping; its log is %s", pid, filepath.Join(dir, logFile))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "process %d since %s\nserver %s\n", pid, s.Started.Format(time.RFC3339), s.Server) //nolint:errcheck // nobody may be looking
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Health)) {
		verdict := "ready"
		if err := health(ctx, s.Health[name]); err != nil {
			verdict = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		fmt.Fprintf(stdout, "%s: %s\n", name, verdict) //nolint:errcheck // as above
	}
	return errors.Join(errs...)
}

func readState(dir string) (state, error) {
	var s state
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, fmt.Errorf("state: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("state: %w", err)
	}
	return s, nil
}

func health(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Nothing secret is sent and only a status code is read.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // see above
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func kubeconfig(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("kubeconfig", flag.ContinueOnError)
	dirOf := dirFlag(fs)
	server := fs.String("server", "", "`URL` to put in instead of the cluster's own; its certificate is also valid for 127.0.0.1")
	if err := parse(fs, args, stderr); err != nil {
		return err
	}
	dir, err := dirOf()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(config.Config{Dir: dir}.Kubeconfig(config.Admin))
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	if *server != "" {
		if data, err = config.WithServer(data, *server); err != nil {
			return err
		}
	}
	_, err = stdout.Write(data)
	return err
}

func nodeKubeconfig(_ context.Context, args []string, _, stderr io.Writer) error {
	var node config.Node
	fs := flag.NewFlagSet("node-kubeconfig", flag.ContinueOnError)
	dirOf := dirFlag(fs)
	fs.StringVar(&node.Name, "node", "", "`name` of the node (required)")
	fs.TextVar(&node.IP, "ip", netip.Addr{}, "its InternalIP (required)")
	out := fs.String("out", "", "`folder` to write to (required)")
	server := fs.String("server", "", "`URL` of the API server; the default is the running cluster's")
	if err := parse(fs, args, stderr); err != nil {
		return err
	}
	dir, err := dirOf()
	if err != nil {
		return err
	}
	if *out == "" {
		return errors.New("--out: a folder is needed")
	}
	if *server == "" {
		s, err := readState(dir)
		if err != nil {
			return fmt.Errorf("--server is needed while the cluster is not ready: %w", err)
		}
		*server = s.Server
	}
	return config.WriteNode(dir, *out, *server, node)
}
