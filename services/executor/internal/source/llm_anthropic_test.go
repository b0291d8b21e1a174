package source

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnthropic(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.json(200, claudeMessage(`"hello"`, "end_turn"))
	resp, err := b.LLM(t.Context(), caller(), llmSource(f, "anthropic", "model", "claude-3-5-haiku-latest", "base_url", f.URL+"/v1"), LLMRequest{
		System: "be brief", Prompt: "hi", Stop: []string{"END"},
	})
	require.NoError(t, err)
	require.Equal(t, LLMResponse{
		Text: "hello", Provider: "anthropic", Model: "claude-3-5-haiku-20241022", FinishReason: "stop",
		Usage: Usage{InputTokens: 13, OutputTokens: 7},
		Cost:  Cost{Amount: "0.0000384", Known: true, Basis: "table " + prices().Date},
	}, resp)
	a := f.last()
	require.Equal(t, "/v1/messages", a.path, "a base URL that ends in /v1 is as good as one that does not")
	require.Equal(t, plantedKey, a.header.Get("X-Api-Key"))
	require.NotEmpty(t, a.header.Get("Anthropic-Version"))
	require.Empty(t, a.header.Get("Authorization"))
	requireNoPlatform(t, a)
	require.Equal(t, map[string]any{
		"model": "claude-3-5-haiku-latest", "max_tokens": 4096.0, "stop_sequences": []any{"END"},
		"system":   []any{map[string]any{"type": "text", "text": "be brief"}},
		"messages": []any{map[string]any{"role": "user", "content": []any{map[string]any{"type": "text", "text": "hi"}}}},
	}, a.body, "a temperature nobody asked for is not sent")

	f.json(200, claudeMessage(`"hello"`, "max_tokens"))
	hot, k := 1.7, 5
	resp, err = b.LLM(t.Context(), caller(), llmSource(f, "claude"), LLMRequest{Prompt: "hi", Temperature: &hot, TopK: &k, MaxTokens: 100_000})
	require.NoError(t, err, "large max_tokens need no streaming here")
	require.Equal(t, finishLength, resp.FinishReason)
	require.InDelta(t, 1.0, f.last().body["temperature"], 0)
	require.InDelta(t, 5.0, f.last().body["top_k"], 0)
}

func anthropicStream(stop string, texts ...string) []string {
	events := []string{
		`event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-3-5-haiku-20241022","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":11,"output_tokens":1}}}`,
		`event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`, "event: ping\ndata: {\"type\": \"ping\"}",
	}
	for _, text := range texts {
		events = append(events, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\""+text+"\"}}")
	}
	if stop != "" {
		events = append(events, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}",
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\""+stop+"\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":7}}",
			"event: message_stop\ndata: {\"type\":\"message_stop\"}")
	}
	return events
}

func TestAnthropicStreams(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	var pieces []string
	who := caller()
	who.Progress = func(s string) { pieces = append(pieces, s) }
	f.events(anthropicStream("end_turn", "hel", "lo")...)
	resp, err := b.LLM(t.Context(), who, llmSource(f, "anthropic"), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	require.Equal(t, []string{"hel", "lo"}, pieces)
	require.Equal(t, "hello", resp.Text)
	require.Equal(t, Usage{InputTokens: 11, OutputTokens: 7}, resp.Usage)
	require.Equal(t, true, f.last().body["stream"])

	f.events(anthropicStream("", "half an ans")...)
	_, err = b.LLM(t.Context(), who, llmSource(f, "anthropic"), LLMRequest{Prompt: "hi"})
	require.Equal(t, "cut_off", classified(t, ClassNetwork, err).Code)

	f.events(append(anthropicStream("", "half"), "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}")...)
	_, err = b.LLM(t.Context(), who, llmSource(f, "anthropic"), LLMRequest{Prompt: "hi"})
	requireClass(t, Class5xx, err)
	require.ErrorContains(t, err, "Overloaded")
}

func TestAnthropicErrors(t *testing.T) {
	apiError := func(kind, message string) string {
		return toJSON(t, map[string]any{"type": "error", "error": map[string]any{"type": kind, "message": message}, "request_id": "req_1"})
	}
	for name, test := range map[string]struct {
		status int
		body   string
		class  Class
		text   string
	}{
		"bad key":    {401, apiError("authentication_error", "invalid x-api-key "+plantedKey), ClassAuth, "TENANT_ACME_KEY"},
		"permission": {403, apiError("permission_error", "no"), ClassAuth, "permissions"},
		"model":      {404, apiError("not_found_error", "model: gpt-4o-mini"), ClassInvalid, "does not know"},
		"context":    {400, apiError("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), ClassContext, "shorten"},
		"credit":     {400, apiError("invalid_request_error", "Your credit balance is too low to access the API"), Class429, "credit"},
		"slow":       {429, apiError("rate_limit_error", "slow down"), Class429, "per minute"},
		"overloaded": {529, apiError("overloaded_error", "Overloaded"), Class5xx, "overloaded"},
		"proxy":      {502, "<html>bad</html>", Class5xx, "failed"},
		"garbage":    {200, "<html>", Class5xx, "protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			b, f := llmBench(t), newFake(t)
			for _, stream := range []bool{false, true} {
				who := caller()
				if stream {
					who.Progress = func(string) {}
					if test.status == 200 {
						continue
					}
				}
				f.json(test.status, test.body, "Retry-After", "3")
				_, err := b.LLM(t.Context(), who, llmSource(f, "anthropic"), LLMRequest{Prompt: "hi"})
				e := classified(t, test.class, err)
				require.ErrorContains(t, err, test.text)
				require.NotContains(t, err.Error(), plantedKey)
				if test.status >= 400 {
					require.Equal(t, 3*time.Second, e.RetryAfter)
				}
			}
			require.NotContains(t, b.logs.String(), plantedKey)
		})
	}
}

func TestAnthropicNeverAnswersNothing(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	for name, test := range map[string]struct {
		body  string
		class Class
	}{
		"refusal": {claudeMessage(`""`, "refusal"), ClassSafety},
		"window":  {claudeMessage(`"some"`, "model_context_window_exceeded"), ClassContext},
		"empty":   {claudeMessage(`""`, "end_turn"), ClassEmpty},
		"nothing": {strings.Replace(claudeMessage(`""`, "end_turn"), `{"type":"text","text":""}`, "", 1), ClassEmpty},
		"tool":    {claudeMessage(`""`, "tool_use"), ClassEmpty},
	} {
		f.json(200, test.body)
		_, err := b.LLM(t.Context(), caller(), llmSource(f, "anthropic"), LLMRequest{Prompt: "hi"})
		require.Error(t, err, name)
		requireClass(t, test.class, err)
	}
}

func TestAnthropicJSONMode(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.json(200, claudeMessage(`"Here you go: {}"`, "end_turn"))
	f.json(200, claudeMessage(`"{\"a\": [1]}"`, "end_turn"))
	resp, err := b.LLM(t.Context(), caller(), llmSource(f, "anthropic"), LLMRequest{Prompt: "hi", Format: Format{JSON: true, Schema: map[string]any{"type": "object"}}})
	require.NoError(t, err)
	require.True(t, resp.Repaired)
	require.Equal(t, map[string]any{"a": []any{json.Number("1")}}, resp.JSON)
	require.Len(t, f.last().body["messages"], 3)
	require.Contains(t, at(t, f.last().body, "system", 0, "text"), "JSON Schema")
}
