package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// bad is what no client should send, with the answers it deserves under /api/v1 and at the root.
type bad struct {
	name   string
	body   string
	v1     int
	root   int
	says   string // part of the answer
	header []string
}

func single(id, kind, metadata string) string {
	return `{"workflow":{"start_node":"` + id + `","nodes":[{"id":"` + id + `","type":"` + kind + `","metadata":` + metadata + `}]}}`
}

// chain is a workflow of n pure nodes in a row.
func chain(n int) string {
	var nodes, edges strings.Builder
	for i := range n {
		if i > 0 {
			nodes.WriteByte(',')
			if i > 1 {
				edges.WriteByte(',')
			}
			fmt.Fprintf(&edges, `{"from":"n%d","to":"n%d"}`, i-1, i)
		}
		fmt.Fprintf(&nodes, `{"id":"n%d","type":"input"}`, i)
	}
	return `{"workflow":{"start_node":"n0","nodes":[` + nodes.String() + `],"edges":[` + edges.String() + `]}}`
}

// conditional is a workflow whose one edge has a condition, with a state for it.
func conditional(condition, state string) string {
	quoted, err := json.Marshal(condition)
	if err != nil {
		panic(err)
	}
	return `{"workflow":{"start_node":"a","nodes":[{"id":"a","type":"input"},{"id":"b","type":"aggregator"}],"edges":[{"from":"a","to":"b","condition":` +
		string(quoted) + `}]},"initial_state":` + state + `}`
}

// numbers is a JSON array of n numbers.
func numbers(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }

