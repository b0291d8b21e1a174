package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/gateway/contract"
	"github.com/agentflow/agentflow/test/platform"
)

// The ids that the examples of the OpenAPI document are written with, and where its answers are kept.
const (
	exampleWorkflow  = "wf_01jd2v8m6hf5qrgq2s9n0w3x4y"
	exampleExecution = "exec_01jd2v8m6hf5qrgq2s9n0w3x4y"
	exampleKey       = "key_01jd2v8m6hf5qrgq2s9n0w3x4y"
	exampleAnswers   = "../../services/gateway/internal/api/examples/answers.json"
)

// replay sends the examples of the OpenAPI document to a platform.
type replay struct {
	t        *testing.T
	client   platform.Client
	tenant   string
	contract *contract.Contract
	examples map[string][]contract.Example // by operation
	where    map[string][2]string          // method and path by operation
	ids      map[string]string             // what stands for an id of the examples
	sent     map[string]bool
	answers  map[string]json.RawMessage
}

// TestDocumentedExamples sends every request that the OpenAPI document shows, and asks for everything it lists: each is
// answered with success, in the shape that is documented. With -update, the answers become the document's examples.
func TestDocumentedExamples(t *testing.T) {
	p := use(t)
	c, err := p.Contract(t)
	require.NoError(t, err)
	tenant := "docs-" + strings.ToLower(typeid.New("x")[20:])
	r := &replay{
		t: t, client: p.As(p.Ready().AdminKey), tenant: tenant, contract: c,
		examples: map[string][]contract.Example{}, where: map[string][2]string{}, ids: map[string]string{"acme": tenant},
		sent: map[string]bool{}, answers: map[string]json.RawMessage{},
	}
	r.read()

	r.send("create-tenant", "list-tenants", "get-tenant", "update-tenant")
	// One of the examples suspends it.
	a := r.client.Call(t, http.MethodPut, "/tenants/"+tenant, object{"status": "active"})
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
	r.send("create-key")
	r.ids[exampleKey] = r.field("create-key", "id")
	r.send("list-keys", "get-key", "update-key", "rotate-key", "revoke-key")
	r.send("root", "health", "health-live", "health-ready", "list-audit", "get-limits", "get-queue-usage")
	for _, v1 := range []string{"", "-v1"} {
		r.send("list-node-types"+v1, "list-source-types"+v1, "list-source-kinds"+v1)
		if v1 == "" {
			r.send("create-source", "list-sources", "get-source", "update-source", "test-source")
		} else {
			r.send("register-source-v1", "list-sources-v1", "get-source-v1", "test-source-v1")
		}
		r.ids[exampleWorkflow] = typeid.New("wf")
		r.send("create-workflow"+v1, "list-workflows"+v1, "get-workflow"+v1, "validate-workflow"+v1, "build-workflow"+v1)
		r.send("execute-workflow"+v1, "execute-stored-workflow"+v1)
		r.ids[exampleExecution] = r.field("execute-stored-workflow"+v1, "execution_id")
		if v1 == "" {
			r.send("list-executions", "get-execution", "list-execution-events", "rerun-execution")
			r.cancel()
		}
		r.send("list-workflow-executions"+v1, "get-workflow-stats"+v1, "update-workflow"+v1, "list-workflow-versions"+v1, "delete-workflow"+v1)
	}
	r.send("delete-source", "register-source-v1", "list-sources-v1-slash", "register-source-v1-slash")
	r.ids["support-model"] = "model"
	r.send("unregister-source-v1", "clear-sources-v1", "clear-sources-v1-slash")

	for id, at := range r.where {
		require.True(t, r.sent[id], "%s (%s %s) was not replayed", id, at[0], at[1])
	}
	if *update {
		r.keep()
	}
}

// read lists the operations of the document and the examples of each.
func (r *replay) read() {
	list, err := r.contract.Examples()
	require.NoError(r.t, err)
	for _, e := range list {
		r.examples[e.Operation] = append(r.examples[e.Operation], e)
	}
	paths, _ := r.contract.Document["paths"].(map[string]any)
	for path, item := range paths {
		for method, op := range item.(map[string]any) {
			id, _ := op.(map[string]any)["operationId"].(string)
			r.where[id] = [2]string{strings.ToUpper(method), path}
		}
	}
}

// send sends the examples of operations, or a bare request to those that take no body.
func (r *replay) send(operations ...string) {
	r.t.Helper()
	for _, id := range operations {
		at, ok := r.where[id]
		require.True(r.t, ok, "the document has no operation %s", id)
		if len(r.examples[id]) == 0 {
			r.one(id, at[0], at[1], nil)
		}
		for _, e := range r.examples[id] {
			r.one(id, e.Method, e.Path, e.Body)
		}
	}
}

