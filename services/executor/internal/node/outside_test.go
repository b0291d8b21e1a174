package node

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

// recorder remembers what nodes ask the world for, and answers the same every time.
type recorder struct {
	source  workflow.Source
	llm     source.LLMRequest
	image   source.ImageRequest
	query   source.QueryRequest
	call    source.HTTPRequest
	answer  source.LLMResponse
	failure error
}

func (r *recorder) LLM(_ context.Context, _ source.Caller, s workflow.Source, q source.LLMRequest) (source.LLMResponse, error) {
	r.source, r.llm = s, q
	return r.answer, r.failure
}

func (r *recorder) Image(_ context.Context, _ source.Caller, s workflow.Source, q source.ImageRequest) (source.Image, error) {
	r.source, r.image = s, q
	return source.Image{URL: "https://images.example/1.png", Cost: source.Cost{Amount: "0.04"}}, r.failure
}

func (r *recorder) Query(_ context.Context, _ source.Caller, s workflow.Source, q source.QueryRequest) ([]map[string]any, error) {
	r.source, r.query = s, q
	return []map[string]any{{"id": json.Number("1")}}, r.failure
}

func (r *recorder) Call(_ context.Context, _ source.Caller, s workflow.Source, q source.HTTPRequest) (source.HTTPResponse, error) {
	r.source, r.call = s, q
	return source.HTTPResponse{}, r.failure
}

func TestWhatALanguageModelIsAsked(t *testing.T) {
	out := &recorder{answer: source.LLMResponse{Text: `{"a":1}`, JSON: map[string]any{"a": json.Number("1")}, Usage: source.Usage{InputTokens: 3, OutputTokens: 4}}}
	res, err := run(t, out, "llm", `{"source_id":"model","prompt_template":"Say {user_input}","system_prompt":"Be brief","temperature":0.5,"top_p":0.9,
		"max_tokens":7,"output_key":"said","response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}}`, "yes")
	require.NoError(t, err)
	require.Equal(t, "model", out.source.ID)
	require.Equal(t, "Say yes", out.llm.Prompt)
	require.Equal(t, "Be brief", out.llm.System)
	require.InDelta(t, 0.5, *out.llm.Temperature, 0)
	require.InDelta(t, 0.9, *out.llm.TopP, 0)
	require.Equal(t, 7, out.llm.MaxTokens)
	require.Equal(t, source.Format{JSON: true, Name: "n", Schema: map[string]any{"type": "object"}}, out.llm.Format)
	require.Equal(t, out.answer.JSON, res.Delta["said"], "decoded, under a key of its own")
	require.EqualValues(t, 7, res.Tokens)

	// Without a source of its own it has the platform's.
	res, err = run(t, out, "llm", `{"provider":"echo","model":"m","prompt_template":"{user_input}"}`, "hello")
	require.NoError(t, err)
	require.Equal(t, "default-llm", out.source.ID)
	require.Equal(t, map[string]any{"provider": "echo", "model": "m"}, out.source.Config)
	require.Equal(t, "hello", out.llm.Prompt)
	require.Nil(t, out.llm.Temperature)
	require.JSONEq(t, `{"a":1}`, res.Delta["text_result"].(string), "text_result is a text")
}

func TestFormats(t *testing.T) {
	schema := map[string]any{"type": "object"}
	for _, c := range []struct {
		given any
		want  source.Format
	}{
		{nil, source.Format{}},
		{"text", source.Format{}},
		{"json", source.Format{JSON: true}},
		{map[string]any{"type": "text"}, source.Format{}},
		{map[string]any{"type": "json_object"}, source.Format{JSON: true}},
		{map[string]any{"schema": schema, "name": "n"}, source.Format{JSON: true, Schema: schema, Name: "n"}},
		{map[string]any{"type": "json_schema", "json_schema": map[string]any{"schema": schema}}, source.Format{JSON: true, Schema: schema}},
	} {
		require.Equal(t, c.want, formatOf(c.given), "%v", c.given)
	}
}

func TestWhatAnImageModelIsAsked(t *testing.T) {
	out := &recorder{}
	res, err := run(t, out, "image", `{"provider":"openai","model":"m","prompt_template":"Paint {user_input}","size":"512x512"}`, "a cat")
	require.NoError(t, err)
	require.Equal(t, source.ImageRequest{Prompt: "Paint a cat", Size: "512x512", Quality: "standard", Style: "vivid"}, out.image)
	require.Equal(t, "default-image", out.source.ID)
	require.Equal(t, "https://images.example/1.png", res.Delta["image_result"].(map[string]any)["url"])
	require.Equal(t, "0.04", res.Cost)
	require.Equal(t, "node", setting(map[string]any{"style": "node"}, map[string]any{"style": "source"}, "style", "neither"))
	require.Equal(t, "source", setting(map[string]any{}, map[string]any{"style": "source"}, "style", "neither"))
}

func TestWhatADatabaseIsAsked(t *testing.T) {
	out := &recorder{}
	res, err := run(t, out, "db", `{"query":"select 1 where id = $1","params":["{user_input}"],"limit":9,"timeout":1.5}`, "7")
	require.NoError(t, err)
	require.Equal(t, "select 1 where id = $1", out.query.Query)
	require.Empty(t, out.query.Template)
	require.Equal(t, []any{"{user_input}"}, out.query.Params)
	require.Equal(t, 9, out.query.Limit)
	require.Equal(t, 1500*time.Millisecond, out.query.Timeout)
	require.Equal(t, []any{map[string]any{"id": json.Number("1")}}, res.Delta["db_result"])

	_, err = run(t, out, "db", `{"query_template":"select {user_input}"}`, "7")
	require.NoError(t, err)
	require.Equal(t, "select {user_input}", out.query.Template)
	require.Zero(t, out.query.Timeout)
}

// A node whose world fails, fails with it, and says nothing more.
func TestTheWorldFails(t *testing.T) {
	gone := errors.New("gone")
	for typ, metadata := range map[string]string{
		"llm": `{"provider":"echo","model":"m","prompt":"x"}`, "image": `{"provider":"openai","model":"m","prompt":"x"}`,
		"db": `{"query":"select 1"}`, "api": `{"endpoint":"/x"}`,
	} {
		_, err := run(t, &recorder{failure: gone}, typ, metadata, "x")
		require.ErrorIs(t, err, gone, typ)
	}
	plan, report := planOf(t, "llm", `{"source_id":"model","prompt":"x"}`)
	require.True(t, report.Valid, "%v", report.Errors)
	plan.Nodes[0].SourceID = "lost"
	_, err := Run(t.Context(), &recorder{}, Input{Plan: plan, Node: &plan.Nodes[0]})
	require.Equal(t, source.ClassInvalid, source.ClassOf(err))
	_, err = Run(t.Context(), &recorder{}, Input{Plan: plan, Node: &workflow.PlanNode{Node: workflow.Node{Type: "of tomorrow"}}})
	require.ErrorContains(t, err, "of tomorrow")
}

func TestEstimates(t *testing.T) {
	for _, c := range []struct {
		typ, metadata string
		want          int
	}{
		{"llm", `{"source_id":"model","prompt_template":"12345678","system_prompt":"1234","max_tokens":10}`, 2 + 1 + 10},
		{"llm", `{"source_id":"model","prompt_template":"12345678"}`, 2 + 256},
		{"input", `{}`, 0},
	} {
		plan, report := planOf(t, c.typ, c.metadata)
		require.True(t, report.Valid, "%v", report.Errors)
		require.Equal(t, c.want, Estimate(Input{Plan: plan, Node: &plan.Nodes[0]}), c.metadata)
	}
}
