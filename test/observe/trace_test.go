package observe_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/platform"
)

// patience is for a machine that is busy with other things; nothing waits that long when all is well.
const patience = time.Minute

type object = map[string]any

// otlp is a collector that takes traces over OTLP/HTTP, as real ones do.
type otlp struct {
	*httptest.Server
	mu    sync.Mutex
	spans []span
}

// span is one span with the service that made it.
type span struct {
	*spans.Span
	service string
}

func collect(t *testing.T) *otlp {
	t.Helper()
	c := &otlp{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
			http.Error(w, "no traces", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range request.GetResourceSpans() {
			service := attribute(resource.GetResource().GetAttributes(), "service.name").GetStringValue()
			for _, scope := range resource.GetScopeSpans() {
				for _, s := range scope.GetSpans() {
					c.spans = append(c.spans, span{s, service})
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// of lists the spans of a trace that have arrived.
func (c *otlp) of(trace string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []span
	for _, s := range c.spans {
		if hex.EncodeToString(s.GetTraceId()) == trace {
			found = append(found, s)
		}
	}
	return found
}

func attribute(list []*common.KeyValue, name string) *common.AnyValue {
	for _, a := range list {
		if a.GetKey() == name {
			return a.GetValue()
		}
	}
	return nil
}

// named is the span of a service with a name; nil when there is none.
func named(list []span, service, name string) *span {
	for i := range list {
		if list[i].service == service && list[i].GetName() == name {
			return &list[i]
		}
	}
	return nil
}

// edge is a span that a trace has, and where the span stands above it.
type edge struct{ service, name, parentService, parentName string }

// caller is the span of whoever calls: every trace here hangs below it.
const caller = "00f067aa0ba902b7"

// await waits until a trace has all the edges, and returns its spans. Each of them hangs below another: nothing is an
// orphan.
func (c *otlp) await(t *testing.T, trace string, edges []edge) []span {
	t.Helper()
	var got []span
	whole := func() bool {
		got = c.of(trace)
		ids := map[string]bool{caller: true}
		for _, s := range got {
			ids[hex.EncodeToString(s.GetSpanId())] = true
		}
		for _, e := range edges {
			if named(got, e.service, e.name) == nil {
				return false
			}
		}
		for _, s := range got {
			if !ids[hex.EncodeToString(s.GetParentSpanId())] {
				return false
			}
		}
		return true
	}
	require.Eventually(t, whole, patience, 20*time.Millisecond, "%v", &got)
	for _, e := range edges {
		above := caller
		if e.parentName != "" {
			above = hex.EncodeToString(named(got, e.parentService, e.parentName).GetSpanId())
		}
		if e.parentName != "" || e.service == "gateway" {
			require.Equal(t, above, hex.EncodeToString(named(got, e.service, e.name).GetParentSpanId()), e.name)
		}
	}
	return got
}

// A write leads from the caller through the gateway and the queue of commands to the catalog, and from there to its
// projector.
func testTraceOfACommand(t *testing.T, p *platform.Platform, to *otlp) {
	t.Helper()
	const trace, again = "4bf92f3577b34da6a3ce929d0e0e4738", "4bf92f3577b34da6a3ce929d0e0e4739"
	source := object{"id": "traced", "kind": "api", "config": object{"base_url": "https://planted-in-this-test.example.com"}}
	answer := p.Call(t, http.MethodPost, "/sources", source, "traceparent", "00-"+trace+"-"+caller+"-01")
	require.Equal(t, http.StatusCreated, answer.Status, "%s", answer.Body)
	got := to.await(t, trace, []edge{
		{"gateway", "POST /sources", "", ""},
		{"catalog", "command source_create", "gateway", "POST /sources"},
		{"catalog", "project", "catalog", "command source_create"},
	})
	command := named(got, "catalog", "command source_create")
	require.Equal(t, p.Ready().Tenant, attribute(command.GetAttributes(), "agentflow.tenant").GetStringValue())
	answer = p.Call(t, http.MethodPost, "/sources", source, "traceparent", "00-"+again+"-"+caller+"-01")
	require.Equal(t, http.StatusConflict, answer.Status, "%s", answer.Body)
	refused := to.await(t, again, []edge{{"gateway", "POST /sources", "", ""}, {"catalog", "command source_create", "gateway", "POST /sources"}})
	require.Equal(t, "CONFLICT", attribute(named(refused, "catalog", "command source_create").GetAttributes(), "error.type").GetStringValue())
	for _, s := range append(got, refused...) {
		require.NotContains(t, s.String(), "planted")
	}
}

// One trace leads from the caller's own span through the gateway, NATS, the executor, its node and the model, the limiter
// and the catalog's projector; what the caller does not sample leaves no span anywhere.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	to := collect(t)
	models := fakeprovider.New(t, func(fakeprovider.Request) fakeprovider.Reply { return fakeprovider.Reply{Text: "an answer"} })
	p := platform.Start(t, platform.Options{Env: []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + to.URL, "OTEL_TRACES_SAMPLER_ARG=0", "OTEL_BSP_SCHEDULE_DELAY=100", "AGENTFLOW_SECRET_MODEL=sk-planted-in-this-test",
	}})
	workflow := object{
		"start_node": "ask",
		"nodes": []object{
			{"id": "ask", "type": "input"},
			{"id": "think", "type": "llm", "metadata": object{"source_id": "model", "prompt_template": "a secret question: {user_input}", "max_tokens": 77}},
		},
		"edges":  []object{{"from": "ask", "to": "think"}},
		"queues": []object{{"id": "line", "from": "ask", "to": "think", "bandwidth": object{"max_requests_per_minute": 100}}},
		"sources": []object{{"id": "model", "kind": "llm", "config": object{
			"provider": "openai", "model": "gpt-4o-mini", "base_url": models.OpenAI(), "api_key_env": "AGENTFLOW_SECRET_MODEL",
		}}},
	}
	order := object{"workflow": workflow, "initial_state": object{"user_input": "who?"}}
	run := func(trace, flags string) {
		answer := p.Call(t, http.MethodPost, "/workflows/execute", order, "traceparent", "00-"+trace+"-"+caller+"-"+flags)
		require.Equal(t, http.StatusOK, answer.Status, "%s", answer.Body)
	}
	const unseen, seen = "4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4737"
	run(unseen, "00")
	run(seen, "01")
	testTraceOfACommand(t, p, to)

	got := to.await(t, seen, []edge{
		{"gateway", "POST /workflows/execute", "", ""},
		{"executor", "execute", "gateway", "POST /workflows/execute"},
		{"executor", "node llm", "executor", "execute"},
		{"executor", "chat gpt-4o-mini", "executor", "node llm"},
		{"limiter", "call limiter.acquire", "", ""},
		{"catalog", "project", "", ""},
	})
	// The projector has both: what the gateway wrote, and what the executor wrote.
	require.Eventually(t, func() bool {
		parents := map[string]bool{}
		for _, s := range to.of(seen) {
			if s.GetName() == "project" {
				parents[hex.EncodeToString(s.GetParentSpanId())] = true
			}
		}
		return parents[hex.EncodeToString(named(got, "gateway", "POST /workflows/execute").GetSpanId())] &&
			parents[hex.EncodeToString(named(got, "executor", "execute").GetSpanId())]
	}, patience, 20*time.Millisecond)

	chat := named(got, "executor", "chat gpt-4o-mini").GetAttributes()
	require.Equal(t, "chat", attribute(chat, "gen_ai.operation.name").GetStringValue())
	require.Equal(t, "openai", attribute(chat, "gen_ai.provider.name").GetStringValue())
	require.Equal(t, "gpt-4o-mini", attribute(chat, "gen_ai.request.model").GetStringValue())
	require.EqualValues(t, 77, attribute(chat, "gen_ai.request.max_tokens").GetIntValue())
	require.Positive(t, attribute(chat, "gen_ai.usage.input_tokens").GetIntValue())
	require.Positive(t, attribute(chat, "gen_ai.usage.output_tokens").GetIntValue())
	require.NotEmpty(t, attribute(chat, "gen_ai.response.finish_reasons").GetArrayValue().GetValues())
	require.Empty(t, to.of(unseen))

	var all strings.Builder
	for _, s := range got {
		all.WriteString(s.String())
	}
	for _, never := range []string{"secret question", "who?", "an answer", "sk-planted"} {
		require.NotContains(t, all.String(), never)
	}
}
