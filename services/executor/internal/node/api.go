package node

import (
	"context"
	"fmt"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

func init() { register("api", apiNode{}) }

// apiNode calls an HTTP API and writes its answer.
type apiNode struct{}

func (apiNode) Run(ctx context.Context, out Outside, in Input) (execution.Result, error) {
	src, err := Source(in, "api")
	if err != nil {
		return execution.Result{}, err
	}
	m := in.Node.Metadata
	params, _ := m["params"].(map[string]any)
	resp, err := out.Call(ctx, in.Caller, src, source.HTTPRequest{
		Method: text(m, "method"), Endpoint: text(m, "endpoint"), Query: params, Headers: headersOf(m["headers"]),
		Body: m["body"], BodyType: text(m, "body_type"), Values: in.Values, Response: text(m, "response"), Timeout: seconds(m, "timeout"),
	})
	if err != nil {
		return execution.Result{}, err
	}
	value, err := plain(resp)
	if err != nil {
		return execution.Result{}, err
	}
	return execution.Result{Delta: workflow.Values{in.Node.OutputKey: value}}, nil
}

var _ Runner = apiNode{}

func headersOf(v any) map[string]string {
	m, _ := v.(map[string]any)
	out := make(map[string]string, len(m))
	for name, value := range m {
		out[name] = fmt.Sprint(value)
	}
	return out
}
