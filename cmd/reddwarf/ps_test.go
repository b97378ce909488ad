package main

import (
	"context"
	"strings"
	"testing"

	"reddwarf.io/reddwarf/zones"
	"reddwarf.io/reddwarf/zones/hostpods"
)

type fakeZones map[string]map[string]string

func (f fakeZones) List(context.Context) ([]zones.Zone, error) {
	return []zones.Zone{
		{ID: 4, Name: "rdw-1", State: zones.Running, Brand: "lx"},
		{ID: -1, Name: "rdw-2", State: zones.Installed, Brand: "lx"},
		{ID: 5, Name: "web", State: zones.Running, Brand: "ipkg"},
		{ID: -1, Name: "rdw-gone", State: zones.Configured},
		{ID: 0, Name: "rdw-3", State: zones.Running, Brand: hostpods.Brand},
	}, nil
}

func (f fakeZones) Attrs(_ context.Context, zone string) (map[string]string, error) {
	attrs, ok := f[zone]
	if !ok {
		return nil, zones.ErrNotFound
	}
	return attrs, nil
}

func TestListPods(t *testing.T) {
	host := fakeZones{
		"rdw-1": {"reddwarf-uid": "1", "reddwarf-namespace": "default", "reddwarf-name": "web-1"},
		"rdw-2": {}, // named like ours, but without the mark
		"rdw-3": {"reddwarf-uid": "3", "reddwarf-namespace": "system", "reddwarf-name": "proxy"},
		"web":   {"reddwarf-uid": "9"},
	}
	var out strings.Builder
	if err := listPods(t.Context(), &out, host); err != nil {
		t.Fatal(err)
	}
	want := "NAMESPACE  POD    STATE    ID  BRAND  ZONE\n" +
		"default    web-1  running  4   lx     rdw-1\n" +
		"system     proxy  running  0   host   global\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
}
