package node

import (
	"context"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

func init() { register("router", routerNode{}) }

// routerNode chooses an intent; with strategy llm it asks the node's source.
type routerNode struct{}

func (routerNode) Run(ctx context.Context, out Outside, in Input) (execution.Result, error) {
	r := in.Node.Router
	if r.Strategy != workflow.StrategyLLM {
		intent, err := r.Decide(in.Values)
		if err != nil {
			return execution.Result{}, err
		}
		return execution.Result{Delta: workflow.Values{"intent": intent}, Intent: &intent}, nil
	}
	prompt, err := r.LLMPrompt(in.Values)
	if err != nil {
		return execution.Result{}, err
	}
	src, err := Source(in, "llm")
	if err != nil {
		return execution.Result{}, err
	}
	zero := 0.0
	answer, err := out.LLM(ctx, in.Caller, src, source.LLMRequest{Prompt: prompt, Temperature: &zero, MaxTokens: integer(in.Node.Metadata, "max_tokens")})
	if err != nil {
		return spent(answer.Usage, answer.Cost, workflow.Values{}), err
	}
	intent := r.MatchIntent(answer.Text)
	res := spent(answer.Usage, answer.Cost, workflow.Values{"intent": intent})
	res.Intent = &intent
	return res, nil
}

// Estimate counts the question; the answer is one word.
func (routerNode) Estimate(in Input) int {
	if in.Node.Router.Strategy != workflow.StrategyLLM {
		return 0
	}
	prompt, err := in.Node.Router.LLMPrompt(in.Values)
	if err != nil {
		return 0
	}
	return tokens(prompt) + 16
}

var (
	_ Runner    = routerNode{}
	_ estimator = routerNode{}
)
