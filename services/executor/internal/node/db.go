package node

import (
	"context"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

func init() { register("db", dbNode{}) }

// dbNode runs a read-only query and writes its rows.
type dbNode struct{}

func (dbNode) Run(ctx context.Context, out Outside, in Input) (execution.Result, error) {
	src, err := Source(in, "db")
	if err != nil {
		return execution.Result{}, err
	}
	m := in.Node.Metadata
	req := source.QueryRequest{Params: m["params"], Values: in.Values, Limit: integer(m, "limit"), Timeout: seconds(m, "timeout")}
	if req.Query = text(m, "query"); req.Query == "" {
		req.Template = text(m, "query_template")
	}
	rows, err := out.Query(ctx, in.Caller, src, req)
	if err != nil {
		return execution.Result{}, err
	}
	list := make([]any, len(rows))
	for i, row := range rows {
		list[i] = row
	}
	return execution.Result{Delta: workflow.Values{in.Node.OutputKey: list}}, nil
}

var _ Runner = dbNode{}