func badOnes() []bad {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	return []bad{
		{"nothing", "", 422, 422, "", nil},
		{"truncated", `{"workflow":{"nodes":[`, 422, 400, "", nil},
		{"two documents", `{} {}`, 422, 400, "", nil},
		{"a list", `[1]`, 422, 422, "", nil},
		{"null", `null`, 422, 422, "", nil},
		{"single quotes", `{'workflow':1}`, 422, 400, "", nil},
		{"not a number", `{"workflow":` + pure + `,"initial_state":{"x":NaN}}`, 422, 400, "", nil},
		{"workflow of the wrong type", `{"workflow":"x"}`, 422, 422, "workflow", nil},
		{"nodes of the wrong type", `{"workflow":{"start_node":1,"nodes":{"id":"a"},"edges":"x"}}`, 422, 422, "nodes", nil},
		{"metadata of the wrong type", single("a", "input", `[1]`), 422, 422, "metadata", nil},
		{"state of the wrong type", `{"workflow":` + pure + `,"initial_state":"x"}`, 422, 422, "initial_state", nil},
		{"id with dot", single("a.b", "input", `{}`), 422, 422, "pattern", nil},
		{"id with space", single("a b", "input", `{}`), 422, 422, "pattern", nil},
		{"id with star", single("*", "input", `{}`), 422, 422, "pattern", nil},
		{"id with >", single("a.>", "input", `{}`), 422, 422, "pattern", nil},
		{"id without end", single(strings.Repeat("x", 101), "input", `{}`), 422, 422, "", nil},
		{"id of nothing", single("", "input", `{}`), 422, 422, "", nil},
		{"deep objects", strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000), 422, 400, "", nil},
		{"deep state", `{"workflow":` + pure + `,"initial_state":{"user_input":` + deep(10_000) + `}}`, 422, 400, "", nil},
		{"deep metadata", single("a", "input", `{"x":`+deep(100)+`}`), 422, 422, "64 levels", nil},
		{"not UTF-8", "{\"workflow\":" + pure + ",\"initial_state\":{\"user_input\":\"\xff\xfe\"}}", 422, 400, "UTF-8", nil},
		{"NUL", "{\"workflow\":\x00}", 422, 400, "", nil},
		{"5 MB", `{"x":"` + strings.Repeat("x", 5<<20) + `"}`, 413, 413, "", nil},
		{"5 MB that say so late", `{"workflow":` + pure + `,"initial_state":{"user_input":"` + strings.Repeat("x", 5<<20) + `"}}`, 413, 413, "", nil},
		{"10,001 nodes", chain(10_001), 422, 422, "10000", nil},
		{"bad regular expression", single("r", "router", `{"strategy":"pattern","routes":[{"intent":"x","pattern":"(a*"}]}`), 400, 400, "E003", nil},
		{"huge regular expression", single("r", "router", `{"strategy":"pattern","routes":[{"intent":"x","pattern":"((((a{1,1000}){1,1000}){1,1000}){1,1000})"}]}`), 400, 400, "E003", nil},
		{"look-ahead", single("r", "router", `{"strategy":"pattern","routes":[{"intent":"x","pattern":"(?=a)b"}]}`), 400, 400, "E003", nil},
		{"bad CEL", conditional("user_input ==", `{}`), 400, 400, "E003", nil},
		{"long CEL", conditional("true"+strings.Repeat(" || true", 600), `{}`), 400, 400, "E003", nil},
		{"deep CEL", conditional(strings.Repeat("(", 1500)+"true"+strings.Repeat(")", 1500), `{}`), 400, 400, "E003", nil},
		{"code in CEL", conditional("__import__('os').system('true')", `{}`), 400, 400, "E003", nil},
		{
			"endless CEL", conditional("xs.all(a, xs.all(b, xs.all(c, xs.all(d, a + b + c + d > 0))))", `{"xs":`+numbers(1000)+`}`),
			500, 500, "condition", nil,
		},
		{"CEL that cannot be decided", conditional("user_input.size.wide > 1", `{}`), 500, 500, "condition", nil},
		{
			"huge template", `{"workflow":{"start_node":"a","nodes":[{"id":"a","type":"aggregator","metadata":{"strategy":"template","template":"` +
				strings.Repeat("{user_input}", 20_000) + `"}}]},"initial_state":{"user_input":"` + strings.Repeat("y", 100_000) + `"}}`, 500, 500, "4194304 bytes", nil,
		},
		{"endless loop", `{"workflow":` + loop + `,"max_iterations":1000}`, 500, 500, "max_iterations", nil},
		{"negative timeout", `{"workflow":` + pure + `,"timeout_seconds":-1}`, 422, 422, "timeout_seconds", nil},
		{"endless timeout", `{"workflow":` + pure + `,"timeout_seconds":1e300}`, 422, 422, "timeout_seconds", nil},
		{"unknown workflow", `{"workflow_id":"wf_01jd2v8m6hf5qrgq2s9n0w3x4y"}`, 404, 404, "", nil},
		{"workflow id of subjects", `{"workflow_id":"a.*.>"}`, 404, 404, "", nil},
		{"long key", `{"workflow":` + pure + `}`, 422, 422, "Idempotency-Key", []string{"Idempotency-Key", strings.Repeat("k", 300)}},
		{"compressed", `{"workflow":` + pure + `}`, 415, 415, "", []string{"Content-Encoding", "gzip"}},
		{"huge header", `{"workflow":` + pure + `}`, 431, 431, "", []string{"X-Junk", strings.Repeat("j", 20<<10)}},
	}
}

// TestHostile: each gets a clear answer in the shape of its address, and the platform serves as before, in the same process.
func TestHostile(t *testing.T) {
	t.Parallel()
	p := use(t)
	for _, c := range badOnes() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for path, status := range map[string]int{"/api/v1/workflows/execute": c.v1, "/workflows/execute": c.root} {
				a, err := p.Try(t, http.MethodPost, path, c.body, c.header...)
				if err != nil && c.root == http.StatusRequestHeaderFieldsTooLarge {
					// The server answers and hangs up while the header is still being sent; who writes on may not see the answer.
					requireServes(t, p)
					continue
				}
				require.NoError(t, err, path)
				require.Equal(t, status, a.Status, "%s: %.1000s", path, a.Body)
				problem := a.JSON(t)
				if strings.HasPrefix(path, "/api") {
					require.NotEmpty(t, problem["detail"])
				} else {
					require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
					require.Less(t, len(a.Body), 256<<10, "a problem does not repeat what was sent")
					require.NotEmpty(t, problem["code"])
					require.NotEmpty(t, problem["detail"])
				}
				require.Contains(t, string(a.Body), c.says)
				require.NotContains(t, string(a.Body), "goroutine")
				requireServes(t, p)
			}
		})
	}
}

