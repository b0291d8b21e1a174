package source

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/secret"
)

const plantedKey = "planted-key-1234"

func llmSource(f *fake, provider string, more ...any) workflow.Source {
	return makeSource("llm", append([]any{
		"provider", provider, "model", "gpt-4o-mini", "base_url", f.URL, "api_key_env", "TENANT_ACME_KEY",
	}, more...)...)
}

func llmBench(t *testing.T, adjust ...func(*Config)) *bench {
	t.Helper()
	// The SDKs read these by themselves unless they are kept from it.
	for name, value := range map[string]string{
		"OPENAI_API_KEY": "platform-openai", "OPENAI_BASE_URL": "http://127.0.0.1:1", "OPENAI_ORG_ID": "platform-org",
		"OPENAI_PROJECT_ID": "platform-project", "OPENAI_CUSTOM_HEADERS": "X-Platform: leaked",
		"ANTHROPIC_API_KEY": "platform-anthropic", "ANTHROPIC_AUTH_TOKEN": "platform-token", "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
		"ANTHROPIC_CUSTOM_HEADERS": "X-Platform: leaked",
		"GEMINI_API_KEY":           "platform-gemini", "GOOGLE_API_KEY": "platform-google", "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
		"GOOGLE_GENAI_USE_VERTEXAI": "true", "GOOGLE_CLOUD_PROJECT": "platform-project",
		"HTTP_PROXY": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	return newBench(t, map[string]string{"TENANT_ACME_KEY": plantedKey}, adjust...)
}

// requireNoPlatform checks that nothing of the process environment was sent.
func requireNoPlatform(t *testing.T, a asked) {
	t.Helper()
	sent := toJSON(t, a.header) + toJSON(t, a.body) + a.query
	require.NotContains(t, sent, "platform")
	require.NotContains(t, sent, "leaked")
	require.Equal(t, "exec_1/step/0", a.header.Get("Idempotency-Key"))
}

func TestOpenAI(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.json(200, chatCompletion(`"hello there"`, "stop"))
	temperature := 0.0
	resp, err := b.LLM(t.Context(), caller(), llmSource(f, "openai", "top_p", json.Number("0.9")), LLMRequest{
		System: "be brief", Prompt: "hi {x}", Temperature: &temperature, MaxTokens: 50, Stop: []string{"END"},
	})
	require.NoError(t, err)
	require.Equal(t, LLMResponse{
		Text: "hello there", Provider: "openai", Model: "gpt-4o-mini-2024-07-18", FinishReason: "stop",
		Usage: Usage{InputTokens: 11, OutputTokens: 7},
		Cost:  Cost{Amount: "0.00000585", Known: true, Basis: "table " + prices().Date}, // 11×0.15 + 7×0.6 per million
	}, resp)
	require.EqualValues(t, 18, resp.Usage.Total())
	a := f.last()
	require.Equal(t, "/chat/completions", a.path)
	require.Equal(t, "Bearer "+plantedKey, a.header.Get("Authorization"))
	requireNoPlatform(t, a)
	require.Equal(t, map[string]any{
		"model": "gpt-4o-mini", "temperature": 0.0, "top_p": 0.9, "max_completion_tokens": 50.0, "stop": []any{"END"},
		"messages": []any{map[string]any{"role": "system", "content": "be brief"}, map[string]any{"role": "user", "content": "hi {x}"}},
	}, a.body)
}

func TestOpenAIStreams(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.events(oneLine(chatChunk(`{"role":"assistant","content":""}`, "null")), oneLine(chatChunk(`{"content":"hel"}`, "null")),
		oneLine(chatChunk(`{"content":"lo"}`, "null")), oneLine(chatChunk(`{}`, "length")), chatUsageChunk, "[DONE]")
	var pieces []string
	who := caller()
	who.Progress = func(s string) { pieces = append(pieces, s) }
	resp, err := b.LLM(t.Context(), who, llmSource(f, "openai"), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	require.Equal(t, []string{"hel", "lo"}, pieces)
	require.Equal(t, "hello", resp.Text)
	require.Equal(t, finishLength, resp.FinishReason)
	require.Equal(t, Usage{InputTokens: 11, OutputTokens: 7}, resp.Usage)
	require.Equal(t, true, f.last().body["stream"])
	require.Equal(t, map[string]any{"include_usage": true}, f.last().body["stream_options"])
}

func TestAStreamThatEndsEarlyIsNoAnswer(t *testing.T) {
	b := llmBench(t)
	who := caller()
	who.Progress = func(string) {}
	f := newFake(t)
	f.events(oneLine(chatChunk(`{"content":"half an ans"}`, "null")))
	_, err := b.LLM(t.Context(), who, llmSource(f, "openai"), LLMRequest{Prompt: "hi"})
	e := classified(t, ClassNetwork, err)
	require.Equal(t, "cut_off", e.Code)

	f.events(oneLine(chatChunk(`{"content":"half"}`, "null")), `{"error":{"message":"Rate limit reached","type":"rate_limit_error","code":"rate_limit_exceeded"}}`)
	_, err = b.LLM(t.Context(), who, llmSource(f, "openai"), LLMRequest{Prompt: "hi"})
	requireClass(t, Class429, err)

	f.queue(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: " + oneLine(chatChunk(`{"content":"half"}`, "null")) + "\n\n"))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	_, err = b.LLM(t.Context(), who, llmSource(f, "openai"), LLMRequest{Prompt: "hi"})
	requireClass(t, ClassNetwork, err)
}

func TestOpenAIErrors(t *testing.T) {
	apiError := func(message, kind, code string) string {
		return toJSON(t, map[string]any{"error": map[string]any{"message": message, "type": kind, "code": code, "param": nil}})
	}
	for name, test := range map[string]struct {
		status int
		body   string
		class  Class
		text   string
	}{
		"bad key": {401, apiError("Incorrect API key provided: "+plantedKey, "invalid_request_error", "invalid_api_key"), ClassAuth, "TENANT_ACME_KEY"},
		"region":  {403, apiError("Country not supported", "request_forbidden", "unsupported_country"), ClassAuth, "permissions"},
		"model":   {404, apiError("The model does not exist", "invalid_request_error", "model_not_found"), ClassInvalid, "gpt-4o-mini"},
		"context": {400, apiError("This model's maximum context length is 128000 tokens.", "invalid_request_error", "context_length_exceeded"), ClassContext, "shorten"},
		"safety":  {400, apiError("Your request was rejected by the safety system", "invalid_request_error", "content_policy_violation"), ClassSafety, "rephrase"},
		"other":   {400, apiError("Unsupported value: temperature", "invalid_request_error", "unsupported_value"), ClassInvalid, "Unsupported value"},
		"slow":    {429, apiError("Rate limit reached", "tokens", "rate_limit_exceeded"), Class429, "per minute"},
		"quota":   {429, apiError("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), Class429, "credit"},
		"server":  {500, apiError("The server had an error", "server_error", ""), Class5xx, "failed"},
		"proxy":   {502, "<html>bad gateway</html>", Class5xx, "failed"},
		"empty":   {503, "", Class5xx, "failed"},
		"slowly":  {504, "", ClassTimeout, "in time"},
		"garbage": {200, "<html>welcome</html>", Class5xx, "protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			b, f := llmBench(t), newFake(t)
			for _, stream := range []bool{false, true} {
				who := caller()
				if stream {
					who.Progress = func(string) {}
					if test.status == 200 {
						continue // what a stream makes of HTML is a stream that ends early
					}
				}
				f.json(test.status, test.body, "Retry-After", "3")
				_, err := b.LLM(t.Context(), who, llmSource(f, "openai"), LLMRequest{Prompt: "hi"})
				e := classified(t, test.class, err)
				require.ErrorContains(t, err, test.text)
				require.NotContains(t, err.Error(), plantedKey)
				require.Equal(t, test.status, e.Status)
				if test.status >= 400 {
					require.Equal(t, 3*time.Second, e.RetryAfter)
				}
				require.Equal(t, name != "quota" && (test.class == Class429 || test.class == Class5xx || test.class == ClassTimeout), e.Retryable())
			}
			require.Equal(t, map[bool]int{true: 1, false: 2}[test.status == 200], f.count(), "one attempt per call")
			require.NotContains(t, b.logs.String(), plantedKey)
		})
	}
}

func TestNoSilentEmptyAnswer(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	for name, test := range map[string]struct {
		body  string
		class Class
		text  string
	}{
		"empty":         {chatCompletion(`""`, "stop"), ClassEmpty, "nothing"},
		"null":          {chatCompletion(`null`, "stop"), ClassEmpty, "nothing"},
		"blank":         {chatCompletion(`"  \n"`, "stop"), ClassEmpty, "nothing"},
		"no choices":    {`{"id":"x","object":"chat.completion","model":"m","choices":[]}`, ClassEmpty, "nothing"},
		"cut to zero":   {chatCompletion(`""`, "length"), ClassEmpty, "max_tokens"},
		"filtered":      {chatCompletion(`""`, "content_filter"), ClassSafety, "filter"},
		"cut by filter": {chatCompletion(`"some of"`, "content_filter"), ClassSafety, "filter"},
		"tool":          {chatCompletion(`null`, "tool_calls"), ClassEmpty, "tool"},
		"refusal": {
			strings.Replace(chatCompletion(`null`, "stop"), `"refusal":null`, `"refusal":"I cannot help"`, 1),
			ClassSafety, "I cannot help",
		},
	} {
		f.json(200, test.body)
		resp, err := b.LLM(t.Context(), caller(), llmSource(f, "openai"), LLMRequest{Prompt: "hi"})
		require.Error(t, err, name)
		requireClass(t, test.class, err)
		require.ErrorContains(t, err, test.text, name)
		require.Empty(t, resp.Text, name)
		if name == "cut by filter" {
			require.EqualValues(t, 18, resp.Usage.Total(), "an answer that is withheld was paid for")
			require.True(t, resp.Cost.Known)
		}
	}
	_, err := b.LLM(t.Context(), caller(), llmSource(f, "openai"), LLMRequest{Prompt: " \n"})
	requireClass(t, ClassInvalid, err)
}

func TestUsageIsEstimatedWhereNoneIsReported(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.json(200, `{"id":"x","object":"chat.completion","model":"mystery","choices":[{"index":0,"message":{"role":"assistant","content":"12345"},"finish_reason":"stop"}]}`)
	resp, err := b.LLM(t.Context(), caller(), llmSource(f, "openai-compatible", "model", "mystery"), LLMRequest{System: "1234", Prompt: "éééé5"})
	require.NoError(t, err)
	require.Equal(t, Usage{InputTokens: 3, OutputTokens: 2, Estimated: true}, resp.Usage)
	require.Equal(t, Cost{Amount: "0"}, resp.Cost, "an unknown price is not a price of zero: Known says so")
}

func TestCost(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.json(200, chatCompletion(`"x"`, "stop"))
	resp, err := b.LLM(t.Context(), caller(), llmSource(f, "openai",
		"price_per_1k_input", json.Number("0.1"), "price_per_1k_output", json.Number("0.2")), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	require.Equal(t, Cost{Amount: "0.0025", Known: true, Basis: "source"}, resp.Cost)
	require.Equal(t, json.Number("0.0000000000003"), amount(dec("0.1"), dec("0.2"), -12, Usage{InputTokens: 1, OutputTokens: 1}), "exact, where 0.1 + 0.2 in binary is not")

	table := prices()
	for model, want := range map[string]bool{
		"gpt-4o": true, "gpt-4o-2024-08-06": true, "gpt-4o-mini-2024-07-18": true, "models/gemini-2.5-flash": true,
		"gemini-2.5-flash-preview-05-20": true, "claude-3-5-haiku-latest": true, "GPT-4o": true, "gpt-5-pro": false, "gpt-4o-audio-preview": false,
		"gpt-4omega": false, "mystery": false, "": false,
	} {
		_, ok := table.find(model)
		require.Equal(t, want, ok, model)
	}
	mini, _ := table.find("gpt-4o-mini-2024-07-18")
	require.Equal(t, "0.15", mini.Input.String(), "the longest name wins")
	_, err = time.Parse(time.DateOnly, table.Date)
	require.NoError(t, err)
}

func TestJSONMode(t *testing.T) {
	schema := map[string]any{
		"type": "object", "required": []any{"n"}, "additionalProperties": false,
		"properties": map[string]any{"n": map[string]any{"type": "integer", "minimum": json.Number("1")}},
	}
	b, f := llmBench(t), newFake(t)
	ask := func(format Format) (LLMResponse, error) {
		return b.LLM(t.Context(), caller(), llmSource(f, "openai"), LLMRequest{Prompt: "hi", Format: format})
	}

	f.json(200, chatCompletion(`"{\"n\": 12345678901234567890}"`, "stop"))
	resp, err := ask(Format{JSON: true, Schema: schema, Name: "thing"})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"n": json.Number("12345678901234567890")}, resp.JSON)
	require.False(t, resp.Repaired)
	format := f.last().body["response_format"].(map[string]any)
	require.Equal(t, "json_schema", format["type"])
	require.Equal(t, "thing", at(t, format, "json_schema", "name"))
	require.Contains(t, at(t, f.last().body, "messages", 0, "content"), "JSON Schema")

	// A first answer that fails is shown to the model with what is wrong about it.
	f.json(200, chatCompletion(`"{\"n\": 0}"`, "stop"))
	f.json(200, chatCompletion(`"`+"```json\\n{\\\"n\\\": 3}\\n```"+`"`, "stop"))
	resp, err = ask(Format{JSON: true, Schema: schema})
	require.NoError(t, err)
	require.True(t, resp.Repaired)
	require.Equal(t, `{"n": 3}`, resp.Text)
	require.Equal(t, Usage{InputTokens: 22, OutputTokens: 14}, resp.Usage, "both calls were paid for")
	require.Equal(t, `{"n": 0}`, at(t, f.last().body, "messages", 2, "content"))
	require.Contains(t, at(t, f.last().body, "messages", 3, "content"), "minimum")
	require.Equal(t, "exec_1/step/0/repair", f.last().header.Get("Idempotency-Key"), "the second question is not a repeat of the first")

	f.json(200, chatCompletion(`"sure!"`, "stop"))
	f.json(200, chatCompletion(`"sorry, {"`, "length"))
	resp, err = ask(Format{JSON: true})
	requireClass(t, ClassFormat, err)
	require.ErrorContains(t, err, "max_tokens")
	require.EqualValues(t, 36, resp.Usage.Total(), "a failure reports what it cost")
	require.Equal(t, map[string]any{"type": "json_object"}, f.last().body["response_format"])

	asked := f.count()
	for _, bad := range []any{
		map[string]any{"type": "no-such-type"}, map[string]any{"$ref": "file:///etc/passwd"}, map[string]any{"$ref": "http://127.0.0.1/x"},
	} {
		_, err = ask(Format{JSON: true, Schema: bad})
		requireClass(t, ClassInvalid, err)
	}
	require.Equal(t, asked, f.count(), "a bad schema costs no call")
}

func TestReasoningModelsAreNotSentATemperatureNobodyAskedFor(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	for model, sent := range map[string]bool{"o3-mini": false, "gpt-5-mini": false, "openai/gpt-5": false, "gpt-4o": true, "omni": true} {
		f.json(200, chatCompletion(`"x"`, "stop"))
		_, err := b.LLM(t.Context(), caller(), llmSource(f, "openai", "model", model), LLMRequest{Prompt: "hi"})
		require.NoError(t, err)
		_, has := f.last().body["temperature"]
		require.Equal(t, sent, has, model)
	}
	f.json(200, chatCompletion(`"x"`, "stop"))
	_, err := b.LLM(t.Context(), caller(), llmSource(f, "openai", "model", "o3", "temperature", json.Number("1")), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	require.InDelta(t, 1.0, f.last().body["temperature"], 0)
	require.InDelta(t, 4096.0, f.last().body["max_completion_tokens"], 0)
}

func TestTheOpenAIFamily(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	for provider, test := range map[string]struct {
		config []any
		path   string
		query  string
		header string
		limit  string
	}{
		"groq":              {nil, "/chat/completions", "", "Authorization", "max_completion_tokens"},
		"ollama":            {nil, "/chat/completions", "", "Authorization", "max_tokens"},
		"openai-compatible": {[]any{"base_url", f.URL + "/v9"}, "/v9/chat/completions", "", "Authorization", "max_tokens"},
		"compatible":        {nil, "/chat/completions", "", "Authorization", "max_tokens"},
		"azure":             {nil, "/openai/v1/chat/completions", "", "Api-Key", "max_completion_tokens"},
		"azure-openai": {
			[]any{"api_version", "2024-10-21"},
			"/openai/deployments/gpt-4o-mini/chat/completions",
			"api-version=2024-10-21", "Api-Key", "max_completion_tokens",
		},
	} {
		f.json(200, chatCompletion(`"x"`, "stop"))
		resp, err := b.LLM(t.Context(), caller(), llmSource(f, provider, test.config...), LLMRequest{Prompt: "hi"})
		require.NoError(t, err, provider)
		require.Equal(t, "x", resp.Text)
		a := f.last()
		require.Equal(t, test.path, a.path, provider)
		require.Equal(t, test.query, a.query, provider)
		require.Contains(t, a.header.Get(test.header), plantedKey, provider)
		require.InDelta(t, 4096.0, a.body[test.limit], 0, provider)
		requireNoPlatform(t, a)
		if test.header == "Api-Key" {
			require.Empty(t, a.header.Get("Authorization"))
		}
	}
	// Ollama and compatible servers work without a key, and are then sent none.
	for _, provider := range []string{"ollama", "openai-compatible"} {
		f.json(200, chatCompletion(`"x"`, "stop"))
		src := llmSource(f, provider)
		delete(src.Config, "api_key_env")
		_, err := b.LLM(t.Context(), caller(), src, LLMRequest{Prompt: "hi"})
		require.NoError(t, err, provider)
		require.Empty(t, f.last().header.Get("Authorization"))
		requireNoPlatform(t, f.last())
	}
	// A key that policy keeps back is not needed either, where none is.
	strict := newBench(t, map[string]string{"OLLAMA_API_KEY": plantedKey}, func(c *Config) { c.SecretsAllow = "NOTHING" })
	f.json(200, chatCompletion(`"x"`, "stop"))
	_, err := strict.LLM(t.Context(), caller(), makeSource("llm", "provider", "ollama", "model", "m", "base_url", f.URL), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	_, err = strict.LLM(t.Context(), caller(), makeSource("llm", "provider", "openai", "model", "m", "base_url", f.URL), LLMRequest{Prompt: "hi"})
	requireClass(t, ClassSecret, err)
	require.ErrorContains(t, err, "SECRETS_ALLOW")
}

func TestASecondNameOfAKey(t *testing.T) {
	f := newFake(t)
	b := newBench(t, map[string]string{"GOOGLE_API_KEY": plantedKey}, func(c *Config) { c.SecretsAllow = "GOOGLE_API_KEY" })
	f.json(200, geminiContent(`"x"`, "STOP"))
	_, err := b.LLM(t.Context(), caller(), makeSource("llm", "model", "m", "base_url", f.URL), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	require.Equal(t, plantedKey, f.last().header.Get("X-Goog-Api-Key"))
}

func TestTheDefaultKeyOfAProvider(t *testing.T) {
	f := newFake(t)
	for provider, name := range map[string]string{"openai": "OPENAI_API_KEY", "groq": "GROQ_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"} {
		src := makeSource("llm", "provider", provider, "model", "m")
		bare := newBench(t, nil)
		_, err := bare.LLM(t.Context(), caller(), src, LLMRequest{Prompt: "hi"})
		requireClass(t, ClassSecret, err)
		require.ErrorContains(t, err, name)

		// A tenant's own base_url does not get the platform's key, unless the operator trusts the host.
		keyed := newBench(t, map[string]string{name: plantedKey}, func(c *Config) { c.EgressAllow = "" })
		stolen := makeSource("llm", "provider", provider, "model", "m", "base_url", "https://evil.example")
		_, err = keyed.LLM(t.Context(), caller(), stolen, LLMRequest{Prompt: "hi"})
		requireClass(t, ClassSecret, err)
		require.ErrorContains(t, err, "evil.example")
		require.NotContains(t, err.Error(), plantedKey)
	}
	// Nor does one provider get another's.
	crossed := newBench(t, map[string]string{"OPENAI_API_KEY": plantedKey}, func(c *Config) { c.GroqBaseURL = "https://groq.example" })
	for _, src := range []workflow.Source{
		makeSource("llm", "provider", "groq", "model", "m", "api_key_env", "OPENAI_API_KEY"),
		makeSource("llm", "provider", "anthropic", "model", "m", "api_key_env", "OPENAI_API_KEY"),
	} {
		_, err := crossed.LLM(t.Context(), caller(), src, LLMRequest{Prompt: "hi"})
		requireClass(t, ClassSecret, err)
	}
	// The operator's base URL is the provider's address for everyone.
	b := newBench(t, map[string]string{"OPENAI_API_KEY": plantedKey}, func(c *Config) { c.OpenAIBaseURL = f.URL })
	f.json(200, chatCompletion(`"x"`, "stop"))
	_, err := b.LLM(t.Context(), caller(), makeSource("llm", "provider", "openai", "model", "m"), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	require.Equal(t, "Bearer "+plantedKey, f.last().header.Get("Authorization"))
}

func TestAModelThatRepeatsTheKeyIsMasked(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.json(200, chatCompletion(`"your key is `+plantedKey+`"`, "stop"))
	resp, err := b.LLM(t.Context(), caller(), llmSource(f, "openai"), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	require.Equal(t, "your key is "+secret.Mask, resp.Text)
}

func TestClientsAreMadeOnce(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	for range 3 {
		f.json(200, chatCompletion(`"x"`, "stop"))
		_, err := b.LLM(t.Context(), caller(), llmSource(f, "openai"), LLMRequest{Prompt: "hi"})
		require.NoError(t, err)
	}
	require.Equal(t, 1, b.clients.byID.Len())
	b.env["TENANT_ACME_KEY"] = "planted-another"
	f.json(200, chatCompletion(`"x"`, "stop"))
	_, err := b.LLM(t.Context(), caller(), llmSource(f, "openai"), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	require.Equal(t, "Bearer planted-another", f.last().header.Get("Authorization"), "a rotated key is used at once")
}

func TestLLMSettingsAndTimeouts(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	_, err := b.LLM(t.Context(), caller(), makeSource("llm", "provider", "nobody", "model", "m"), LLMRequest{Prompt: "hi"})
	requireClass(t, ClassInvalid, err)
	require.ErrorContains(t, err, "anthropic, azure, echo, gemini")
	_, err = b.LLM(t.Context(), caller(), makeSource("llm", "provider", "openai"), LLMRequest{Prompt: "hi"})
	requireClass(t, ClassInvalid, err)
	f.queue(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, err = b.LLM(t.Context(), caller(), llmSource(f, "openai", "timeout", json.Number("0.02")), LLMRequest{Prompt: "hi"})
	requireClass(t, ClassTimeout, err)
	require.EqualValues(t, 4096+2, EstimateTokens(llmSource(f, "openai"), LLMRequest{Prompt: "12345"}))
	require.EqualValues(t, 10+1, EstimateTokens(llmSource(f, "openai"), LLMRequest{Prompt: "1", MaxTokens: 10}))
}

func TestEcho(t *testing.T) {
	b := newBench(t, nil, func(c *Config) { c.EgressAllow = "" })
	var pieces []string
	who := caller()
	who.Progress = func(s string) { pieces = append(pieces, s) }
	resp, err := b.LLM(t.Context(), who, makeSource("llm", "provider", "echo"), LLMRequest{System: "1234", Prompt: "say it again"})
	require.NoError(t, err)
	require.Equal(t, "say it again", resp.Text)
	require.Equal(t, []string{"say ", "it ", "again"}, pieces)
	require.Equal(t, Usage{InputTokens: 4, OutputTokens: 3}, resp.Usage)
	resp, err = b.LLM(t.Context(), caller(), makeSource("llm", "provider", "echo"), LLMRequest{Prompt: `{"a":1}`, Format: Format{JSON: true}})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"a": json.Number("1")}, resp.JSON)
}
