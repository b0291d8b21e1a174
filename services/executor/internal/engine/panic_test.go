package engine_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/sentrytest"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/engine"
	"github.com/agentflow/agentflow/services/executor/internal/node"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

// faulty is an outside with a bug in it.
type faulty struct{ node.Outside }

func (faulty) Call(context.Context, source.Caller, workflow.Source, source.HTTPRequest) (source.HTTPResponse, error) {
	panic("the secret of the house")
}

// TestPanicInANode: a node that panics ends its execution with INTERNAL and says nothing of what happened; Sentry hears of
// it once, on whose behalf it was and what led there; the executor runs the next.
func TestPanicInANode(t *testing.T) {
	t.Parallel()
	inbox := sentrytest.New(t)
	rt, err := daemon.NewRuntime("executor", daemon.Common{LogLevel: "fatal", LogFormat: "json", SentryDSN: inbox.DSN(), SentryEnvironment: "production"})
	require.NoError(t, err)
	p := newPlatform(t)
	p.runtime, p.outside = rt, func(o node.Outside) node.Outside { return faulty{o} }
	stop := p.executor(engine.Config{})
	spec := `{"start_node":"in","nodes":[{"id":"in","type":"input"},{"id":"call","type":"api","metadata":{"source_id":"s"}}],
		"edges":[{"from":"in","to":"call"}],"sources":[{"id":"s","kind":"api","config":{"base_url":"http://127.0.0.1:1"}}]}`
	key := p.request(spec, `{}`, func(r *protocol.Requested) { r.RequestID, r.WorkflowID = "req-1", "wf_1" })
	events := p.history(key)
	failed, ok := events[len(events)-1].(protocol.Failed)
	require.True(t, ok, names(events))
	require.Equal(t, protocol.CodeInternal, failed.Error.Code)
	require.Equal(t, "call", failed.Error.Node)
	require.NotContains(t, failed.Error.Message, "secret")
	final(t, p.history(p.request(threeSteps, `{"user_input":"hello"}`, nil)))
	stop()

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, rt.Close(ctx)) // whatever waits to be sent is sent
	reports := inbox.Events()
	require.Len(t, reports, 1)
	require.Equal(t, "fatal", reports[0]["level"])
	require.Equal(t, map[string]any{
		"service": "executor", "tenant": "acme", "workflow_id": "wf_1", "execution_id": string(key.ID), "request_id": "req-1",
	}, reports[0]["tags"])
	require.NotEmpty(t, reports[0]["breadcrumbs"])
	require.Contains(t, inbox.Raw(), "panic_test.go", "the stack leads to the panic")
}
