package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// pureWorkflow needs nothing outside.
var pureWorkflow = object{
	"start_node": "in",
	"nodes": []any{
		object{"id": "in", "type": "input", "metadata": object{"validate": object{"required": true}}},
		object{"id": "out", "type": "aggregator", "metadata": object{"strategy": "template", "template": "Hello, {user_input}!"}},
	},
	"edges": []any{object{"from": "in", "to": "out"}},
}

const (
	pure      = `{"start_node":"in","nodes":[{"id":"in","type":"input","metadata":{"validate":{"required":true}}},{"id":"out","type":"aggregator","metadata":{"strategy":"template","template":"Hello, {user_input}!"}}],"edges":[{"from":"in","to":"out"}]}`
	invalid   = `{"start_node":"in","nodes":[{"id":"in","type":"input"},{"id":"lost","type":"llm","metadata":{"source_id":"nowhere"}}],"edges":[]}`
	misshapen = `{"nodes":[{"id":"a b","type":"input"},{"type":"robot"}],"edges":[{"from":"a","to":[]}],"start_node":"x"}`
	loop      = `{"start_node":"a","nodes":[{"id":"a","type":"input"},{"id":"b","type":"input"}],"edges":[{"from":"a","to":"b"},{"from_node":"b","to":["a","END"]}]}`
)

// What differs from run to run, and what stands for it in the golden files.
var volatile = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`exec_[0-9a-z]{26}`), "exec_ID"},
	{regexp.MustCompile(`req_[0-9a-z]{26}`), "req_ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`"execution_time_ms": \d+`), `"execution_time_ms": MS`},
	{regexp.MustCompile(`"version": "[^"]+"`), `"version": "VERSION"`},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://HOST"},
}

