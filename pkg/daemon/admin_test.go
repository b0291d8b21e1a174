package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// serveAdmin opens an admin port for rt until the test ends and returns its address.
func serveAdmin(t *testing.T, rt *Runtime) string {
	t.Helper()
	admin, err := rt.Admin(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- admin.Serve(t.Context()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, admin.Shutdown(ctx))
		require.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	return admin.Addr()
}

// ask makes one request on a connection of its own and returns status, headers and body.
func ask(t *testing.T, method, url, body string) (int, http.Header, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close() //nolint:errcheck // the body was read to its end
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, response.Header, string(content)
}

func TestAdminHealth(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	failing := make(chan error, 1)
	rt.Health.Register("redis", false, func(context.Context) error {
		select {
		case err := <-failing:
			return err
		default:
			return nil
		}
	})
	failing <- errors.New("refused")
	url := "http://" + serveAdmin(t, rt)

	code, header, body := ask(t, http.MethodGet, url+"/health/live", "")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"status":"alive"}`, body)
	require.Equal(t, "application/json", header.Get("Content-Type"))

	code, _, body = ask(t, http.MethodGet, url+"/health/ready", "")
	require.Equal(t, http.StatusOK, code)
	var report Report
	require.NoError(t, json.Unmarshal([]byte(body), &report))
	require.Equal(t, StatusDegraded, report.Status)
	require.Equal(t, CheckReport{Status: StatusFailed, Error: "refused"}, report.Checks["redis"])

	rt.Health.Drain()
	code, _, body = ask(t, http.MethodGet, url+"/health/ready", "")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, `"status":"draining"`)
	code, _, _ = ask(t, http.MethodGet, url+"/health/live", "")
	require.Equal(t, http.StatusOK, code, "draining is not dying")
	code, _, _ = ask(t, http.MethodPost, url+"/health/live", "")
	require.Equal(t, http.StatusMethodNotAllowed, code)
}

func TestAdminMetrics(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	for _, name := range []string{"gateway", "executor"} { // the same metric in two services of one process
		requests := prometheus.NewCounter(prometheus.CounterOpts{Name: "agentflow_requests_total", Help: "Requests."})
		rt.Service(name).Metrics.MustRegister(requests)
		requests.Inc()
	}
	_, _, body := ask(t, http.MethodGet, "http://"+serveAdmin(t, rt)+"/metrics", "")
	require.Contains(t, body, `agentflow_requests_total{service="executor"} 1`)
	require.Contains(t, body, `agentflow_requests_total{service="gateway"} 1`)
	require.Contains(t, body, `agentflow_panics_total{service="testd"} 0`)
	require.Regexp(t, `agentflow_build_info\{goversion="go[^"]+",revision="[^"]+",version="[^"]+"\} 1`, body)
	require.Contains(t, body, "go_goroutines ")
	require.Contains(t, body, "process_open_fds ")
}

func TestAdminLogLevel(t *testing.T) {
	t.Parallel()
	rt, out := start(t, quiet())
	url := "http://" + serveAdmin(t, rt) + "/log_level"
	code, _, body := ask(t, http.MethodGet, url, "")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"level":"debug"}`, body)

	code, _, _ = ask(t, http.MethodPut, url, `{"level":"error"}`)
	require.Equal(t, http.StatusOK, code)
	rt.Log.Info("unheard")
	code, _, _ = ask(t, http.MethodPut, url, `{"level":"info"}`)
	require.Equal(t, http.StatusOK, code)
	rt.Log.Info("heard")
	require.NotContains(t, out.String(), "unheard")
	require.Contains(t, out.String(), "heard")
	require.Equal(t, zap.InfoLevel, rt.Level.Level())
	changed := out.find(t, "log level changed")
	require.Equal(t, "error", changed["from"])
	require.Equal(t, "info", changed["to"])

	for _, wrong := range []string{`{"level":"loud"}`, `{`, `{"level":"` + strings.Repeat("x", 4096) + `"}`} {
		code, _, _ = ask(t, http.MethodPut, url, wrong)
		require.Equal(t, http.StatusBadRequest, code)
	}
	require.Equal(t, zap.InfoLevel, rt.Level.Level())
}

func TestAdminProfiles(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	url := "http://" + serveAdmin(t, rt) + "/debug/pprof/"
	code, _, body := ask(t, http.MethodGet, url+"goroutine?debug=1", "")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "goroutine profile")
	code, _, _ = ask(t, http.MethodGet, url+"heap", "")
	require.Equal(t, http.StatusOK, code)
	code, _, _ = ask(t, http.MethodGet, url+"cmdline", "")
	require.Equal(t, http.StatusOK, code)
}

func TestAdminPortTaken(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close() //nolint:errcheck // a listener that only stood in the way
	_, err = rt.Admin(t.Context(), taken.Addr().String())
	require.ErrorContains(t, err, "open admin port")
}

// A profile in progress may not hold up the end.
func TestAdminShutdownCutsProfiles(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	admin, err := rt.Admin(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- admin.Serve(t.Context()) }()

	url := "http://" + admin.Addr() + "/debug/pprof/"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"profile?seconds=60", http.NoBody)
	require.NoError(t, err)
	cut := make(chan error, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Do(request)
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close() // the copy's error is what matters
		}
		cut <- err
	}()
	require.Eventually(t, func() bool {
		_, _, stacks := ask(t, http.MethodGet, url+"goroutine?debug=1", "")
		return strings.Contains(stacks, "net/http/pprof.Profile")
	}, patience, 10*time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.NoError(t, admin.Shutdown(ctx))
	require.ErrorIs(t, <-done, http.ErrServerClosed)
	require.Error(t, <-cut)
}
