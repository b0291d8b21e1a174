package execution

import (
	"errors"
	"strconv"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// Result is what an attempt of a node brought.
type Result struct {
	Delta     workflow.Values
	Intent    *string // set by routers
	Tokens    int64
	Cost      string // decimal, "" for none
	StartedAt time.Time
}

// Complete turns the result of a run into its event: it decides which edges are taken. A
// condition that cannot be evaluated fails the node.
func (s *State) Complete(r Run, res Result, now time.Time) protocol.Event {
	outcome := workflow.Outcome{}
	if res.Intent != nil {
		outcome = workflow.Outcome{Intent: *res.Intent, HasIntent: true}
	}
	edges, err := s.Plan.Taken(r.Node, outcome, s.afterwards(r.Node, res.Delta))
	if err != nil {
		return s.Fail(r, conditionFailure(err), res.StartedAt, now, time.Time{})
	}
	if edges == nil {
		edges = []int{} // readers see [] rather than null
	}
	return protocol.NodeCompleted{
		Node: s.Plan.Nodes[r.Node].ID, Iteration: r.Iteration, Attempt: r.Attempt, Delta: protocol.ObjectOf(res.Delta),
		Intent: res.Intent, Edges: edges, Tokens: res.Tokens, Cost: res.Cost,
		StartedAt: protocol.At(res.StartedAt), DurationMS: elapsed(res.StartedAt, now),
	}
}

// Fail turns a failed attempt into its event. With a next try the node stays ready; without,
// its on_error says how the execution goes on.
func (s *State) Fail(r Run, f protocol.Failure, started, now, nextTry time.Time) protocol.Event {
	n := &s.Plan.Nodes[r.Node]
	e := protocol.NodeFailed{
		Node: n.ID, Iteration: r.Iteration, Attempt: r.Attempt, Error: f,
		StartedAt: protocol.At(started), DurationMS: elapsed(started, now),
	}
	if !nextTry.IsZero() {
		e.NextTryAt = protocol.At(nextTry)
		return e
	}
	if n.OnError != "continue" && n.OnError != "branch" || f.Code == protocol.CodeConditionFailed {
		return e
	}
	edges, err := s.Plan.Taken(r.Node, workflow.Outcome{Failed: true}, s.afterwards(r.Node, failureDelta(f)))
	if err != nil {
		e.Error = conditionFailure(err)
		return e
	}
	e.Handled, e.Edges = true, edges
	return e
}

// afterwards is the state that conditions behind a node see: as visit leaves it.
func (s *State) afterwards(n int, delta workflow.Values) workflow.Values {
	for _, e := range s.Plan.Nodes[n].Out {
		if s.Plan.Edges[e].Kind == workflow.When {
			v, _, _ := s.visited(s.Plan.Nodes[n].ID, delta)
			return v
		}
	}
	return s.Values
}

func conditionFailure(err error) protocol.Failure {
	f := protocol.Failure{Code: protocol.CodeConditionFailed, Message: err.Error()}
	var ce *workflow.ConditionError
	if errors.As(err, &ce) {
		f.Message = "condition " + strconv.Quote(ce.Expression) + " cannot be evaluated: " + ce.Err.Error()
	}
	return f
}

// elapsed is in milliseconds, and never negative: clocks are set back, and executors change.
func elapsed(from, to time.Time) int64 {
	if from.IsZero() {
		return 0
	}
	return max(0, to.Sub(from).Milliseconds())
}
