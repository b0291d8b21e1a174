package execution

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// Apply adds an event to the state. It never fails: an event that does not fit, such as a second
// terminal event or the completion of a node that is not running, is a fact that came too late,
// and changes nothing.
func (s *State) Apply(e protocol.Stamped) {
	if s.End != nil {
		return
	}
	at := e.At.Time
	switch e := e.Event.(type) {
	case protocol.Requested:
		// New was made from it.
	case protocol.Started:
		s.Status = Running
		s.Deliveries++
		s.restartClocks(at)
	case protocol.NodeCompleted:
		s.completed(e, at)
	case protocol.NodeFailed:
		s.failed(e, at)
	case protocol.NodeRateLimited:
		if n, ok := s.readyNode(e.Node, e.Iteration); ok {
			s.nodes[n].limited = &e
			s.nodes[n].next = e.RetryAt.Time
		}
	case protocol.CancelRequested:
		if s.cancel == nil {
			s.cancel = &e
		}
	case protocol.Carried:
		// Restore was made from it.
	case protocol.Completed:
		s.finish(Completed, e, e.State)
	case protocol.Failed:
		s.finish(Failed, e, e.State)
	case protocol.TimedOut:
		s.finish(TimedOut, e, e.State)
	case protocol.Cancelled:
		s.finish(Cancelled, e, e.State)
	}
}

// restartClocks counts the time of nodes that have not failed yet from now: what passed before
// an executor began on them, waiting for one to be free or to come back, was not theirs. The
// execution's own deadline stays what it was.
func (s *State) restartClocks(at time.Time) {
	for _, n := range s.ready {
		if s.nodes[n].attempt == 0 {
			s.nodes[n].since = at
		}
	}
}

// readyNode finds a node that is ready in the given iteration.
func (s *State) readyNode(id string, iteration int) (int, bool) {
	n, ok := s.Plan.NodeIndex(id)
	if !ok || s.nodes[n].status != nodeReady || s.nodes[n].run != iteration {
		return 0, false
	}
	return n, true
}

func (s *State) completed(e protocol.NodeCompleted, at time.Time) {
	n, ok := s.readyNode(e.Node, e.Iteration)
	if !ok {
		return
	}
	s.Status, s.Deliveries = Running, min(s.Deliveries, 1) // whoever ran it goes on
	delta, err := e.Delta.Values()
	if err != nil {
		s.missing = append(s.missing, "result of node "+e.Node+": "+err.Error())
	}
	s.visit(e.Node, delta)
	s.Tokens += e.Tokens
	s.Cost = workflow.AddDecimal(s.Cost, e.Cost)
	s.settle(n, nodeDone, e.Edges, at)
}

// visit takes up what a node run brought, and that it was run.
func (s *State) visit(id string, delta workflow.Values) {
	s.NodesRun++
	s.Values, s.path, s.current = s.visited(id, delta)
}

// visited is the state behind a run of a node, and its two lists of nodes that were run. Only visit may keep them: the
// next call writes to the same place.
func (s *State) visited(id string, delta workflow.Values) (v workflow.Values, path, current []any) {
	v = workflow.Reduce(s.Values, delta) // a new map: the next lines change nothing that others may see
	path = appendTo(v["execution_path"], s.path, id)
	current = appendTo(v["current_node"], s.current, id)
	v["execution_path"], v["current_node"] = path, current
	return v, path, current
}

// failureDelta is what a failed run leaves in the state.
func failureDelta(f protocol.Failure) workflow.Values {
	return workflow.Values{"errors": []any{f.Error()}}
}

// appendTo adds to the list that stands in the state. Copying it for each node would make long
// executions quadratic, so the list that was made here last, and that nobody else appends to, is
// appended to in place: who reads an older state sees its own length of the same array.
func appendTo(standing any, own []any, id string) []any {
	list, isList := standing.([]any)
	if isList && len(list) == len(own) && len(own) > 0 && &list[0] == &own[0] {
		return append(own, id)
	}
	if !isList && standing != nil {
		list = []any{standing}
	}
	return append(slices.Clip(list), id)
}

// fail records why the execution fails. What came first counts.
func (s *State) fail(f protocol.Failure) {
	if s.failure == nil {
		s.failure = &f
	}
}

