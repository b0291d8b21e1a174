package execution

import (
	"encoding/json"
	"fmt"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// snapshot is the wire form of a State, for carried commits. Nodes, edges and loops stand in
// the order of the plan, which the carried commit holds as the spec itself.
type snapshot struct {
	RequestedAt protocol.Time             `json:"requested_at"`
	Status      Status                    `json:"status"`
	Values      protocol.Object           `json:"values"`
	Deliveries  int                       `json:"deliveries"`
	Tokens      int64                     `json:"tokens"`
	Cost        string                    `json:"cost"`
	NodesRun    int                       `json:"nodes_run"`
	Open        int                       `json:"open"`
	Rounds      int                       `json:"rounds"`
	Nodes       []nodeSnapshot            `json:"nodes"`
	Edges       []edgeStatus              `json:"edges"`
	Loops       []loopSnapshot            `json:"loops"`
	Cancel      *protocol.CancelRequested `json:"cancel,omitempty"`
	Failure     *protocol.Failure         `json:"failure,omitempty"`
	Timeout     *timeoutSnapshot          `json:"timeout,omitempty"`
}

// timeoutSnapshot is a node's timeout that has not become the terminal event yet.
type timeoutSnapshot struct {
	Node      string `json:"node"`
	ElapsedMS int64  `json:"elapsed_ms"`
}

type nodeSnapshot struct {
	Status  nodeStatus                `json:"status"`
	Run     int                       `json:"run"`
	Attempt int                       `json:"attempt"`
	Open    int                       `json:"open"`
	Taken   int                       `json:"taken"`
	Since   protocol.Time             `json:"since"`
	Next    protocol.Time             `json:"next"`
	Limited *protocol.NodeRateLimited `json:"limited,omitempty"`
	Last    *protocol.Failure         `json:"last,omitempty"`
}

type loopSnapshot struct {
	Open   int  `json:"open"`
	Round  int  `json:"round"`
	Repeat bool `json:"repeat"`
	Active bool `json:"active"`
}

// MarshalJSON writes edge states as numbers: a slice of bytes would become base64.
func (e edgeStatus) MarshalJSON() ([]byte, error) { return []byte{'0' + byte(e)}, nil }

// Carry is the event that holds the whole state, so that nothing before it is needed any more.
func (s *State) Carry(spec []byte) (protocol.Carried, error) {
	switch {
	case s.End != nil:
		return protocol.Carried{}, fmt.Errorf("carry %s: it has ended", s.ID)
	case len(s.missing) > 0:
		return protocol.Carried{}, fmt.Errorf("carry %s: not all of its state is here: %s", s.ID, s.missing[0])
	}
	snap := snapshot{
		RequestedAt: protocol.At(s.RequestedAt), Status: s.Status, Values: protocol.ObjectOf(s.Values), Deliveries: s.Deliveries,
		Tokens: s.Tokens, Cost: s.Cost, NodesRun: s.NodesRun, Open: s.open, Rounds: s.rounds, Edges: s.edges, Cancel: s.cancel, Failure: s.failure,
		Nodes: make([]nodeSnapshot, len(s.nodes)), Loops: make([]loopSnapshot, len(s.loops)),
	}
	for i, n := range s.nodes {
		snap.Nodes[i] = nodeSnapshot{
			Status: n.status, Run: n.run, Attempt: n.attempt, Open: n.open, Taken: n.taken,
			Since: protocol.At(n.since), Next: protocol.At(n.next), Limited: n.limited, Last: n.last,
		}
	}
	if t := s.timeout; t != nil {
		snap.Timeout = &timeoutSnapshot{Node: t.Node, ElapsedMS: t.ElapsedMS}
	}
	for i, l := range s.loops {
		snap.Loops[i] = loopSnapshot{Open: l.open, Round: l.round, Repeat: l.repeat, Active: l.active}
	}
	raw, err := json.Marshal(snap)
	if err != nil {
		return protocol.Carried{}, fmt.Errorf("carry %s: %w", s.ID, err)
	}
	req := s.Request
	req.Spec = protocol.VerbatimOf(spec)
	req.Input = protocol.ObjectOf(workflow.Values{}) // its values are in the snapshot
	return protocol.Carried{Requested: req, Snapshot: raw}, nil
}

// Restore is the state that a carried event holds.
func Restore(key protocol.ExecutionKey, plan *workflow.Plan, c protocol.Carried) (*State, error) {
	var snap snapshot
	if err := json.Unmarshal(c.Snapshot, &snap); err != nil {
		return nil, fmt.Errorf("restore %s: %w", key.ID, err)
	}
	if len(snap.Nodes) != len(plan.Nodes) || len(snap.Edges) != len(plan.Edges) || len(snap.Loops) != len(plan.Loops) {
		return nil, fmt.Errorf("restore %s: the snapshot does not fit the plan", key.ID)
	}
	values, err := snap.Values.Values()
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", key.ID, err)
	}
	s := &State{
		ID: key.ID, Tenant: key.Tenant, Plan: plan, Request: c.Requested, RequestedAt: snap.RequestedAt.Time, Status: snap.Status,
		Values: values, Deliveries: snap.Deliveries, Tokens: snap.Tokens, Cost: snap.Cost, NodesRun: snap.NodesRun,
		open: snap.Open, rounds: snap.Rounds, cancel: snap.Cancel, failure: snap.Failure,
		nodes: make([]node, len(plan.Nodes)), edges: snap.Edges, loops: make([]loop, len(plan.Loops)),
	}
	if t := snap.Timeout; t != nil {
		s.timeout = &protocol.TimedOut{Scope: protocol.ScopeNode, Node: t.Node, ElapsedMS: t.ElapsedMS}
	}
	for i, n := range snap.Nodes {
		s.nodes[i] = node{
			status: n.Status, run: n.Run, attempt: n.Attempt, open: n.Open, taken: n.Taken,
			since: n.Since.Time, next: n.Next.Time, limited: n.Limited, last: n.Last,
		}
		if n.Status == nodeReady {
			s.ready = append(s.ready, i)
		}
	}
	for i, l := range snap.Loops {
		s.loops[i] = loop{open: l.Open, round: l.Round, repeat: l.Repeat, active: l.Active}
	}
	return s, nil
}

// Fold builds the state from the commits of an execution, the first of which is its requested
// or a carried one. plan finds the compiled plan of a request.
func Fold(key protocol.ExecutionKey, records []protocol.Record, plan func(protocol.Requested) (*workflow.Plan, error)) (*State, error) {
	if len(records) == 0 || len(records[0].Events) == 0 {
		return nil, fmt.Errorf("fold %s: there is nothing to begin with", key.ID)
	}
	s, err := begin(key, records[0], plan)
	if err != nil {
		return nil, err
	}
	s.Follow(records)
	return s, nil
}

func begin(key protocol.ExecutionKey, first protocol.Record, plan func(protocol.Requested) (*workflow.Plan, error)) (*State, error) {
	switch e := first.Events[0].Event.(type) {
	case protocol.Requested:
		p, err := plan(e)
		if err != nil {
			return nil, err
		}
		return New(key, p, e, first.Events[0].At.Time)
	case protocol.Carried:
		p, err := plan(e.Requested)
		if err != nil {
			return nil, err
		}
		return Restore(key, p, e)
	default:
		return nil, fmt.Errorf("fold %s: it begins with %s", key.ID, e.EventType())
	}
}

// Follow applies further commits.
func (s *State) Follow(records []protocol.Record) {
	for _, r := range records {
		for _, e := range r.Events {
			s.Apply(e)
		}
	}
}
