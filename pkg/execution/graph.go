package execution

import (
	"fmt"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// settle closes a node (done or dead) and follows what that decides: its edges, the nodes that
// die with them, the loops that end a round with them. It works off a list, for graphs may be
// long chains.
func (s *State) settle(n int, status nodeStatus, taken []int, at time.Time) {
	s.close(n, status)
	for _, e := range taken {
		// The log is read back years later: an edge that is not this node's is no reason to fall over.
		if e >= 0 && e < len(s.edges) && s.Plan.Edges[e].From == n {
			s.edges[e] = edgeTaken
		}
	}
	work := []int{n}
	for len(work) > 0 {
		n := work[len(work)-1]
		work = work[:len(work)-1]
		for _, e := range s.Plan.Nodes[n].Out {
			if s.edges[e] == edgeOpen {
				s.edges[e] = edgeDead
			}
			if len(s.Plan.Edges[e].Exits) == 0 {
				work = s.arrive(e, at, work)
			}
		}
		work = s.leave(n, at, work)
	}
}

func (s *State) close(n int, status nodeStatus) {
	s.unready(n)
	s.nodes[n].status = status
	s.nodes[n].limited, s.nodes[n].last = nil, nil
	s.open--
}

// arrive brings a settled edge to its target, which may become ready, or die and join the work.
func (s *State) arrive(e int, at time.Time, work []int) []int {
	edge := &s.Plan.Edges[e]
	if edge.Back {
		if s.edges[e] == edgeTaken {
			s.loops[edge.Loop].repeat = true
		}
		return work
	}
	if edge.To == workflow.End {
		return work
	}
	t := &s.nodes[edge.To]
	t.open--
	if s.edges[e] == edgeTaken {
		t.taken++
	}
	if t.open > 0 || t.status != nodeOpen {
		return work
	}
	if t.taken > 0 {
		s.makeReady(edge.To, at)
		return work
	}
	s.close(edge.To, nodeDead)
	return append(work, edge.To)
}

// leave tells the loops around a settled node, innermost first. A loop whose round is over
// either opens again or lets go of the edges that lead out of it.
func (s *State) leave(n int, at time.Time, work []int) []int {
	for l := s.Plan.Nodes[n].Loop; l != workflow.None; l = s.Plan.Loops[l].Parent {
		s.loops[l].open--
	}
	for l := s.Plan.Nodes[n].Loop; l != workflow.None; l = s.Plan.Loops[l].Parent {
		if s.loops[l].open > 0 {
			return work
		}
		if s.loops[l].repeat {
			s.repeat(l, at)
			return work
		}
		s.loops[l].active = false
		for _, e := range s.Plan.Loops[l].Exits {
			exits := s.Plan.Edges[e].Exits
			if exits[len(exits)-1] == l {
				work = s.arrive(e, at, work)
			}
		}
	}
	return work
}

// repeat opens the body of a loop for another round. Edges that lead out of it keep what they
// are if they were taken; everything inside is open again.
func (s *State) repeat(l int, at time.Time) {
	lp, plan := &s.loops[l], &s.Plan.Loops[l]
	lp.round++
	s.rounds++
	header := s.Plan.Nodes[plan.Header].ID
	switch {
	case lp.round > s.MaxIterations():
		s.fail(protocol.Failure{
			Code: protocol.CodeLoopLimit, Node: header,
			Message: fmt.Sprintf("the loop at node %q ran again %d times, which is the limit (max_iterations)", header, lp.round-1),
		})
		return
	case s.rounds > maxRounds:
		s.fail(protocol.Failure{
			Code: protocol.CodeLoopLimit, Node: header,
			Message: fmt.Sprintf("all loops together ran again %d times, which is the limit; the last was the loop at node %q", s.rounds-1, header),
		})
		return
	}
	s.reopen(l)
	for outer := plan.Parent; outer != workflow.None; outer = s.Plan.Loops[outer].Parent {
		s.loops[outer].open += len(plan.Body)
	}
	s.makeReady(plan.Header, at)
}

func (s *State) reopen(l int) {
	body := s.Plan.Loops[l].Body
	s.open += len(body)
	for _, n := range body {
		s.nodes[n] = node{run: s.nodes[n].run + s.ran(n)}
	}
	s.loops[l] = loop{open: len(body), round: s.loops[l].round, active: true}
	for _, n := range body {
		// The loops inside are found by their headers, so that this costs what the body costs.
		if i := s.Plan.Nodes[n].Loop; i != l && s.Plan.Loops[i].Header == n {
			s.loops[i] = loop{open: len(s.Plan.Loops[i].Body), active: true}
		}
		for _, e := range s.Plan.Nodes[n].Out {
			if s.edges[e] == edgeDead || !s.leaves(e, l) {
				s.edges[e] = edgeOpen
			}
			if edge := &s.Plan.Edges[e]; !edge.Back && edge.To != workflow.End && !s.leaves(e, l) {
				s.nodes[edge.To].open++
			}
		}
	}
	s.nodes[s.Plan.Loops[l].Header].open = 0
}

func (s *State) ran(n int) int {
	if s.nodes[n].status == nodeDone {
		return 1
	}
	return 0
}

func (s *State) leaves(e, l int) bool {
	for _, x := range s.Plan.Edges[e].Exits {
		if x == l {
			return true
		}
	}
	return false
}