func (s *State) failed(e protocol.NodeFailed, at time.Time) {
	n, ok := s.readyNode(e.Node, e.Iteration)
	if !ok {
		return
	}
	node := &s.nodes[n]
	if !e.NextTryAt.IsZero() && e.Attempt <= node.attempt {
		return // that attempt has failed before
	}
	s.Status, s.Deliveries = Running, 0 // its next try may be another executor's
	node.attempt = e.Attempt
	node.last = &e.Error
	node.limited = nil
	if !e.NextTryAt.IsZero() {
		node.next = e.NextTryAt.Time
		return
	}
	s.visit(e.Node, failureDelta(e.Error))
	if e.Handled {
		s.settle(n, nodeDone, e.Edges, at)
		return
	}
	failure := e.Error
	failure.Node = e.Node
	if failure.Code == protocol.CodeTimedOut && s.failure == nil {
		s.timeout = &protocol.TimedOut{Scope: protocol.ScopeNode, Node: e.Node, ElapsedMS: elapsed(node.since, at)}
	}
	s.fail(failure)
	s.close(n, nodeDone)
}

func (s *State) finish(status Status, e protocol.Event, final protocol.Object) {
	s.Status = status
	s.End = e
	s.ready = nil
	// A final state in the object store is not fetched for the fold: what is folded is the same.
	if v, err := final.Values(); err == nil && !final.IsZero() {
		s.Values = v
	}
}

// Step is something to do now.
//
//sumtype:decl
type Step interface{ step() }

// Run asks for an attempt of a node.
type Run struct {
	Node      int // index into the plan
	Iteration int
	Attempt   int // 1 for the first
}

// Wait says that nothing of this node can be done before a moment.
type Wait struct {
	Node  int
	Until time.Time
}

// Finish asks for the terminal event.
type Finish struct{ Event protocol.Event }

func (Run) step()    {}
func (Wait) step()   {}
func (Finish) step() {}

// Next says what to do at the given moment. It changes nothing, and asked again it says the
// same: the engine knows which of the runs it has begun.
func (s *State) Next(now time.Time) []Step {
	switch {
	case s.End != nil:
		return nil
	case s.cancel != nil:
		return []Step{Finish{protocol.Cancelled{Actor: s.cancel.Actor, Reason: s.cancel.Reason, State: s.final(now), Totals: s.totals(now)}}}
	case s.timeout != nil:
		t := *s.timeout
		t.State, t.Totals = s.final(now), s.totals(now)
		return []Step{Finish{t}}
	case s.failure != nil:
		return []Step{Finish{protocol.Failed{Error: *s.failure, State: s.final(now), Totals: s.totals(now)}}}
	case s.open == 0:
		return []Step{Finish{protocol.Completed{State: s.final(now), Totals: s.totals(now)}}}
	case !s.Deadline().IsZero() && !now.Before(s.Deadline()):
		return []Step{Finish{protocol.TimedOut{
			Scope: protocol.ScopeExecution, Node: s.oneReady(), ElapsedMS: elapsed(s.RequestedAt, now),
			State: s.final(now), Totals: s.totals(now),
		}}}
	}
	steps := make([]Step, 0, len(s.ready))
	for _, n := range s.ready {
		if s.nodes[n].next.After(now) {
			steps = append(steps, Wait{Node: n, Until: s.nodes[n].next})
			continue
		}
		steps = append(steps, Run{Node: n, Iteration: s.nodes[n].run, Attempt: s.nodes[n].attempt + 1})
	}
	return steps
}

func (s *State) oneReady() string {
	if len(s.ready) == 0 {
		return ""
	}
	return s.Plan.Nodes[s.ready[0]].ID
}

func (s *State) totals(now time.Time) protocol.Totals {
	return protocol.Totals{TokensUsed: s.Tokens, Cost: s.Cost, NodesRun: s.NodesRun, DurationMS: elapsed(s.RequestedAt, now)}
}

// final is the state as the caller gets it.
func (s *State) final(now time.Time) protocol.Object {
	ms := elapsed(s.RequestedAt, now)
	return protocol.ObjectOf(workflow.Reduce(s.Values, workflow.Values{"metadata": map[string]any{
		"execution_id": string(s.ID), "execution_time_ms": json.Number(strconv.FormatInt(ms, 10)),
	}}))
}

// Abort is the terminal event for a failure that no node caused.
func (s *State) Abort(f protocol.Failure, now time.Time) protocol.Event {
	return protocol.Failed{Error: f, State: s.final(now), Totals: s.totals(now)}
}
