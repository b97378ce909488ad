package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func parse(t *testing.T, args ...string) *config {
	t.Helper()
	var c config
	f := pflag.NewFlagSet("node", pflag.ContinueOnError)
	c.register(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestConfigDefaultsAreValid(t *testing.T) {
	c := parse(t, "--node-name=h1", "--node-ip=198.51.100.11", "--client-ca-file=/ca.crt")
	if err := c.validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	for flag, value := range map[string]string{
		"--node-name":      "Not_A_Name",
		"--node-ip":        "host1",
		"--pod-cidr":       "10.244.7.1/24",
		"--pool":           "-f",
		"--data-dir":       "relative",
		"--zone-transport": "telnet",
		"--brands":         "bhyve",
		"--cluster-dns":    "dns",
		"--cluster-domain": "Cluster.Local",
		"--listen":         ":kubelet",
		"--tls-cert-file":  "/only/one",
	} {
		t.Run(flag, func(t *testing.T) {
			args := []string{"--node-name=h1", "--node-ip=198.51.100.11", "--client-ca-file=/ca.crt", flag + "=" + value}
			err := parse(t, args...).validate()
			if err == nil || !strings.Contains(err.Error(), flag) {
				t.Errorf("error %v does not name %s", err, flag)
			}
		})
	}
	for _, flag := range []string{"--pod-cidr", "--cluster-cidr"} {
		args := []string{"--node-name=h1", "--node-ip=198.51.100.11", flag, "10.244.0.0/16,fd00::/64"}
		if err := parse(t, args...).validate(); err != nil {
			t.Error(err)
		}
		if err := parse(t, append(args, flag, "10.245.0.0/16")...).validate(); err == nil || !strings.Contains(err.Error(), flag+` "10.245.0.0/16"`) {
			t.Errorf("two networks of a family: %v", err)
		}
	}
	err := parse(t, "--client-ca-file=").validate()
	for _, want := range []string{"--node-ip", "--client-ca-file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name the missing %s", err, want)
		}
	}
}
