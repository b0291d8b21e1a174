package history

import (
	"encoding/json"
	"math/big"
	"slices"
	"strings"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// fold builds what clients see of an execution from its events: the same as catalog's tables hold, so that an
// answer does not change when the execution leaves the log.
type fold struct {
	execution *protocol.Execution
	input     protocol.Object
	final     protocol.Object
}

func (f *fold) apply(rec protocol.Record) {
	e := f.execution
	e.LastSequence = rec.Sequence
	for _, s := range rec.Events {
		if !e.CompletedAt.IsZero() {
			return // facts that came after the end change nothing
		}
		switch ev := s.Event.(type) {
		case protocol.Requested:
			f.requested(ev, s.At)
		case protocol.Started:
			f.running(s.At)
		case protocol.NodeCompleted:
			if ev.Attempt > 0 { // 0: taken over by a rerun, which has not begun by that
				f.running(ev.StartedAt)
			}
			f.nodeCompleted(ev, s.At)
		case protocol.NodeFailed:
			if ev.Attempt > 0 {
				f.running(ev.StartedAt)
			}
			f.nodeFailed(ev, s.At)
		case protocol.NodeRateLimited:
			f.running(s.At)
			n := f.node(ev.Node, ev.Iteration)
			n.Status, n.Queue, n.Metric, n.RetryAt = protocol.NodeRateLimitedStatus, ev.Queue, ev.Metric, ev.RetryAt
		case protocol.CancelRequested:
		case protocol.Carried:
			if e.CreatedAt.IsZero() {
				f.requested(ev.Requested, carriedFrom(ev))
				f.input = protocol.Object{} // it stands in the snapshot, mixed with all that came later
			}
			f.running(s.At)
		case protocol.Completed:
			f.end("COMPLETED", s.At, ev.State, ev.Totals)
		case protocol.Failed:
			failure := ev.Error
			e.Error = &failure
			f.end("FAILED", s.At, ev.State, ev.Totals)
		case protocol.TimedOut:
			e.Timeout = &protocol.ExecutionTimeout{Scope: ev.Scope, Node: ev.Node, ElapsedMS: ev.ElapsedMS}
			e.Error = ev.Failure()
			f.end("TIMED_OUT", s.At, ev.State, ev.Totals)
		case protocol.Cancelled:
			e.Error = ev.Failure()
			f.end("CANCELLED", s.At, ev.State, ev.Totals)
		}
	}
}

// carriedFrom is when a carried execution was requested, as its snapshot says.
func carriedFrom(c protocol.Carried) protocol.Time {
	var s struct {
		RequestedAt protocol.Time `json:"requested_at"`
	}
	if json.Unmarshal(c.Snapshot, &s) != nil {
		return protocol.Time{}
	}
	return s.RequestedAt
}

func (f *fold) requested(r protocol.Requested, at protocol.Time) {
	e := f.execution
	e.WorkflowID, e.WorkflowVersion, e.WorkflowName = r.WorkflowID, r.WorkflowVersion, r.WorkflowName
	e.Actor, e.RequestID, e.RerunOf, e.SpecHash = r.Actor, r.RequestID, r.RerunOf, r.SpecHash
	e.Tags = slices.Compact(slices.Sorted(slices.Values(r.Tags)))
	e.CreatedAt, e.Deadline = at, r.Deadline
	f.input = r.Input
}

func (f *fold) running(at protocol.Time) {
	if f.execution.StartedAt.IsZero() {
		f.execution.StartedAt = at
	}
	f.execution.Status = "RUNNING"
}

// node is the record of one run of a node; new when it is not there.
func (f *fold) node(id string, iteration int) *protocol.NodeRun {
	nodes := f.execution.Nodes
	for i := len(nodes) - 1; i >= 0; i-- {
		if nodes[i].Node == id && nodes[i].Iteration == iteration {
			return &nodes[i]
		}
	}
	nodes = append(nodes, protocol.NodeRun{Node: id, Iteration: iteration, Cost: "0"})
	f.execution.Nodes = nodes
	return &nodes[len(nodes)-1]
}

func (f *fold) nodeCompleted(ev protocol.NodeCompleted, at protocol.Time) {
	n := f.node(ev.Node, ev.Iteration)
	n.Status, n.Attempt, n.StartedAt, n.CompletedAt, n.DurationMS = protocol.NodeCompletedStatus, ev.Attempt, ev.StartedAt, at, ev.DurationMS
	n.TokensUsed, n.RetryAt, n.Queue, n.Metric = ev.Tokens, protocol.Time{}, "", ""
	if ev.Cost != "" {
		n.Cost = json.Number(ev.Cost)
	}
	if ev.Intent != nil {
		n.Intent = *ev.Intent
	}
	e := f.execution
	e.TokensUsed += ev.Tokens
	e.Cost = addDecimals(e.Cost, n.Cost)
	e.NodesRun++
}

func (f *fold) nodeFailed(ev protocol.NodeFailed, at protocol.Time) {
	n := f.node(ev.Node, ev.Iteration)
	failure := ev.Error
	n.Status, n.Attempt, n.StartedAt, n.DurationMS, n.Error = protocol.NodeFailedStatus, ev.Attempt, ev.StartedAt, ev.DurationMS, &failure
	n.Handled, n.RetryAt, n.Queue, n.Metric = ev.Handled, ev.NextTryAt, "", ""
	if !ev.NextTryAt.IsZero() {
		n.Status = protocol.NodeRetryingStatus
		return
	}
	n.CompletedAt = at
	f.execution.NodesRun++
}

func (f *fold) end(status string, at protocol.Time, state protocol.Object, t protocol.Totals) {
	e := f.execution
	e.Status, e.CompletedAt = status, at
	e.TokensUsed, e.NodesRun = t.TokensUsed, t.NodesRun
	if t.Cost != "" {
		e.Cost = json.Number(t.Cost)
	}
	ms, seconds := t.DurationMS, float64(t.DurationMS)/1000
	e.DurationMS, e.DurationSeconds = &ms, &seconds
	f.final = state
	for i := range e.Nodes {
		n := &e.Nodes[i]
		// What still waited for its next try will not get it.
		n.RetryAt, n.Queue, n.Metric = protocol.Time{}, "", ""
		if n.Status == protocol.NodeRetryingStatus {
			n.Status = protocol.NodeFailedStatus
		}
	}
}

// close tidies what JSON must not carry.
func (f *fold) close() {
	if f.execution.Cost == "" {
		f.execution.Cost = "0"
	}
}

// addDecimals adds two decimal numbers exactly.
func addDecimals(a, b json.Number) json.Number {
	var x, y big.Rat
	if _, ok := x.SetString(string(a)); !ok {
		return b
	}
	if _, ok := y.SetString(string(b)); !ok {
		return a
	}
	const digits = 18 // after the point: no price is finer
	sum := x.Add(&x, &y).FloatString(digits)
	sum = strings.TrimRight(sum, "0")
	return json.Number(strings.TrimSuffix(sum, "."))
}
