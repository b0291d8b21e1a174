package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
)

func bare(t testing.TB) *Server {
	t.Helper()
	rt, err := daemon.NewRuntime("gateway", daemon.Common{LogLevel: "error", LogFormat: "json"})
	require.NoError(t, err)
	s, err := New(rt, Parts{}, Options{BodyLimit: 1 << 20, HeaderLimit: 16 << 10})
	require.NoError(t, err)
	return s
}

// TestEveryRouteIsDocumented compares what is served with what the document says.
func TestEveryRouteIsDocumented(t *testing.T) {
	s := bare(t)
	raw, err := s.openAPIDocument()
	require.NoError(t, err)
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(raw, &doc))
	require.Equal(t, "3.1.0", doc.OpenAPI)

	parameter := regexp.MustCompile(`:(\w+)`)
	served := map[string]bool{}
	for _, routes := range s.app.Stack() {
		for _, r := range routes {
			if r.Path == "/" && r.Method != "GET" || r.Method == "HEAD" {
				continue // the middleware, and what GET brings with it
			}
			path := parameter.ReplaceAllString(strings.Replace(r.Path, "+", ":id", 1), "{$1}")
			if path == "/openapi.json" || path == "/schemas/workflow.json" || strings.HasPrefix(path, "/docs") || strings.HasPrefix(path, "/redoc") {
				continue
			}
			served[r.Method+" "+path] = true
			if path == "/api/v1/sources" {
				served[r.Method+" "+path+"/"] = true // Phase 1's own spelling, see StrictRouting
			}
			require.Contains(t, doc.Paths[path], strings.ToLower(r.Method), "%s %s is not documented", r.Method, path)
		}
	}
	ids := map[string]bool{}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			require.True(t, served[strings.ToUpper(method)+" "+path], "%s %s is documented and not served", method, path)
			var o struct {
				ID      string   `json:"operationId"`
				Summary string   `json:"summary"`
				Tags    []string `json:"tags"`
			}
			require.NoError(t, json.Unmarshal(op, &o))
			require.NotEmpty(t, o.Summary, o.ID)
			require.NotEmpty(t, o.Tags, o.ID)
			require.False(t, ids[o.ID], "two operations are called %s", o.ID)
			ids[o.ID] = true
		}
	}
}

// TestFrozenDetails checks how paths and errors are written in the shapes of Phase 1.
func TestFrozenDetails(t *testing.T) {
	p := inputProblem(&request{frozen: true}, 422, "validation failed", nil)
	raw, err := json.Marshal(p)
	require.NoError(t, err)
	require.JSONEq(t, `{"detail":{"message":"validation failed","code":"INVALID"}}`, string(raw))
	p = refusal(&protocol.Error{Code: protocol.CodeInvalid, Field: "config.api_key", Message: "holds a secret"})
	require.Equal(t, "body.config.api_key", p.Errors[0].Location)
	p.frozen = true
	raw, err = json.Marshal(p)
	require.NoError(t, err)
	require.JSONEq(t, `{"detail":[{"type":"value_error","loc":["body","config","api_key"],"msg":"holds a secret","input":null}]}`, string(raw))
	require.Equal(t, []any{"body", "nodes", 0, "to", 12}, steps("body.nodes[0].to[12]"))
	require.Equal(t, "body.nodes[0].to[12]", location(steps("body.nodes[0].to[12]")))
}

func TestDepth(t *testing.T) {
	require.False(t, deeperThan([]byte(`{"a":[{}]}`), 3))
	require.True(t, deeperThan([]byte(`{"a":[{}]}`), 2))
	require.False(t, deeperThan([]byte(`{"a":"[[[[\"[[[["}`), 1), "brackets in texts do not count")
	require.False(t, deeperThan([]byte(`"\`), 1))
}

func TestRequestID(t *testing.T) {
	require.Equal(t, "abc-1.2_3:4", requestID("abc-1.2_3:4"))
	for _, bad := range []string{"", "a b", "a\nb", "ü", strings.Repeat("x", 129)} {
		require.Regexp(t, `^req_[0-9a-z]{26}$`, requestID(bad))
	}
}

// TestPanic checks that a handler's panic is an answer, and says nothing of what happened.
func TestPanic(t *testing.T) {
	s := bare(t)
	s.app.Get("/boom", func(*fiber.Ctx) error { panic("the secret of the house") })
	resp, err := s.app.Test(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/boom", http.NoBody))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	require.Contains(t, string(body), `"code":"INTERNAL"`)
	require.NotContains(t, string(body), "secret")
}

// TestHeartbeat watches a quiet stream for a while.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		st := &eventStream{server: bare(t), conn: server, messages: make(chan []byte)}
		var said bytes.Buffer
		done := make(chan error)
		go func() { done <- st.write(bufio.NewWriter(&said), nil) }()
		time.Sleep(3*heartbeat + time.Second) //nolint:forbidigo // inside testing/synctest
		close(st.messages)
		require.NoError(t, <-done)
		require.Equal(t, 3, strings.Count(said.String(), ": heartbeat\n\n"))
		require.NoError(t, server.Close())
		require.NoError(t, client.Close())
	})
}
