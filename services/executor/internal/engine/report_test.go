package engine

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// told remembers what an engine reports.
type told struct {
	mu       sync.Mutex
	captured []error
	scopes   []daemon.Scope
	crumbs   []string
}

func (r *told) Logger(context.Context) *zap.Logger { return zap.NewNop() }

func (r *told) Capture(ctx context.Context, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.captured = append(r.captured, err)
	r.scopes = append(r.scopes, daemon.ScopeOf(ctx))
}

func (r *told) Breadcrumb(_ context.Context, category, message string, _ map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.crumbs = append(r.crumbs, category+" "+message)
}

// TestReports: an execution that failed is reported, unless it did what its workflow asks for.
func TestReports(t *testing.T) {
	r := &told{}
	e := &Engine{reports: r, log: zap.NewNop()}
	ctx := daemon.WithScope(t.Context(), daemon.Scope{Execution: "exec_1", Tenant: "acme"})
	for _, end := range []protocol.Event{
		protocol.Completed{},
		protocol.Cancelled{},
		protocol.TimedOut{},
		protocol.Failed{Error: protocol.Failure{Code: protocol.CodeRateLimited}},
		protocol.Failed{Error: protocol.Failure{Code: protocol.CodeInvalid}},
		nil,
	} {
		e.report(ctx, end)
	}
	require.Empty(t, r.captured)
	e.report(ctx, protocol.Failed{Error: protocol.Failure{Code: protocol.CodeNodeFailed, Node: "ask", Message: "it broke"}})
	require.Len(t, r.captured, 1)
	var failure protocol.Failure
	require.True(t, errors.As(r.captured[0], &failure))
	require.Equal(t, "ask", failure.Node)
	require.Equal(t, daemon.Scope{Execution: "exec_1", Tenant: "acme"}, r.scopes[0])
	require.Equal(t, []string{"execution failed"}, r.crumbs)

	silent := &Engine{log: zap.NewNop()}
	silent.report(ctx, protocol.Failed{})
	require.Equal(t, silent.log, silent.logger(ctx), "without reports the log is the log")
}
