package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/services/gateway"
)

// TestHostileInput sends what no client should, and checks that each gets a clear answer, that
// nothing runs, and that the gateway goes on.
func TestHostileInput(t *testing.T) {
	p := start(t, withoutKeys)
	many := func(n int) string {
		var b strings.Builder
		b.WriteString(`{"workflow":{"start_node":"n0","nodes":[`)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"id":"n%d","type":"input"}`, i)
		}
		b.WriteString(`],"edges":[]}}`)
		return b.String()
	}
	node := func(id string) string {
		return `{"workflow":{"start_node":"` + id + `","nodes":[{"id":"` + id + `","type":"input"}]}}`
	}
	for name, c := range map[string]struct {
		body   string
		v1     int
		root   int
		header []string
	}{
		"empty object":       {`{}`, 422, 422, nil},
		"null":               {`null`, 422, 422, nil},
		"a number":           {`1`, 422, 422, nil},
		"truncated":          {`{"workflow":{"nodes":[`, 422, 400, nil},
		"two documents":      {`{} {}`, 422, 400, nil},
		"not UTF-8":          {"{\"workflow\":\"\xff\xfe\"}", 422, 400, nil},
		"NUL":                {"{\"workflow\":\x00}", 422, 400, nil},
		"deep objects":       {strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000), 422, 400, nil},
		"deep arrays":        {`{"initial_state":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, 422, 400, nil},
		"id with dot":        {node("a.b"), 422, 422, nil},
		"id with star":       {node("*"), 422, 422, nil},
		"id with >":          {node(">"), 422, 422, nil},
		"id with space":      {node("a b"), 422, 422, nil},
		"10,000 nodes":       {many(10_000), 400, 400, nil},
		"20,000 nodes":       {many(20_000), 422, 422, nil},
		"workflow is text":   {`{"workflow":"x"}`, 422, 422, nil},
		"state is a list":    {`{"workflow":` + pure + `,"initial_state":[]}`, 422, 422, nil},
		"negative timeout":   {`{"workflow":` + pure + `,"timeout_seconds":-1}`, 422, 422, nil},
		"endless timeout":    {`{"workflow":` + pure + `,"timeout_seconds":1e300}`, 422, 422, nil},
		"not a number":       {`{"workflow":` + pure + `,"timeout_seconds":NaN}`, 422, 400, nil},
		"a thousand tags":    {`{"workflow":` + pure + `,"tags":["` + strings.Repeat(`x","`, 1000) + `"]}`, 422, 422, nil},
		"workflow_id of ..":  {`{"workflow_id":"../../x"}`, 404, 404, nil},
		"workflow_id of >":   {`{"workflow_id":"foo.>"}`, 404, 404, nil},
		"compressed":         {run, 415, 415, []string{"Content-Encoding", "gzip"}},
		"5 MB":               {`{"x":"` + strings.Repeat("x", 5<<20) + `"}`, 413, 413, nil},
		"just over the top":  {`{"x":"` + strings.Repeat("x", 1<<20) + `"}`, 413, 413, nil},
		"a very long key":    {run, 422, 422, []string{"Idempotency-Key", strings.Repeat("k", 300)}},
		"huge header":        {run, 431, 431, []string{"X-Junk", strings.Repeat("j", 20<<10)}},
		"regular expression": {`{"workflow":{"start_node":"r","nodes":[{"id":"r","type":"router","metadata":{"strategy":"pattern","routes":[{"intent":"x","pattern":"(a*"}]}}]}}`, 400, 400, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for path, status := range map[string]int{"/api/v1/workflows/execute": c.v1, "/workflows/execute": c.root} {
				a := p.call(http.MethodPost, path, c.body, c.header...)
				require.Equal(t, status, a.status, "%s: %.300s", path, a.body)
				require.NotEmpty(t, a.header.Get("X-Request-Id"))
				if strings.HasPrefix(path, "/api") {
					require.Contains(t, a.json(t), "detail")
				} else {
					require.Equal(t, "application/problem+json", a.header.Get("Content-Type"))
					require.NotEmpty(t, a.json(t)["code"])
				}
			}
		})
	}
	require.Zero(t, p.executor.count(), "nothing of it ran")

	// What looks odd but is not wrong is taken.
	for name, headers := range map[string][]string{
		"form":         {"Content-Type", "application/x-www-form-urlencoded"},
		"text":         {"Content-Type", "text/plain"},
		"multipart":    {"Content-Type", "multipart/form-data; boundary=x"},
		"odd accept":   {"Accept", "application/xml"},
		"bad id":       {"X-Request-ID", "a\tb"},
		"bad trace":    {"Traceparent", "00-zz-zz-01"},
		"identity":     {"Content-Encoding", "identity"},
		"unknown wish": {"Prefer", "handling=lenient"},
	} {
		require.Equal(t, 200, p.call(http.MethodPost, "/workflows/execute", run, headers...).status, name)
		require.Equal(t, 201, p.call(http.MethodPost, "/workflows", `{"spec":`+pure+`}`, headers...).status, name)
	}
	for _, query := range []string{"?skip=-1", "?limit=1e9", "?limit=0", "?limit=101", "?skip=x", "?status=odd", "?limit=99999999999999999999"} {
		require.Equal(t, 422, p.call(http.MethodGet, "/workflows"+query, "").status, query)
		require.Equal(t, 422, p.call(http.MethodGet, "/api/v1/workflows"+query, "").status, query)
	}
	for _, id := range []string{"exec_x", "%2e%2e", "*", "%3E", "exec_01jd2v8m6hf5qrgq2s9n0w3x4y%00", "wf_01jd2v8m6hf5qrgq2s9n0w3x4y", strings.Repeat("e", 300)} {
		for _, path := range []string{"/executions/" + id, "/executions/" + id + "/events"} {
			a := p.call(http.MethodGet, path, "")
			require.Contains(t, []int{404, 422}, a.status, "%s: %s", path, a.body)
		}
	}
	for _, id := range []string{"UPPER", "a.b", "*", ">", "a b", "", strings.Repeat("x", 64)} {
		a := p.call(http.MethodPost, "/tenants", `{"id":"`+id+`","name":"x"}`, "X-API-Key", adminKey)
		require.Equal(t, 422, a.status, "tenant %q: %s", id, a.body)
	}
}

// A number that passes the schema and fits no integer of ours is named like any other mistake.
func TestNumbersThatDoNotFit(t *testing.T) {
	p := start(t)
	for _, number := range []string{"1e3", "99999999999999999999"} {
		a := p.call(http.MethodPost, "/tenants", `{"id":"x","limits":{"max_requests_per_minute":`+number+`}}`, "X-API-Key", adminKey)
		require.Equal(t, 422, a.status, "%s", a.body)
		require.Contains(t, string(a.body), `"location":"body.limits.max_requests_per_minute"`)
		require.NotContains(t, string(a.body), "Go struct")
	}
}

func TestCORSAndSecurityHeaders(t *testing.T) {
	p := start(t, withoutKeys, func(c *gateway.Config) { c.CORSOrigins = []string{"https://app.example.com"} })
	a := p.call(http.MethodGet, "/health", "", "Origin", "https://app.example.com")
	require.Equal(t, "https://app.example.com", a.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
	require.Empty(t, p.call(http.MethodGet, "/health", "", "Origin", "https://evil.example.com").header.Get("Access-Control-Allow-Origin"))
	a = p.call(http.MethodOptions, "/workflows/execute", "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "POST")
	require.Equal(t, 204, a.status)
	require.Contains(t, a.header.Get("Access-Control-Allow-Headers"), "X-API-Key")
}
