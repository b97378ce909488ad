package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestShellCommand(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want []string // nil for a refusal
	}{
		{"sh", []string{"-c", "/sbin/podinit channel"}, []string{"channel"}},
		{"sh", []string{"-c", "/sbin/podinit verb a.b=c-d_E9"}, []string{"verb", "a.b=c-d_E9"}},
		{"su", []string{"root", "-c", "/sbin/podinit channel"}, []string{"channel"}},
		{"su", []string{"-", "root", "-c", "/sbin/podinit channel"}, []string{"channel"}},
		{"su", []string{"-c", "/sbin/podinit channel"}, []string{"channel"}},
		{"su", []string{"web", "-c", "/sbin/podinit channel"}, nil},
		{"sh", []string{"-c", "/sbin/podinit"}, nil},
		{"sh", []string{"-c", "/sbin/podinit a b c"}, nil},
		{"sh", []string{"-c", "/sbin/podinit channel;id"}, nil},
		{"sh", []string{"-c", "/sbin/podinit channel\nid"}, nil},
		{"sh", []string{"-c", "/sbin/podinit  channel"}, nil},
		{"sh", []string{"-c", "/bin/podinit channel"}, nil},
		{"sh", []string{"-c", "/sbin/podinit $(id)"}, nil},
		{"sh", []string{"-c"}, nil},
		{"sh", []string{"-i"}, nil},
		{"sh", nil, nil},
		{"su", nil, nil},
	} {
		got, err := shellCommand(tt.name, tt.args)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("%s %q = %q, %v", tt.name, tt.args, got, err)
		}
	}
}

func TestRunRefusesClearly(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"/bin/sh", "-c", "ls"}, 126, "runs no commands"},
		{[]string{"/bin/sh"}, 126, "no shell"},
		{[]string{"/bin/su", "web", "-c", "/sbin/podinit channel"}, 126, `no user "web"`},
		{[]string{"/bin/sh", "-c", "/sbin/podinit dance"}, 127, `unknown verb "dance"`},
		{[]string{"/sbin/init", "0"}, 126, "halted from outside"},
		{[]string{"/sbin/init"}, 126, "halted from outside"}, // this test is not process 1
		{[]string{"podinit"}, 2, "usage"},
		{[]string{"podinit", "channel", "--what"}, 1, "bad arguments"},
		{[]string{"podinit", "channel", "--base", "/nonexistent"}, 1, "/nonexistent"},
	} {
		var out, errOut bytes.Buffer
		if code := run(tt.args, strings.NewReader(""), &out, &errOut); code != tt.code || !strings.Contains(errOut.String(), tt.want) || out.Len() > 0 {
			t.Errorf("%q: exit code %d, %q", tt.args, code, errOut.String())
		}
	}
}
