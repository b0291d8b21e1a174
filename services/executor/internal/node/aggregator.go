package node

import (
	"context"

	"github.com/agentflow/agentflow/pkg/execution"
)

func init() { register("aggregator", aggregatorNode{}) }

// aggregatorNode brings the results of several nodes together.
type aggregatorNode struct{}

func (aggregatorNode) Run(_ context.Context, _ Outside, in Input) (execution.Result, error) {
	delta, err := in.Node.Aggregator.Run(in.Values)
	return execution.Result{Delta: delta}, err
}

var _ Runner = aggregatorNode{}
