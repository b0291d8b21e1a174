package execution

import (
	"fmt"
	"slices"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// Status is where an execution stands, as users see it.
type Status string

// The statuses. All but the first two are final.
const (
	Pending   Status = "PENDING"
	Running   Status = "RUNNING"
	Completed Status = "COMPLETED"
	Failed    Status = "FAILED"
	TimedOut  Status = "TIMED_OUT"
	Cancelled Status = "CANCELLED"
)

// Final tells whether nothing can follow.
func (s Status) Final() bool { return s != Pending && s != Running }

// DefaultMaxIterations is how often the body of a loop may run again, when nobody says otherwise.
const DefaultMaxIterations = 25

// maxRounds bounds the rounds of all loops together: nested loops multiply.
const maxRounds = 10_000

// State is an execution after some of its events.
type State struct {
	ID          protocol.ExecutionID
	Tenant      protocol.TenantID
	Plan        *workflow.Plan
	Request     protocol.Requested
	RequestedAt time.Time
	Status      Status
	Values      workflow.Values
	Deliveries  int            // how many executors have been at it since a node last ended, with the one that ended it: they may all have died of it
	Tokens      int64          // over all nodes
	Cost        string         // decimal, over all nodes
	NodesRun    int            // completed or given up
	End         protocol.Event // the terminal event, nil while there is none

	nodes   []node
	edges   []edgeStatus
	loops   []loop
	ready   []int // nodes to run, ascending
	open    int   // nodes that have not settled
	rounds  int   // of all loops
	cancel  *protocol.CancelRequested
	failure *protocol.Failure
	timeout *protocol.TimedOut
	missing []string // values that the fold could not read

	path, current []any // the lists in Values that visit appends to in place
}

type nodeStatus uint8

const (
	nodeOpen  nodeStatus = iota // waits for its edges
	nodeReady                   // to be run, running, or waiting for its next attempt
	nodeDone
	nodeDead
)

type node struct {
	status  nodeStatus
	run     int       // how often it was made ready before: the iteration
	attempt int       // failed attempts of this run
	open    int       // incoming forward edges not yet settled
	taken   int       // of those settled, how many were taken
	since   time.Time // when it became ready
	next    time.Time // not before this moment: a retry or a rate limit
	limited *protocol.NodeRateLimited
	last    *protocol.Failure // of the last attempt
}

type edgeStatus uint8

const (
	edgeOpen edgeStatus = iota
	edgeTaken
	edgeDead
)

type loop struct {
	open   int  // body nodes that have not settled in this round
	round  int  // 0 for the first
	repeat bool // an edge back to the header was taken in this round
	active bool // left once it has ended
}

// New is the state after the requested event.
func New(key protocol.ExecutionKey, plan *workflow.Plan, req protocol.Requested, at time.Time) (*State, error) {
	input, err := req.Input.Values()
	if err != nil {
		return nil, fmt.Errorf("input of %s: %w", key.ID, err)
	}
	s := &State{
		ID: key.ID, Tenant: key.Tenant, Plan: plan, Request: req, RequestedAt: at, Status: Pending, Cost: "0",
		Values: workflow.NewValues(input),
		nodes:  make([]node, len(plan.Nodes)), edges: make([]edgeStatus, len(plan.Edges)), loops: make([]loop, len(plan.Loops)),
		open: len(plan.Nodes),
	}
	for i := range plan.Nodes {
		s.nodes[i].open = len(plan.Nodes[i].In)
	}
	for i := range plan.Loops {
		s.loops[i] = loop{open: len(plan.Loops[i].Body), active: true}
	}
	s.makeReady(plan.Start, at)
	return s, nil
}

// Done tells whether the execution has its terminal event.
func (s *State) Done() bool { return s.End != nil }

// Missing names the results that were not there when their events were applied: references that
// nobody resolved. Values lacks them, so an execution must not be carried on from this state;
// to look at, it is as good as it gets.
func (s *State) Missing() []string { return s.missing }

// Deadline is when the execution times out.
func (s *State) Deadline() time.Time { return s.Request.Deadline.Time }

// NodeDeadline is when a ready node times out: its own timeout counted from when it became
// ready, over all its attempts and waits, and never after the execution's.
func (s *State) NodeDeadline(n int, fallback time.Duration) time.Time {
	timeout := s.Plan.Nodes[n].Timeout
	if timeout == 0 {
		timeout = fallback
	}
	d := s.nodes[n].since.Add(timeout)
	if e := s.Deadline(); !e.IsZero() && e.Before(d) {
		return e
	}
	return d
}

// ReadySince is when a ready node became so.
func (s *State) ReadySince(n int) time.Time { return s.nodes[n].since }

// Iteration is how often a node ran before.
func (s *State) Iteration(n int) int { return s.nodes[n].run }

// Attempts is how many attempts of the node's present run have failed.
func (s *State) Attempts(n int) int { return s.nodes[n].attempt }

// Waiting is a node that waits for a queue.
type Waiting struct {
	Node   string          `json:"node"`
	Queue  string          `json:"queue"`
	Metric protocol.Metric `json:"limiting_metric"`
	Until  protocol.Time   `json:"expected_at"`
}

// RateLimited lists the nodes that wait for room in a queue.
func (s *State) RateLimited() []Waiting {
	var out []Waiting
	for _, n := range s.ready {
		if l := s.nodes[n].limited; l != nil {
			out = append(out, Waiting{Node: l.Node, Queue: l.Queue, Metric: l.Metric, Until: l.RetryAt})
		}
	}
	return out
}

// CurrentNodes are the ids of the nodes that are to be run or are running now.
func (s *State) CurrentNodes() []string {
	out := make([]string, len(s.ready))
	for i, n := range s.ready {
		out[i] = s.Plan.Nodes[n].ID
	}
	return out
}

// MaxIterations is the limit on the rounds of each loop.
func (s *State) MaxIterations() int {
	if s.Request.MaxIterations > 0 {
		return s.Request.MaxIterations
	}
	if s.Plan.Spec != nil && s.Plan.Spec.MaxIterations > 0 {
		return s.Plan.Spec.MaxIterations
	}
	return DefaultMaxIterations
}

func (s *State) makeReady(n int, at time.Time) {
	s.nodes[n].status = nodeReady
	s.nodes[n].since = at
	i, _ := slices.BinarySearch(s.ready, n)
	s.ready = slices.Insert(s.ready, i, n)
}

func (s *State) unready(n int) {
	if i, ok := slices.BinarySearch(s.ready, n); ok {
		s.ready = slices.Delete(s.ready, i, i+1)
	}
}

// TakenQueues are the queues on the edges over which a ready node was reached, as indexes into
// Spec.Queues. An edge back to the header of a loop counts from the second round on.
func (s *State) TakenQueues(n int) []int {
	var queues []int
	add := func(e int) {
		if q := s.Plan.Edges[e].Queue; q != workflow.None && !slices.Contains(queues, q) {
			queues = append(queues, q)
		}
	}
	for _, e := range s.Plan.Nodes[n].In {
		if s.edges[e] == edgeTaken {
			add(e)
		}
	}
	if s.nodes[n].run > 0 {
		for _, e := range s.Plan.Nodes[n].Back {
			add(e)
		}
	}
	return queues
}

// Queued tells whether some edge to the node has a queue, so that running it may mean to wait.
func (s *State) Queued(n int) bool {
	node := &s.Plan.Nodes[n]
	for _, edges := range [2][]int{node.In, node.Back} {
		for _, e := range edges {
			if s.Plan.Edges[e].Queue != workflow.None {
				return true
			}
		}
	}
	return false
}
