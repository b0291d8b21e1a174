package observe_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

const pause = 20 * time.Millisecond

// Profiles, metrics and the log level are on the admin port and nowhere else, and the level changes while it runs.
func testAdminPort(t *testing.T, p *platform.Platform) {
	t.Helper()
	admin := "http://" + p.Ready().AdminAddr
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/goroutine", "/metrics", "/log_level"} {
		status, _ := get(t, admin+path)
		require.Equal(t, http.StatusOK, status, path)
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
			answer := p.As(p.Ready().AdminKey).Call(t, method, path, nil)
			require.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, answer.Status, "%s %s on the public port", method, path)
		}
	}

	logged := func(marker string) bool {
		require.Equal(t, http.StatusOK, p.Call(t, http.MethodGet, "/workflows/node-types", nil, "X-Request-ID", marker).Status)
		// Lines are written in order: when a later one is there, an earlier one would be.
		status, _ := send(t, http.MethodPut, admin+"/log_level", `{"level":"info"}`)
		require.Equal(t, http.StatusOK, status)
		after := marker + "-after"
		require.Equal(t, http.StatusOK, p.Call(t, http.MethodGet, "/workflows/node-types", nil, "X-Request-ID", after).Status)
		require.Eventually(t, func() bool { return strings.Contains(p.Log(), after) }, patience, pause)
		return strings.Contains(p.Log(), `"request_id":"`+marker+`"`)
	}
	require.True(t, logged("at-info"))
	status, body := send(t, http.MethodPut, admin+"/log_level", `{"level":"error"}`)
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"level":"error"}`, body)
	require.False(t, logged("at-error"))
	status, _ = send(t, http.MethodPut, admin+"/log_level", `{"level":"chatty"}`)
	require.Equal(t, http.StatusBadRequest, status)
}
