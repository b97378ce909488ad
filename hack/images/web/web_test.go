package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTools(t *testing.T) {
	t.Setenv("WEB_TEST", "a 'b' \"c\"")
	for _, tt := range []struct {
		args []string
		code int
		out  string // contained in the output
		fail bool
	}{
		{[]string{"exit", "7"}, 7, "", false},
		{[]string{"exit", "256"}, 2, "", true},
		{[]string{"exit"}, 2, "", true},
		{[]string{"sleep", "0.001"}, 0, "", false},
		{[]string{"sleep", "-1"}, 2, "", true},
		{[]string{"env"}, 0, "WEB_TEST=a 'b' \"c\"\n", false},
		{[]string{"print", "2", "0s"}, 0, "line 1\nline 2\n", false},
		{[]string{"print", "2"}, 2, "", true},
		{[]string{"nonsense"}, 2, "", true},
		{[]string{"serve", "--port", "none"}, 1, "", true},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var out bytes.Buffer
			code, err := run(t.Context(), tt.args, &out)
			if code != tt.code || (err != nil) != tt.fail || !strings.Contains(out.String(), tt.out) {
				t.Errorf("run() = %d, %v, %q", code, err, out.String())
			}
		})
	}
}

func TestPrintInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		var out bytes.Buffer
		code, err := run(ctx, []string{"print", "0", "1s"}, &out)
		if code != killed || err != nil || out.String() != "line 1\nline 2\nline 3\n" {
			t.Errorf("run() = %d, %v, %q", code, err, out.String())
		}
	})
}

func TestServeEndsCleanly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		code, err := run(ctx, []string{"--port", "0"}, w)
		w.Close() //nolint:errcheck // a pipe
		done <- result{code, err}
	}()
	lines := bufio.NewScanner(r)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "listening on ") {
		t.Fatalf("first line %q", lines.Text())
	}
	cancel()
	for lines.Scan() { // the pipe has to be emptied
	}
	if got := <-done; got.code != 0 || got.err != nil {
		t.Errorf("run() = %+v", got)
	}
}

func TestHandler(t *testing.T) {
	t.Setenv("WEB_TEST", "a=b\nc")
	server := httptest.NewServer(newHandler())
	defer server.Close()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // only read
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	code, body := get("/some/path")
	if code != 200 || !strings.Contains(body, "hostname: "+host+"\n") || !strings.Contains(body, "path: /some/path\n") || !strings.Contains(body, "remote: 127.0.0.1:") {
		t.Errorf("%d %q", code, body)
	}
	_, body = get("/env")
	var vars map[string]string
	if err := json.Unmarshal([]byte(body), &vars); err != nil || vars["WEB_TEST"] != "a=b\nc" {
		t.Errorf("%q, %v", vars["WEB_TEST"], err)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Errorf("healthz %d", code)
	}
	for body, want := range map[string]int{"503": 200, "x": 400, "42": 400} {
		req, err := http.NewRequest(http.MethodPut, server.URL+"/healthz", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close() //nolint:errcheck // nothing is read
		if resp.StatusCode != want {
			t.Errorf("PUT %s: %d, want %d", body, resp.StatusCode, want)
		}
	}
	if code, _ := get("/healthz"); code != 503 {
		t.Errorf("healthz %d after it was set", code)
	}
	var out bytes.Buffer
	if code, err := run(t.Context(), []string{"fetch", server.URL + "/healthz"}, &out); code != 1 || err == nil {
		t.Errorf("fetch of a bad status: %d, %v", code, err)
	}
	if code, err := run(t.Context(), []string{"fetch", server.URL + "/x"}, &out); code != 0 || err != nil || !strings.Contains(out.String(), "path: /x") {
		t.Errorf("fetch: %d, %v", code, err)
	}
}
