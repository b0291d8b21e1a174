package source

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestSpansNameAndCountAndSayNoMore(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(recorder))

	b, f := llmBench(t, func(c *Config) { c.Tracer = provider }), newFake(t)
	f.json(200, chatCompletion(`"planted answer"`, "stop"))
	_, err := b.LLM(t.Context(), caller(), llmSource(f, "openai"), LLMRequest{Prompt: "planted prompt", System: "planted system"})
	require.NoError(t, err)
	f.json(200, claudeMessage(`"planted answer"`, "end_turn"))
	_, err = b.LLM(t.Context(), caller(), llmSource(f, "anthropic"), LLMRequest{Prompt: "planted prompt"})
	require.NoError(t, err)
	parents := make(chan string, 1)
	base := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		parents <- r.Header.Get("Traceparent")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	_, err = b.Call(t.Context(), caller(), apiSource(base), HTTPRequest{Endpoint: "/status/{x}", Query: map[string]any{"q": "planted"}, Values: values("x", "503")})
	require.Error(t, err)

	got := map[string]map[string]string{}
	for _, span := range recorder.Ended() {
		attributes := map[string]string{}
		for _, kv := range span.Attributes() {
			attributes[string(kv.Key)] = kv.Value.String()
		}
		got[span.Name()+" "+attributes["gen_ai.provider.name"]] = attributes
		require.NotContains(t, fmt.Sprint(attributes, span.Events(), span.Status()), "planted")
	}
	require.Len(t, got, 3, "one span per call: the SDKs make none of their own")
	chat := got["chat gpt-4o-mini openai"]
	require.Equal(t, "11", chat["gen_ai.usage.input_tokens"])
	require.Equal(t, "7", chat["gen_ai.usage.output_tokens"])
	require.Equal(t, "gpt-4o-mini-2024-07-18", chat["gen_ai.response.model"])
	require.Equal(t, "[\"stop\"]", chat["gen_ai.response.finish_reasons"])
	require.Equal(t, "4096", chat["gen_ai.request.max_tokens"])
	api := got["GET "]
	require.Regexp(t, "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$", <-parents, "the trace goes on at the peer")
	require.Equal(t, "503", api["http.response.status_code"])
	require.Equal(t, "127.0.0.1", api["server.address"])
	require.Equal(t, "5xx", api["error.type"])
}