func (r *replay) one(id, method, path string, example json.RawMessage) {
	r.t.Helper()
	path = strings.Replace(path, "{id}", r.pathID(path), 1)
	if strings.HasPrefix(path, "/keys") && method != http.MethodPost || strings.HasSuffix(path, "/rotate") {
		path += "?tenant_id=acme"
	}
	var body any
	if example != nil {
		body = r.actual(string(example))
	}
	a := r.client.Call(r.t, method, r.actual(path), body, "X-Tenant-ID", r.header(id))
	require.Less(r.t, a.Status, 300, "%s %s %s: %s", method, path, example, a.Body)
	r.sent[id] = true
	if _, known := r.answers[id]; !known {
		r.answers[id] = a.Body
	}
}

// header is the tenant that a request is made for; none before there is one.
func (r *replay) header(id string) string {
	if id == "create-tenant" {
		return ""
	}
	return r.tenant
}

// pathID is the id that the document shows for a path.
func (r *replay) pathID(path string) string {
	switch strings.Split(strings.TrimPrefix(path, "/api/v1"), "/")[1] {
	case "workflows":
		return exampleWorkflow
	case "executions":
		return exampleExecution
	case "keys":
		return exampleKey
	case "tenants":
		return "acme"
	case "queues":
		return "requests"
	}
	return "support-model"
}

// actual puts the ids of this run in the place of those of the examples.
func (r *replay) actual(text string) string {
	for _, example := range slices.Sorted(maps.Keys(r.ids)) {
		text = regexp.MustCompile(`\b`+regexp.QuoteMeta(example)+`\b`).ReplaceAllString(text, r.ids[example])
	}
	return text
}

// field reads a field of an answer.
func (r *replay) field(id, name string) string {
	r.t.Helper()
	var v map[string]any
	require.NoError(r.t, json.Unmarshal(r.answers[id], &v))
	text, _ := v[name].(string)
	require.NotEmpty(r.t, text, "%s of %s", name, id)
	return text
}

// cancel sends the example of a cancel to an execution that is under way.
func (r *replay) cancel() {
	r.t.Helper()
	asked := make(chan struct{}, 10)
	model := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		asked <- struct{}{}
		<-req.Context().Done()
	}))
	r.t.Cleanup(model.Close)
	a := r.client.Call(r.t, http.MethodPost, "/workflows/execute?mode=async", object{"workflow": object{
		"start_node": "ask", "nodes": []object{{"id": "ask", "type": "api", "metadata": object{"source_id": "slow", "endpoint": "/"}}},
		"sources": []object{{"id": "slow", "kind": "api", "config": object{"base_url": model.URL}}},
	}}, "X-Tenant-ID", r.tenant)
	require.Equal(r.t, http.StatusAccepted, a.Status, "%s", a.Body)
	<-asked
	was := r.ids[exampleExecution]
	r.ids[exampleExecution], _ = a.JSON(r.t)["execution_id"].(string)
	r.send("cancel-execution")
	r.ids[exampleExecution] = was
}

// What differs from run to run, and what the document shows for it.
var shown = []struct {
	pattern *regexp.Regexp
	example string
}{
	{regexp.MustCompile(`wf_[0-9a-z]{26}`), exampleWorkflow},
	{regexp.MustCompile(`exec_[0-9a-z]{26}`), exampleExecution},
	{regexp.MustCompile(`key_[0-9a-z]{26}`), exampleKey},
	{regexp.MustCompile(`req_[0-9a-z]{26}`), "req_01jd2v8m6hf5qrgq2s9n0w3x4y"},
	{regexp.MustCompile(`cmd_[0-9a-z]{26}`), "cmd_01jd2v8m6hf5qrgq2s9n0w3x4y"},
	{regexp.MustCompile(`af_[0-9a-f]{64}`), "af_" + strings.Repeat("0123456789abcdef", 4)},
	{regexp.MustCompile(`"af_[0-9a-f]{4,16}"`), `"af_01234567"`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "2026-11-23T08:00:00Z"},
	{regexp.MustCompile(`"(\w*(?:time|duration|elapsed)\w*_ms)": ?\d+`), `"$1": 12`},
	{regexp.MustCompile(`"version": ?"[^"]*(dev|[0-9a-f]{7})[^"]*"`), `"version": "1.0.0"`},
	{regexp.MustCompile(`"(date|day)": ?"[^"]*"`), `"$1": "2026-11-23"`},
}

// keep writes the answers as the examples of the document. Twins under /api/v1 show the answers of the root.
func (r *replay) keep() {
	r.t.Helper()
	maps.DeleteFunc(r.answers, func(id string, _ json.RawMessage) bool {
		_, twin := r.answers[strings.TrimSuffix(id, "-v1")]
		return strings.HasSuffix(id, "-slash") || strings.HasSuffix(id, "-v1") && twin && !strings.Contains(id, "source")
	})
	for id, body := range r.answers {
		text := strings.ReplaceAll(string(body), r.tenant, "acme")
		for _, s := range shown {
			text = s.pattern.ReplaceAllString(text, s.example)
		}
		r.answers[id] = json.RawMessage(text)
	}
	raw, err := json.MarshalIndent(r.answers, "", "  ")
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(exampleAnswers, append(raw, '\n'), 0o600))
}
