package service

import (
	"encoding/json"
	"slices"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// fold brings a commit into the row of its execution; x is nil for one that has no row yet. It
// never fails: the events are facts. A commit that the row has already changes nothing.
//
// It is not execution.Apply: it needs no plan, and keeps what people ask for rather than what the
// engine needs.
func fold(x *postgres.Execution, key protocol.ExecutionKey, rec protocol.Record) *postgres.Execution {
	if x == nil {
		x = &postgres.Execution{Partition: key.Partition, FirstSeq: rec.Sequence}
		x.ID, x.Tenant, x.Status, x.Cost = key.ID, key.Tenant, string(execution.Pending), "0"
		x.CreatedAt = rec.Events[0].At
	} else if rec.Sequence <= x.LastSequence {
		return x
	}
	x.LastSequence = rec.Sequence
	for _, e := range rec.Events {
		foldEvent(x, e, rec.Sequence)
	}
	return x
}

func foldEvent(x *postgres.Execution, stamped protocol.Stamped, seq uint64) {
	if execution.Status(x.Status).Final() {
		return // whatever comes after the end came too late
	}
	switch e := stamped.Event.(type) {
	case protocol.Requested:
		request(x, e)
		x.CreatedAt = stamped.At
	case protocol.Started:
		begin(x, stamped.At)
	case protocol.NodeCompleted:
		if e.Attempt > 0 { // 0: taken over by a rerun, which has not begun by that
			begin(x, e.StartedAt)
		}
		x.TokensUsed += e.Tokens
		x.Cost = json.Number(workflow.AddDecimal(string(x.Cost), e.Cost))
		x.NodesRun++
		n := nodeRun(x, e.Node, e.Iteration)
		*n = protocol.NodeRun{
			Node: e.Node, Iteration: e.Iteration, Status: protocol.NodeCompletedStatus, Attempt: e.Attempt, StartedAt: e.StartedAt,
			CompletedAt: stamped.At, DurationMS: e.DurationMS, TokensUsed: e.Tokens, Cost: json.Number(postgres.Decimal(e.Cost)), Error: n.Error,
		}
		if e.Intent != nil {
			n.Intent = *e.Intent
		}
	case protocol.NodeFailed:
		if e.Attempt > 0 {
			begin(x, e.StartedAt)
		}
		failure := e.Error
		n := nodeRun(x, e.Node, e.Iteration)
		*n = protocol.NodeRun{
			Node: e.Node, Iteration: e.Iteration, Status: protocol.NodeRetryingStatus, Attempt: e.Attempt, StartedAt: e.StartedAt,
			DurationMS: e.DurationMS, Cost: "0", Error: &failure, Handled: e.Handled, RetryAt: e.NextTryAt,
		}
		if e.NextTryAt.IsZero() {
			n.Status, n.CompletedAt = protocol.NodeFailedStatus, stamped.At
			x.NodesRun++
		}
	case protocol.NodeRateLimited:
		n := nodeRun(x, e.Node, e.Iteration)
		n.Status, n.Queue, n.Metric, n.RetryAt = protocol.NodeRateLimitedStatus, e.Queue, e.Metric, e.RetryAt
	case protocol.CancelRequested:
	case protocol.Carried:
		if x.FirstSeq == seq {
			request(x, e.Requested) // what came before is not in the log any more
			x.Status = string(execution.Running)
		}
		x.FirstSeq = seq
	case protocol.Completed:
		finish(x, execution.Completed, stamped.At, e.State, e.Totals)
	case protocol.Failed:
		failure := e.Error
		x.Error = &failure
		finish(x, execution.Failed, stamped.At, e.State, e.Totals)
	case protocol.TimedOut:
		x.Timeout = &protocol.ExecutionTimeout{Scope: e.Scope, Node: e.Node, ElapsedMS: e.ElapsedMS}
		x.Error = e.Failure()
		finish(x, execution.TimedOut, stamped.At, e.State, e.Totals)
	case protocol.Cancelled:
		x.Error = e.Failure()
		finish(x, execution.Cancelled, stamped.At, e.State, e.Totals)
	}
}

func request(x *postgres.Execution, e protocol.Requested) {
	x.WorkflowID, x.WorkflowVersion, x.WorkflowName = e.WorkflowID, e.WorkflowVersion, e.WorkflowName
	x.SpecHash, x.Actor, x.RequestID, x.RerunOf, x.Deadline = e.SpecHash, e.Actor, e.RequestID, e.RerunOf, e.Deadline
	x.Tags = slices.Clone(e.Tags)
	slices.Sort(x.Tags)
	x.Tags = slices.Compact(x.Tags)
	x.InitialState, x.InitialStateRef = stateOf(e.Input)
}

func begin(x *postgres.Execution, at protocol.Time) {
	if x.Status == string(execution.Pending) {
		x.Status = string(execution.Running)
	}
	if x.StartedAt.IsZero() || !at.IsZero() && at.Before(x.StartedAt.Time) {
		x.StartedAt = at
	}
}

func finish(x *postgres.Execution, status execution.Status, at protocol.Time, state protocol.Object, totals protocol.Totals) {
	x.Status, x.CompletedAt = string(status), at
	x.FinalState, x.FinalStateRef = stateOf(state)
	x.TokensUsed, x.Cost, x.NodesRun = totals.TokensUsed, json.Number(postgres.Decimal(totals.Cost)), totals.NodesRun
	ms := totals.DurationMS
	seconds := float64(ms) / 1000
	x.DurationMS, x.DurationSeconds = &ms, &seconds
	if x.StartedAt.IsZero() && status == execution.Completed {
		x.StartedAt = x.CreatedAt
	}
	for i := range x.Nodes {
		n := &x.Nodes[i]
		// What still waited for its next try will not get it.
		n.RetryAt, n.Queue, n.Metric = protocol.Time{}, "", ""
		if n.Status == protocol.NodeRetryingStatus {
			n.Status = protocol.NodeFailedStatus
		}
	}
}

// stateOf is a state inline, or the name under which the object store has it.
func stateOf(o protocol.Object) (raw json.RawMessage, ref string) {
	if o.Ref != "" {
		return nil, o.Ref
	}
	raw, err := o.Raw()
	if err != nil {
		return nil, "" // only a reference can fail
	}
	return raw, ""
}

// nodeRun finds the record of one run of a node, or adds it.
func nodeRun(x *postgres.Execution, node string, iteration int) *protocol.NodeRun {
	for i := len(x.Nodes) - 1; i >= 0; i-- {
		if x.Nodes[i].Node == node && x.Nodes[i].Iteration == iteration {
			return &x.Nodes[i]
		}
	}
	x.Nodes = append(x.Nodes, protocol.NodeRun{Node: node, Iteration: iteration, Cost: "0"})
	return &x.Nodes[len(x.Nodes)-1]
}
