package node

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

func init() { register("llm", llmNode{}) }

// llmNode asks a language model and writes its answer.
type llmNode struct{}

func (llmNode) Run(ctx context.Context, out Outside, in Input) (execution.Result, error) {
	prompt, err := promptOf(in, "user_input")
	if err != nil {
		return execution.Result{}, err
	}
	src, err := Source(in, "llm")
	if err != nil {
		return execution.Result{}, err
	}
	m := in.Node.Metadata
	req := source.LLMRequest{
		System: text(m, "system_prompt"), Prompt: prompt, Temperature: float(m, "temperature"), TopP: float(m, "top_p"), MaxTokens: integer(m, "max_tokens"),
		Format: formatOf(m["response_format"]),
	}
	answer, err := out.LLM(ctx, in.Caller, src, req)
	if err != nil {
		// What was answered and did not do was paid for: the queue's tokens are settled by it.
		return spent(answer.Usage, answer.Cost, workflow.Values{}), err
	}
	var value any = answer.Text
	if answer.JSON != nil && in.Node.OutputKey != "text_result" {
		value = answer.JSON
	}
	return spent(answer.Usage, answer.Cost, workflow.Values{in.Node.OutputKey: value}), nil
}

// Estimate counts the prompt, and the longest answer the node allows when it says so.
func (llmNode) Estimate(in Input) int {
	prompt, err := promptOf(in, "user_input")
	if err != nil {
		return 0
	}
	answer := integer(in.Node.Metadata, "max_tokens")
	if answer == 0 {
		answer = 256 // of the 4096 allowed, most answers need few; settling corrects the rest
	}
	return tokens(prompt) + tokens(text(in.Node.Metadata, "system_prompt")) + answer
}

var (
	_ Runner    = llmNode{}
	_ estimator = llmNode{}
)

// promptOf fills the node's prompt; without one it takes the first of the keys that is not empty.
func promptOf(in Input, keys ...string) (string, error) {
	if in.Node.Prompt != nil {
		return in.Node.Prompt.Render(in.Values)
	}
	for _, key := range keys {
		if v, ok := in.Values.Lookup(key); ok && !workflow.Empty(v) {
			return workflow.Text(v)
		}
	}
	return "", nil
}

// formatOf reads response_format: "json", {"type":"json_object"}, or a JSON Schema under
// {"type":"json_schema","json_schema":{"name":…,"schema":{…}}} as OpenAI spells it, or {"schema":{…}}.
func formatOf(v any) source.Format {
	switch v := v.(type) {
	case string:
		return source.Format{JSON: v == "json" || v == "json_object"}
	case map[string]any:
		f := source.Format{JSON: text(v, "type") != "text", Schema: v["schema"], Name: text(v, "name")}
		if inner, ok := v["json_schema"].(map[string]any); ok {
			f.Schema, f.Name = inner["schema"], text(inner, "name")
		}
		return f
	}
	return source.Format{}
}

// spent adds what a model took to a delta.
func spent(u source.Usage, c source.Cost, delta workflow.Values) execution.Result {
	cost := c.Amount
	if cost == "" {
		cost = "0"
	}
	delta["tokens_used"] = json.Number(strconv.FormatInt(u.Total(), 10))
	delta["cost"] = cost
	return execution.Result{Delta: delta, Tokens: u.Total(), Cost: string(cost)}
}

func tokens(s string) int { return (len(s) + 3) / 4 }
