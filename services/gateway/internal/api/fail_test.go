package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// TestInternalErrorsStayInside: what a service or a driver said about itself is for the log, in every shape.
func TestInternalErrorsStayInside(t *testing.T) {
	s := bare(t)
	for _, err := range []error{
		errors.New(`ERROR: relation "agentflow.secret_table" does not exist (SQLSTATE 42P01)`),
		fmt.Errorf("load: %w", errors.New("dial tcp 10.0.0.7:5432: secret_table")),
		&protocol.Error{Code: protocol.CodeInternal, Message: "secret_table is locked", Details: map[string]any{"sql": "secret_table"}},
	} {
		for _, frozen := range []bool{false, true} {
			p := s.problem(t.Context(), &request{id: "req_1", frozen: frozen}, err)
			raw, merr := json.Marshal(p)
			require.NoError(t, merr)
			require.NotContains(t, string(raw), "secret_table")
			require.NotContains(t, string(raw), "10.0.0.7")
			require.Contains(t, string(raw), `"code":"INTERNAL"`)
			require.Contains(t, string(raw), `"request_id":"req_1"`)
			require.Equal(t, http.StatusInternalServerError, p.Status)
		}
	}
}

// TestDraining: a gateway that is about to end takes nothing new on the connections that are open, says so, and
// says that it is not ready; it is alive until it has ended.
func TestDraining(t *testing.T) {
	s := bare(t)
	ask := func(path string) (int, http.Header, string) {
		resp, err := s.app.Test(httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, resp.Header, string(body)
	}
	status, _, body := ask("/health/ready")
	require.Equal(t, http.StatusOK, status, body)
	s.draining.Store(true)
	status, header, body := ask("/workflows/node-types")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, `"code":"DRAINING"`)
	require.NotEmpty(t, header.Get("Retry-After"))
	status, _, body = ask("/health/ready")
	require.Equal(t, http.StatusServiceUnavailable, status, body)
	require.Contains(t, body, "not_ready")
	status, _, _ = ask("/health/live")
	require.Equal(t, http.StatusOK, status)
}
