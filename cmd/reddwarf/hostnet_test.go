package main

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/tools/record"

	"reddwarf.io/reddwarf/provider/peers"
)

func TestProblemsAreToldOnce(t *testing.T) {
	events := record.NewFakeRecorder(10)
	log := logrus.New()
	log.Out = &strings.Builder{}
	n := &hostNetwork{self: peers.Self{Name: "a"}, events: events, log: logrus.NewEntry(log)}
	both := problem(nil, reasonRoute, errors.Join(errors.New("one"), errors.New("two")))
	for range 3 {
		n.tell(both)
	}
	n.tell(problem(nil, reasonRoute, errors.New("two")))
	n.tell(both) // "one" again
	close(events.Events)
	var got []string
	for e := range events.Events {
		got = append(got, e)
	}
	if want := "Warning RouteFailed one,Warning RouteFailed two,Warning RouteFailed one"; strings.Join(got, ",") != want {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestLockHost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	unlock, err := lockHost(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if unlock, err = lockHost(dir); err != nil {
		t.Fatalf("after it was released: %v", err)
	}
	unlock()
}

func TestClusterCIDRs(t *testing.T) {
	for _, tt := range []struct {
		in   []string
		good bool
	}{{nil, true}, {[]string{"10.244.0.0/16"}, true}, {[]string{"10.244.0.0/16", "fd01::/48"}, true}, {[]string{"10.244.0.1/16"}, false}, {[]string{"x"}, false}, {[]string{"10.1.0.0/16", "10.2.0.0/16"}, false}} {
		c := config{NodeName: "a", NodeIP: []string{"192.0.2.1"}, ClusterCIDR: tt.in}
		err := c.validate()
		if bad := err != nil && strings.Contains(err.Error(), "--cluster-cidr"); bad == tt.good {
			t.Errorf("%q: %v", tt.in, err)
		}
		if tt.good && len(tt.in) > 0 && parsed(c.ClusterCIDR)[0] != netip.MustParsePrefix(tt.in[0]) {
			t.Errorf("%q became %v", tt.in, parsed(c.ClusterCIDR))
		}
	}
}