// requireServes runs a small workflow.
func requireServes(t *testing.T, p *platform.Platform) {
	t.Helper()
	a := p.Call(t, http.MethodPost, "/workflows/execute", object{"workflow": pureWorkflow, "initial_state": object{"user_input": "you"}})
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
	require.Contains(t, string(a.Body), "Hello, you!")
}

// TestLarge: what is large but allowed is done, whole.
func TestLarge(t *testing.T) {
	t.Parallel()
	p := use(t)
	t.Run("10,000 nodes", func(t *testing.T) {
		t.Parallel()
		a := p.Call(t, http.MethodPost, "/workflows/execute", chain(10_000))
		require.Equal(t, http.StatusOK, a.Status, "%.1000s", a.Body)
		path, ok := a.JSON(t)["final_state"].(object)["execution_path"].([]any)
		require.True(t, ok)
		require.Len(t, path, 10_000)
		require.Equal(t, []any{"n0", "n9999"}, []any{path[0], path[9999]})
	})
	t.Run("a state of 900 KB", func(t *testing.T) {
		t.Parallel()
		big := strings.Repeat("ü€😀", 100_000)
		a := p.Call(t, http.MethodPost, "/workflows/execute", object{"workflow": pureWorkflow, "initial_state": object{"user_input": big}})
		require.Equal(t, http.StatusOK, a.Status, "%.1000s", a.Body)
		state := a.JSON(t)["final_state"].(object)
		require.Equal(t, big, state["user_input"])
		require.Equal(t, "Hello, "+big+"!", state["final_output"].(object)["result"])
		kept := p.Execution(t, a.JSON(t)["execution_id"].(string))
		require.Equal(t, "COMPLETED", kept.Status)
	})
	t.Run("many values of middling size", func(t *testing.T) {
		t.Parallel()
		const n, size = 200, 60_000
		nodes, edges := make([]any, n), []any{}
		for i := range nodes {
			nodes[i] = object{"id": fmt.Sprintf("n%d", i), "type": "aggregator", "metadata": object{
				"strategy": "template", "template": "{user_input}", "output_key": fmt.Sprintf("o%d", i), "include_metadata": false,
			}}
			if i > 0 {
				edges = append(edges, object{"from": fmt.Sprintf("n%d", i-1), "to": fmt.Sprintf("n%d", i)})
			}
		}
		a := p.Call(t, http.MethodPost, "/workflows/execute", object{
			"workflow": object{"start_node": "n0", "nodes": nodes, "edges": edges}, "initial_state": object{"user_input": strings.Repeat("y", size)},
		})
		require.Equal(t, http.StatusOK, a.Status, "%.1000s", a.Body)
		outputs, ok := a.JSON(t)["final_state"].(object)["outputs"].(object)
		require.True(t, ok)
		require.Len(t, outputs, n)
	})
	t.Run("regular expression on a long text", func(t *testing.T) {
		t.Parallel()
		a := p.Call(t, http.MethodPost, "/workflows/execute", `{"workflow":{"start_node":"r","nodes":[{"id":"r","type":"router","metadata":{"strategy":"pattern","default_intent":"none","routes":[{"intent":"x","pattern":"(a+)+$"}]}}]},"initial_state":{"user_input":"`+strings.Repeat("a", 500_000)+`!"}}`)
		require.Equal(t, http.StatusOK, a.Status, "%.1000s", a.Body)
	})
	t.Run("numbers of any size", func(t *testing.T) {
		t.Parallel()
		a := p.Call(t, http.MethodPost, "/workflows/execute", `{"workflow":`+pure+`,"initial_state":{"user_input":"x","n":[1e999999,-0,0.1000,123456789012345678901234567890]}}`)
		require.Equal(t, http.StatusOK, a.Status, "%.1000s", a.Body)
		require.Contains(t, string(a.Body), `[1e999999,-0,0.1000,123456789012345678901234567890]`)
	})
	t.Run("texts of any kind", func(t *testing.T) {
		t.Parallel()
		for _, text := range []string{"\u0000", "\u2028", `"\`, "{user_input}", "{{}}", "\U0010ffff", "\u202e", strings.Repeat("{", 1000)} {
			a := p.Call(t, http.MethodPost, "/workflows/execute", object{"workflow": pureWorkflow, "initial_state": object{"user_input": text}})
			require.Equal(t, http.StatusOK, a.Status, "%q: %.1000s", text, a.Body)
			require.Equal(t, "Hello, "+text+"!", a.JSON(t)["final_state"].(object)["final_output"].(object)["result"])
			kept := p.Execution(t, a.JSON(t)["execution_id"].(string))
			require.Equal(t, text, kept.FinalState["user_input"])
		}
	})
}

// TestHostileAddresses: ids in an address are names, not patterns.
func TestHostileAddresses(t *testing.T) {
	t.Parallel()
	p := use(t)
	admin := p.As(p.Ready().AdminKey)
	refused := []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	if len(attached) > 0 { // where the suite has run before, a.b may be somebody's
		refused = append(refused, http.StatusForbidden)
	}
	for _, id := range []string{"a.b", "%2A", "%3E", "a%20b", "..%2F..", "%00", "%FF", "exec_*", strings.Repeat("e", 300), "exec_01jd2v8m6hf5qrgq2s9n0w3x4y"} {
		for _, path := range []string{"/executions/", "/workflows/", "/sources/", "/api/v1/sources/", "/api/v1/workflows/"} {
			a := p.Call(t, http.MethodGet, path+id, nil)
			require.Contains(t, refused, a.Status, "%s%s: %.300s", path, id, a.Body)
		}
		for _, path := range []string{"/executions/" + id + "/events", "/executions/" + id + "/cancel", "/workflows/" + id + "/execute"} {
			method := http.MethodPost
			if strings.HasSuffix(path, "events") {
				method = http.MethodGet
			}
			a := p.Call(t, method, path, nil)
			require.Contains(t, refused, a.Status, "%s: %.300s", path, a.Body)
		}
	}
	for _, id := range []string{"UPPER", "a.b", "*", ">", "a b", "", strings.Repeat("x", 64), "ü"} {
		a := admin.Call(t, http.MethodPost, "/tenants", object{"id": id})
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "tenant %q: %s", id, a.Body)
		require.Contains(t, []int{http.StatusNotFound, http.StatusUnprocessableEntity}, admin.Call(t, http.MethodGet, "/workflows", nil, "X-Tenant-ID", "x"+strings.ReplaceAll(id, "ü", "u")).Status)
	}
	requireServes(t, p)
}

// TestOddSourceIDs: an id is refused, or it names one source everywhere.
func TestOddSourceIDs(t *testing.T) {
	t.Parallel()
	c := found(t, use(t), "odd")
	kept := map[string]bool{}
	for _, id := range []string{"a.b", "a", "b", "a b", "*", ">", "a.*", "a/b", "", "..", "ü", "%2e", "types", strings.Repeat("s", 300), "null\u0000"} {
		a := c.Call(t, http.MethodPost, "/api/v1/sources/", object{"id": id, "kind": "llm", "config": object{"provider": "echo", "model": "model of " + id}})
		if a.Status != http.StatusCreated {
			require.Contains(t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, a.Status, "source %q: %s", id, a.Body)
			continue
		}
		kept[id] = true
	}
	require.Contains(t, kept, "a")
	require.NotContains(t, kept, "")
	var list struct {
		Sources map[string]object `json:"sources"`
	}
	c.Get(t, "/api/v1/sources/").Decode(t, &list)
	require.Len(t, list.Sources, len(kept))
	for id := range kept {
		require.Equal(t, "model of "+id, list.Sources[id]["config"].(object)["model"], "%q", id)
		a := c.Call(t, http.MethodGet, "/api/v1/sources/"+url.PathEscape(id), nil)
		require.Equal(t, http.StatusOK, a.Status, "%q: %s", id, a.Body)
		require.Equal(t, id, a.JSON(t)["id"])
		a = c.Call(t, http.MethodPost, "/workflows/execute", asks(nil, object{"source_id": id}))
		require.Equal(t, http.StatusOK, a.Status, "%q: %s", id, a.Body)
		a = c.Call(t, http.MethodDelete, "/api/v1/sources/"+url.PathEscape(id), nil)
		require.Equal(t, http.StatusOK, a.Status, "%q: %s", id, a.Body)
	}
	c.Get(t, "/api/v1/sources/").Decode(t, &list)
}