// golden compares an answer, status and body, with a file.
func golden(t *testing.T, name string, a platform.Answer) {
	t.Helper()
	got := stable(t, a)
	file := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
		require.NoError(t, os.WriteFile(file, got, 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// stable is an answer without what differs from run to run.
func stable(t *testing.T, a platform.Answer) []byte {
	t.Helper()
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, a.Body, "", "  "), "status %d, body: %s", a.Status, a.Body)
	got := fmt.Appendf(nil, "%d %s\n\n%s\n", a.Status, a.Header.Get("Content-Type"), pretty.Bytes())
	for _, v := range volatile {
		got = v.pattern.ReplaceAll(got, []byte(v.name))
	}
	return got
}

// row is a call of the frozen contract. The name of its file is its own.
type row struct{ name, method, path, body string }

// TestFrozen holds each row of the Phase 1 contract, as the real binary answers it, against a file.
func TestFrozen(t *testing.T) {
	p := use(t)
	c := found(t, p, "frozen")
	for _, r := range []row{
		{"root", "GET", "/", ""},
		{"health", "GET", "/health", ""},
		{"health_live", "GET", "/health/live", ""},
		{"health_ready", "GET", "/health/ready", ""},
		{"validate", "POST", "/api/v1/workflows/validate", pure},
		{"validate_wrapped", "POST", "/api/v1/workflows/validate", `{"workflow":` + pure + `}`},
		{"validate_invalid", "POST", "/api/v1/workflows/validate", invalid},
		{"validate_misshapen", "POST", "/api/v1/workflows/validate", misshapen},
		{"validate_loop", "POST", "/api/v1/workflows/validate", loop},
		{"build", "POST", "/api/v1/workflows/build", pure},
		{"build_invalid", "POST", "/api/v1/workflows/build", invalid},
		{"execute", "POST", "/api/v1/workflows/execute", `{"workflow":` + pure + `,"initial_state":{"user_input":"<Ümit> & co","mine":12345678901234567890.10}}`},
		{"execute_invalid", "POST", "/api/v1/workflows/execute", `{"workflow":` + invalid + `}`},
		{"execute_misshapen", "POST", "/api/v1/workflows/execute", `{"workflow":` + misshapen + `}`},
		{"execute_failed", "POST", "/api/v1/workflows/execute", `{"workflow":` + pure + `}`},
		{"execute_loop_limit", "POST", "/api/v1/workflows/execute", `{"workflow":` + loop + `}`},
		{"execute_no_workflow", "POST", "/api/v1/workflows/execute", `{"initial_state":{}}`},
		{"execute_not_json", "POST", "/api/v1/workflows/execute", `{"workflow":`},
		{"node_types", "GET", "/api/v1/workflows/node-types", ""},
		{"source_types", "GET", "/api/v1/workflows/source-types", ""},
		{"sources_available", "GET", "/api/v1/sources/types/available", ""},
		{"sources_empty", "GET", "/api/v1/sources/", ""},
		{"source_register", "POST", "/api/v1/sources/", `{"id":"gpt","kind":"llm","config":{"provider":"openai","model":"gpt-4o-mini"}}`},
		{"source_replace", "POST", "/api/v1/sources/", `{"id":"gpt","kind":"llm","config":{"provider":"echo"}}`},
		{"source_register_bad", "POST", "/api/v1/sources/", `{"kind":"robot","config":[]}`},
		{"source_register_literal", "POST", "/api/v1/sources/", `{"id":"bad","kind":"llm","config":{"model":"gpt-4o-mini","api_key":"sk-in-the-open"}}`},
		{"source_register_header", "POST", "/api/v1/sources/", `{"id":"crm","kind":"api","config":{"base_url":"https://crm.example","headers":{"Accept":"text/plain"},"auth_type":"bearer","token_env":"AGENTFLOW_SECRET_CRM"}}`},
		{"sources", "GET", "/api/v1/sources/", ""},
		{"source_get", "GET", "/api/v1/sources/gpt", ""},
		{"source_unknown", "GET", "/api/v1/sources/nope", ""},
		{"source_test", "POST", "/api/v1/sources/gpt/test", ""},
		{"source_test_unknown", "POST", "/api/v1/sources/nope/test", ""},
		{"source_test_unset", "POST", "/api/v1/sources/crm/test", ""},
		{"execute_kept_source", "POST", "/api/v1/workflows/execute", `{"workflow":{"start_node":"a","nodes":[{"id":"a","type":"llm","metadata":{"source":"gpt","prompt":"four"}}]}}`},
		{"source_delete", "DELETE", "/api/v1/sources/gpt", ""},
		{"source_delete_unknown", "DELETE", "/api/v1/sources/gpt", ""},
		{"sources_clear", "DELETE", "/api/v1/sources/", ""},
		{"sources_cleared", "GET", "/api/v1/sources/", ""},
		{"no_route", "GET", "/api/v1/nothing", ""},
		{"no_method", "PATCH", "/api/v1/workflows/execute", ""},
	} {
		t.Run(r.name, func(t *testing.T) {
			var body any
			if r.body != "" {
				body = r.body
			}
			a := c.Call(t, r.method, r.path, body)
			name := "v1_" + r.name
			if len(attached) > 0 && (r.name == "health" || r.name == "health_ready") {
				name = "fleet_" + name // a gateway of its own knows its own checks alone
			}
			golden(t, name, a)
			r.atRoot(t, c.Client, body, a)
		})
	}
}

// atRoot holds a call on workflows at the root against the same call under /api/v1: what is well is the same, byte for
// byte, and what is not is a problem document of the same status.
func (r row) atRoot(t *testing.T, c platform.Client, body any, frozen platform.Answer) {
	t.Helper()
	path, ok := strings.CutPrefix(r.path, "/api/v1")
	if !ok || !strings.HasPrefix(path, "/workflows/") && path != "/sources/types/available" {
		return
	}
	a := c.Call(t, r.method, path, body)
	if frozen.Status == http.StatusOK {
		require.Equal(t, string(stable(t, frozen)), string(stable(t, a)))
		return
	}
	golden(t, "root_"+r.name, a)
	require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
	problem := a.JSON(t)
	require.EqualValues(t, a.Status, problem["status"])
	require.NotEmpty(t, problem["code"])
}

// TestDocs: the live documentation is there, and the document is one.
func TestDocs(t *testing.T) {
	t.Parallel()
	p := use(t)
	for _, path := range []string{"/docs", "/redoc"} {
		a := p.Get(t, path)
		require.Contains(t, a.Header.Get("Content-Type"), "text/html")
		require.NotContains(t, string(a.Body), `src="https://`, "it works without the network")
	}
	doc := p.Get(t, "/openapi.json").JSON(t)
	require.Regexp(t, `^3\.1`, doc["openapi"])
	paths, ok := doc["paths"].(object)
	require.True(t, ok)
	for _, path := range []string{"/api/v1/workflows/execute", "/workflows/execute", "/api/v1/sources", "/workflows/{id}", "/executions/{id}/events"} {
		_, documented := paths[path]
		require.True(t, documented, path)
	}
}
