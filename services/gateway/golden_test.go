package gateway_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What differs from run to run, and what stands for it in the golden files.
var volatile = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`exec_[0-9a-z]{26}`), "exec_ID"},
	{regexp.MustCompile(`wf_[0-9a-z]{26}`), "wf_ID"},
	{regexp.MustCompile(`req_[0-9a-z]{26}`), "req_ID"},
	{regexp.MustCompile(`key_[0-9a-z]{26}`), "key_ID"},
	{regexp.MustCompile(`af_[0-9a-f]{8,64}`), "af_KEY"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
}

// golden compares an answer, status and body, with a file.
func golden(t *testing.T, name string, a answer) {
	t.Helper()
	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, a.body, "", "  "), "body: %s", a.body)
	got := fmt.Appendf(nil, "%d %s\n\n%s\n", a.status, a.header.Get("Content-Type"), pretty.Bytes())
	for _, v := range volatile {
		got = v.pattern.ReplaceAll(got, []byte(v.name))
	}
	file := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
		require.NoError(t, os.WriteFile(file, got, 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

const (
	invalid   = `{"start_node":"in","nodes":[{"id":"in","type":"input"},{"id":"lost","type":"llm","metadata":{"source_id":"nowhere","prompt":"hi"}}],"edges":[]}`
	misshapen = `{"nodes":[{"id":"a b","type":"input"},{"type":"robot"}],"edges":[{"from":"a","to":[]}],"start_node":"x"}`
)

// TestPhase1 holds every answer of the frozen contract against a file.
func TestPhase1(t *testing.T) {
	p := start(t, withoutKeys)
	p.executor.follow(func(j *bus.Job, r protocol.Requested) protocol.Event {
		if len(r.Tags) > 0 && r.Tags[0] == "fail" {
			return protocol.Failed{Error: protocol.Failure{Code: protocol.CodeNodeFailed, Node: "n", Message: "it broke"}, Totals: protocol.Totals{Cost: "0"}}
		}
		return complete(j, r)
	})
	for _, c := range []struct{ name, method, path, body string }{
		{"root", "GET", "/", ""},
		{"health", "GET", "/health", ""},
		{"health_live", "GET", "/health/live", ""},
		{"health_ready", "GET", "/health/ready", ""},
		{"validate_valid", "POST", "/api/v1/workflows/validate", pure},
		{"validate_wrapped", "POST", "/api/v1/workflows/validate", `{"workflow":` + pure + `}`},
		{"validate_invalid", "POST", "/api/v1/workflows/validate", invalid},
		{"validate_misshapen", "POST", "/api/v1/workflows/validate", misshapen},
		{"validate_misshapen_wrapped", "POST", "/api/v1/workflows/validate", `{"workflow":` + misshapen + `}`},
		{"build", "POST", "/api/v1/workflows/build", pure},
		{"build_invalid", "POST", "/api/v1/workflows/build", invalid},
		{"execute", "POST", "/api/v1/workflows/execute", `{"workflow":` + pure + `,"initial_state":{"user_input":"<hi> & \u00fc"}}`},
		{"execute_invalid", "POST", "/api/v1/workflows/execute", `{"workflow":` + invalid + `}`},
		{"execute_misshapen", "POST", "/api/v1/workflows/execute", `{"workflow":` + misshapen + `}`},
		{"execute_failed", "POST", "/api/v1/workflows/execute", `{"workflow":` + pure + `,"tags":["fail"]}`},
		{"execute_no_workflow", "POST", "/api/v1/workflows/execute", `{"initial_state":{}}`},
		{"execute_wrong_types", "POST", "/api/v1/workflows/execute", `{"workflow":` + pure + `,"initial_state":[1],"timeout_seconds":"x","max_iterations":0.5,"tags":[1]}`},
		{"execute_not_json", "POST", "/api/v1/workflows/execute", `{"workflow":`},
		{"execute_not_object", "POST", "/api/v1/workflows/execute", `[1]`},
		{"execute_empty", "POST", "/api/v1/workflows/execute", ""},
		{"node_types", "GET", "/api/v1/workflows/node-types", ""},
		{"source_types", "GET", "/api/v1/workflows/source-types", ""},
		{"sources_available", "GET", "/api/v1/sources/types/available", ""},
		{"sources_empty", "GET", "/api/v1/sources/", ""},
		{"source_register", "POST", "/api/v1/sources/", `{"id":"gpt","kind":"llm","config":{"provider":"openai","model":"gpt-5","max_tokens":4096}}`},
		{"source_replace", "POST", "/api/v1/sources/", `{"id":"gpt","kind":"llm","config":{"provider":"openai","model":"gpt-6"}}`},
		{"source_register_bad", "POST", "/api/v1/sources/", `{"kind":"robot","config":[]}`},
		{"sources_one", "GET", "/api/v1/sources/", ""},
		{"source_get", "GET", "/api/v1/sources/gpt", ""},
		{"source_unknown", "GET", "/api/v1/sources/nope", ""},
		{"source_delete", "DELETE", "/api/v1/sources/gpt", ""},
		{"sources_clear", "DELETE", "/api/v1/sources/", ""},
		{"no_route", "GET", "/api/v1/nothing", ""},
		{"no_method", "PATCH", "/api/v1/workflows/execute", ""},
	} {
		t.Run(c.name, func(t *testing.T) { golden(t, "v1_"+c.name, p.call(c.method, c.path, c.body)) })
	}
}

// TestRootProblems holds the problem documents of the same errors at the root against files.
func TestRootProblems(t *testing.T) {
	p := start(t, withoutKeys)
	p.executor.follow(func(_ *bus.Job, r protocol.Requested) protocol.Event {
		switch r.Tags[0] {
		case "timeout":
			return protocol.TimedOut{Scope: protocol.ScopeNode, Node: "slow", ElapsedMS: 1000, State: protocol.ObjectOf(workflow.Values{"half": "done"})}
		case "limited":
			return protocol.Failed{Error: protocol.Failure{Code: protocol.CodeRateLimited, Node: "llm", Message: "no room in queue q", RetryAfterMS: 2500}}
		case "cancelled":
			return protocol.Cancelled{Reason: "changed my mind"}
		case "invalid input":
			return protocol.Failed{Error: protocol.Failure{Code: protocol.CodeInvalid, Node: "in", Message: "user_input is required"}}
		}
		return protocol.Failed{Error: protocol.Failure{Code: protocol.CodeLoopLimit, Message: "the loop ran 25 times"}}
	})
	run := func(tag string) string { return `{"workflow":` + pure + `,"tags":["` + tag + `"]}` }
	for _, c := range []struct{ name, method, path, body string }{
		{"misshapen", "POST", "/workflows/execute", `{"workflow":` + misshapen + `}`},
		{"invalid", "POST", "/workflows/execute", `{"workflow":` + invalid + `}`},
		{"not_json", "POST", "/workflows/execute", `{"workflow":`},
		{"failed", "POST", "/workflows/execute", run("fail")},
		{"failed_invalid_input", "POST", "/workflows/execute", run("invalid input")},
		{"timed_out", "POST", "/workflows/execute", run("timeout")},
		{"rate_limited", "POST", "/workflows/execute", run("limited")},
		{"cancelled", "POST", "/workflows/execute", run("cancelled")},
		{"unknown_workflow", "POST", "/workflows/execute", `{"workflow_id":"wf_01jd2v8m6hf5qrgq2s9n0w3x4y"}`},
		{"unknown_execution", "GET", "/executions/exec_01jd2v8m6hf5qrgq2s9n0w3x4y", ""},
		{"no_execution_id", "GET", "/executions/wf_01jd2v8m6hf5qrgq2s9n0w3x4y", ""},
		{"no_route", "GET", "/nothing", ""},
		{"no_method", "PATCH", "/workflows", ""},
		{"unknown_field", "POST", "/workflows", `{"spec":` + pure + `,"colour":"x"}`},
		{"bad_page", "GET", "/workflows?skip=-1&limit=1000000000", ""},
		{"bad_spec", "POST", "/workflows", `{"name":"x","spec":` + misshapen + `}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := p.call(c.method, c.path, c.body)
			require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
			require.NotEmpty(t, a.header.Get("X-Request-Id"))
			golden(t, "root_"+c.name, a)
			if a.status == http.StatusTooManyRequests {
				require.Equal(t, "3", a.header.Get("Retry-After"))
			}
		})
	}
	// Under /api/v1 the same ends keep the shape of Phase 1.
	for _, tag := range []string{"timeout", "limited", "cancelled"} {
		golden(t, "v1_execute_"+tag, p.call("POST", "/api/v1/workflows/execute", run(tag)))
	}
}
