package node

import (
	"context"

	"github.com/agentflow/agentflow/pkg/execution"
)

func init() { register("input", inputNode{}) }

// inputNode takes what the caller sent, checks it and passes it on.
type inputNode struct{}

func (inputNode) Run(_ context.Context, _ Outside, in Input) (execution.Result, error) {
	delta, err := in.Node.Input.Run(in.Values)
	return execution.Result{Delta: delta}, err
}

var _ Runner = inputNode{}
