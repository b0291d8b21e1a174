package source

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGemini(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.json(200, geminiContent(`"hello"`, "STOP"))
	k := 40
	resp, err := b.LLM(t.Context(), caller(), llmSource(f, "", "model", "gemini-2.5-flash"), LLMRequest{
		System: "be brief", Prompt: "hi", Stop: []string{"END"}, TopK: &k,
	})
	require.NoError(t, err)
	require.Equal(t, LLMResponse{
		Text: "hello", Provider: "gemini", Model: "gemini-2.5-flash", FinishReason: "stop",
		Usage: Usage{InputTokens: 11, OutputTokens: 7}, // what the model thought is billed as output
		Cost:  Cost{Amount: "0.0000208", Known: true, Basis: "table " + prices().Date},
	}, resp)
	a := f.last()
	require.Equal(t, "/v1beta/models/gemini-2.5-flash:generateContent", a.path)
	require.Equal(t, plantedKey, a.header.Get("X-Goog-Api-Key"))
	require.Empty(t, a.query, "the key does not stand in the URL")
	requireNoPlatform(t, a)
	require.Equal(t, "be brief", at(t, a.body, "systemInstruction", "parts", 0, "text"))
	require.Equal(t, "hi", at(t, a.body, "contents", 0, "parts", 0, "text"))
	require.Equal(t, "user", at(t, a.body, "contents", 0, "role"))
	config := at(t, a.body, "generationConfig").(map[string]any)
	require.InDelta(t, 0.7, config["temperature"], 0.001)
	require.InDelta(t, 40.0, config["topK"], 0)
	require.InDelta(t, 4096.0, config["maxOutputTokens"], 0)
	require.Equal(t, []any{"END"}, config["stopSequences"])
}

func TestGeminiStreams(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	var pieces []string
	who := caller()
	who.Progress = func(s string) { pieces = append(pieces, s) }
	part := func(text string) string {
		return `{"candidates":[{"content":{"parts":[{"text":"` + text + `"}],"role":"model"},"index":0}],"modelVersion":"gemini-2.5-flash"}`
	}
	f.events(part("hel"), `{"candidates":[{"content":{"parts":[{"text":"hm, how","thought":true}],"role":"model"}}]}`, part("lo"), oneLine(geminiContent(`"!"`, "MAX_TOKENS")))
	resp, err := b.LLM(t.Context(), who, llmSource(f, "gemini"), LLMRequest{Prompt: "hi"})
	require.NoError(t, err)
	require.Equal(t, []string{"hel", "lo", "!"}, pieces)
	require.Equal(t, "hello!", resp.Text)
	require.Equal(t, finishLength, resp.FinishReason)
	require.Equal(t, Usage{InputTokens: 11, OutputTokens: 7}, resp.Usage)
	require.Contains(t, f.last().path, ":streamGenerateContent")

	f.events(part("half an ans"))
	_, err = b.LLM(t.Context(), who, llmSource(f, "gemini"), LLMRequest{Prompt: "hi"})
	require.Equal(t, "cut_off", classified(t, ClassNetwork, err).Code)

	f.events(part("half"), `{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}`)
	_, err = b.LLM(t.Context(), who, llmSource(f, "gemini"), LLMRequest{Prompt: "hi"})
	requireClass(t, Class5xx, err)
}

func TestGeminiErrors(t *testing.T) {
	apiError := func(code int, status, message string, details ...any) string {
		return toJSON(t, map[string]any{"error": map[string]any{"code": code, "message": message, "status": status, "details": details}})
	}
	for name, test := range map[string]struct {
		status int
		body   string
		class  Class
		text   string
		after  time.Duration
	}{
		"bad key": {
			400, apiError(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key "+plantedKey,
				map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}),
			ClassAuth, "TENANT_ACME_KEY", 0,
		},
		"permission": {403, apiError(403, "PERMISSION_DENIED", "no"), ClassAuth, "permissions", 0},
		"model":      {404, apiError(404, "NOT_FOUND", "models/x is not found"), ClassInvalid, "does not know", 0},
		"context":    {400, apiError(400, "INVALID_ARGUMENT", "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."), ClassContext, "shorten", 0},
		"slow": {
			429, apiError(429, "RESOURCE_EXHAUSTED", "Quota exceeded for requests per minute",
				map[string]any{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}),
			Class429, "per minute", 34500 * time.Millisecond,
		},
		"server":  {500, apiError(500, "INTERNAL", "An internal error has occurred"), Class5xx, "failed", 0},
		"proxy":   {502, "<html>bad</html>", Class5xx, "failed", 0},
		"garbage": {200, "<html>", Class5xx, "protocol", 0},
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
				f.json(test.status, test.body)
				_, err := b.LLM(t.Context(), who, llmSource(f, "gemini"), LLMRequest{Prompt: "hi"})
				e := classified(t, test.class, err)
				require.ErrorContains(t, err, test.text)
				require.NotContains(t, err.Error(), plantedKey)
				require.Equal(t, test.after, e.RetryAfter)
			}
			require.NotContains(t, b.logs.String(), plantedKey)
		})
	}
	b, f := llmBench(t), newFake(t)
	f.json(429, apiError(429, "RESOURCE_EXHAUSTED", "slow"), "Retry-After", "9")
	_, err := b.LLM(t.Context(), caller(), llmSource(f, "gemini"), LLMRequest{Prompt: "hi"})
	require.Equal(t, 9*time.Second, classified(t, Class429, err).RetryAfter)
}

func TestGeminiNeverAnswersNothing(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	for name, test := range map[string]struct {
		body  string
		class Class
	}{
		"blocked prompt": {`{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":3}}`, ClassSafety},
		"safety":         {geminiContent(`"so"`, "SAFETY"), ClassSafety},
		"recitation":     {geminiContent(`""`, "RECITATION"), ClassSafety},
		"no content":     {`{"candidates":[{"finishReason":"STOP","index":0}]}`, ClassEmpty},
		"all thought":    {strings.Replace(geminiContent(`""`, "MAX_TOKENS"), `"parts":[{"text":""}],`, "", 1), ClassEmpty},
		"function":       {geminiContent(`""`, "MALFORMED_FUNCTION_CALL"), ClassEmpty},
		"no candidates":  {`{}`, ClassEmpty},
	} {
		f.json(200, test.body)
		_, err := b.LLM(t.Context(), caller(), llmSource(f, "gemini"), LLMRequest{Prompt: "hi"})
		require.Error(t, err, name)
		requireClass(t, test.class, err)
	}
}

func TestGeminiJSONMode(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.json(200, geminiContent(`"{\"a\": 1}"`, "STOP"))
	schema := map[string]any{"type": "object", "properties": map[string]any{"a": map[string]any{"type": "integer", "minimum": json.Number("1")}}}
	resp, err := b.LLM(t.Context(), caller(), llmSource(f, "gemini"), LLMRequest{Prompt: "hi", Format: Format{JSON: true, Schema: schema}})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"a": json.Number("1")}, resp.JSON)
	require.Equal(t, "application/json", at(t, f.last().body, "generationConfig", "responseMimeType"))
	require.Equal(t, "object", at(t, f.last().body, "generationConfig", "responseJsonSchema", "type"))
}
