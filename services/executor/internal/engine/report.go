package engine

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/executor/internal/node"
)

// reports takes what operators are told of executions that went wrong.
type reports interface {
	Logger(ctx context.Context) *zap.Logger // reports what it logs as an error
	Capture(ctx context.Context, err error)
	Breadcrumb(ctx context.Context, category, message string, data map[string]any)
}

var _ reports = (*daemon.Runtime)(nil)

// scoped is a context that names the execution in reports, and collects its steps for them.
func (e *Engine) scoped(ctx context.Context, j *bus.Job) context.Context {
	if e.reports == nil {
		return ctx
	}
	req := requestOf(j.Record)
	ctx = daemon.WithScope(ctx, daemon.Scope{
		RequestID: req.RequestID, Tenant: string(j.Key.Tenant), Workflow: req.WorkflowID, Execution: string(j.Key.ID),
	})
	e.reports.Breadcrumb(ctx, "execution", "taken", map[string]any{"delivery": j.Delivered, "partition": j.Key.Partition})
	return ctx
}

// logger is the engine's log, with reports where there are any.
func (e *Engine) logger(ctx context.Context) *zap.Logger {
	if e.reports == nil {
		return e.log
	}
	return e.reports.Logger(ctx)
}

// noteBegin and noteEnd leave the trail of a node's attempt.
func (e *Engine) noteBegin(ctx context.Context, in node.Input) {
	if e.reports != nil {
		e.reports.Breadcrumb(ctx, "node", "began", map[string]any{"node": in.Node.ID, "type": in.Node.Type})
	}
}

func (e *Engine) noteEnd(ctx context.Context, in node.Input, err error, took time.Duration) {
	if e.reports == nil {
		return
	}
	data := map[string]any{"node": in.Node.ID, "type": in.Node.Type, "took_ms": took.Milliseconds()}
	if err != nil {
		data["error"] = e.mask(in.Caller.Tenant, err.Error())
	}
	e.reports.Breadcrumb(ctx, "node", "ended", data)
}

// report tells of an execution that failed. One that was refused for its input or for a limit did what its
// workflow asks for, and what is INTERNAL was told of where it was caught.
func (e *Engine) report(ctx context.Context, end protocol.Event) {
	failed, ok := end.(protocol.Failed)
	if e.reports == nil || !ok {
		return
	}
	switch failed.Error.Code { //nolint:exhaustive // all others are reported
	case protocol.CodeRateLimited, protocol.CodeInvalid, protocol.CodeInternal:
		return
	}
	e.reports.Breadcrumb(ctx, "execution", "failed", map[string]any{"code": string(failed.Error.Code), "node": failed.Error.Node})
	e.reports.Capture(ctx, failed.Error)
}
