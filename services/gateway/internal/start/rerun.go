package start

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// Rerun names an execution that is to be run once more.
type Rerun struct {
	Of   protocol.ExecutionID
	From string // the node to begin at; "" for the beginning
}

const (
	// maxReused bounds the results that stand in the first commit: with the request they stay under 512 KiB.
	maxReused = 192 << 10
	// minReference is the smallest value worth a reference.
	minReference = 1 << 10
	// maxObject is the largest value that anybody reads back.
	maxObject = 64 << 20
)

// again makes the first commit of an execution that repeats another one: the same document, input,
// limits and tags, and, when it begins at a node, what the other had committed before it. All of it
// is one message, so there is no moment at which half of it stands.
func (s *Service) again(ctx context.Context, o *Order) (protocol.Requested, error) {
	records, err := s.archive.Commits(ctx, o.Tenant, o.Rerun.Of, 0)
	if err != nil {
		return protocol.Requested{}, fmt.Errorf("rerun %s: %w", o.Rerun.Of, err)
	}
	first, ok := records[0].Events[0].Event.(protocol.Requested)
	if !ok {
		return protocol.Requested{}, &protocol.Error{Code: protocol.CodeConflict, Message: "the beginning of this execution is not kept any more"}
	}
	if last := records[len(records)-1]; last.End() == nil {
		return protocol.Requested{}, &protocol.Error{Code: protocol.CodeConflict, Message: "the execution has not ended: cancel it first, or wait"}
	}
	if err := s.runnable(ctx, o.Tenant, first.WorkflowID); err != nil {
		return protocol.Requested{}, err
	}
	doc, err := s.document(ctx, o.Tenant, first)
	if err != nil {
		return protocol.Requested{}, err
	}
	if o.Rerun.From != "" {
		if o.reused, err = s.reuse(ctx, o, doc, records); err != nil {
			return protocol.Requested{}, err
		}
	}
	req := first
	req.Reply, req.RerunOf, req.Actor, req.RequestID = "", o.Rerun.Of, o.Actor, o.RequestID
	if req.Input, err = s.own(ctx, o.Tenant, first.Input); err != nil {
		return protocol.Requested{}, err
	}
	timeout := s.defaults.Timeout
	if asked := records[0].Events[0].At; !first.Deadline.IsZero() {
		timeout = first.Deadline.Sub(asked.Time)
	}
	req.Deadline = protocol.At(s.now().Add(timeout))
	return req, nil
}

// runnable refuses to run again what may not be run at all any more.
func (s *Service) runnable(ctx context.Context, t protocol.TenantID, workflowID string) error {
	if workflowID == "" {
		return nil
	}
	_, err := s.stored(ctx, Order{Tenant: t, WorkflowID: workflowID})
	if errors.Is(err, bus.ErrNotFound) {
		return &protocol.Error{Code: protocol.CodeConflict, Message: "workflow " + workflowID + " has been deleted"}
	}
	return err
}

// document is the resolved spec that an execution ran, renewed in the bucket when it stands there.
func (s *Service) document(ctx context.Context, t protocol.TenantID, req protocol.Requested) (json.RawMessage, error) {
	if len(req.Spec) > 0 {
		return req.Spec.Document()
	}
	doc, err := s.log.GetSpec(ctx, t, req.SpecHash)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil, &protocol.Error{
			Code:    protocol.CodeConflict,
			Message: "the document of this execution is not kept any more: it was larger than 16 KiB and has not been run for 24 hours; execute the workflow anew",
		}
	case err != nil:
		return nil, fmt.Errorf("document of the execution: %w", errors.Join(bus.ErrUnavailable, err))
	}
	if err := s.log.PutSpec(ctx, t, req.SpecHash, doc); err != nil {
		return nil, fmt.Errorf("keep workflow: %w", errors.Join(bus.ErrUnavailable, err))
	}
	return doc, nil
}

// reuse picks what stands before a node: every result committed before the node was reached for the
// last time, and those of nodes that do not follow from it.
func (s *Service) reuse(ctx context.Context, o *Order, doc json.RawMessage, records []protocol.Record) ([]protocol.Event, error) {
	spec, err := workflow.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("document of %s: %w", o.Rerun.Of, err)
	}
	plan, err := workflow.Compile(spec)
	if err != nil {
		return nil, fmt.Errorf("document of %s: %w", o.Rerun.Of, err)
	}
	from, ok := plan.NodeIndex(o.Rerun.From)
	if !ok {
		return nil, &protocol.Error{Code: protocol.CodeInvalid, Field: "body.from_node", Message: "the workflow of this execution has no node " + o.Rerun.From}
	}
	results, reached, err := s.replay(o, plan, from, records)
	if err != nil {
		return nil, err
	}
	if reached < 0 {
		return nil, &protocol.Error{
			Code: protocol.CodeConflict, Field: "body.from_node",
			Message: "node " + o.Rerun.From + " was never reached: the nodes before it did not complete, or its path was not taken",
		}
	}
	after := followers(plan, from)
	var kept []protocol.Event
	for i, e := range results {
		if n, known := plan.NodeIndex(nodeOf(e)); known && (i < reached || !after[n]) {
			kept = append(kept, e)
		}
	}
	return s.pack(ctx, o.Tenant, kept)
}

// replay folds an execution up to its end. It returns the results in it, as they are taken over, and
// how many of them stood before the node was reached for the last time; less than 0: never.
func (s *Service) replay(o *Order, plan *workflow.Plan, from int, records []protocol.Record) (results []protocol.Event, reached int, err error) {
	first, _ := records[0].Events[0].Event.(protocol.Requested)
	first.Input = protocol.Object{} // which way it went stands in the events; the values do not matter
	state, err := execution.New(s.log.Key(o.Tenant, o.Rerun.Of), plan, first, records[0].Events[0].At.Time)
	if err != nil {
		return nil, 0, fmt.Errorf("rerun %s: %w", o.Rerun.Of, err)
	}
	reached = -1
	run := -1
	look := func() {
		// A node that is reached again, in a loop, has run once more by then.
		if slices.Contains(state.CurrentNodes(), o.Rerun.From) && state.Iteration(from) != run {
			reached, run = len(results), state.Iteration(from)
		}
	}
	look()
	for _, rec := range records {
		for _, e := range rec.Events {
			state.Apply(e)
			if taken, ok := takenOver(e.Event); ok {
				results = append(results, taken)
			}
			look()
		}
	}
	return results, reached, nil
}

// takenOver is a result as another execution has it: not run, so it takes no time and costs nothing.
// That there was no attempt says so.
func takenOver(e protocol.Event) (protocol.Event, bool) {
	switch e := e.(type) {
	case protocol.NodeCompleted:
		e.Attempt, e.Tokens, e.Cost, e.StartedAt, e.DurationMS = 0, 0, "", protocol.Time{}, 0
		return e, true
	case protocol.NodeFailed:
		e.Attempt, e.StartedAt, e.DurationMS = 0, protocol.Time{}, 0
		return e, e.Handled
	default:
		return nil, false
	}
}

func nodeOf(e protocol.Event) string {
	switch e := e.(type) {
	case protocol.NodeCompleted:
		return e.Node
	case protocol.NodeFailed:
		return e.Node
	default:
		return ""
	}
}

// followers are a node and all that can be reached from it.
func followers(plan *workflow.Plan, from int) map[int]bool {
	out := map[int]bool{from: true}
	for work := []int{from}; len(work) > 0; {
		n := work[0]
		work = work[1:]
		for _, e := range plan.Nodes[n].Out {
			if to := plan.Edges[e].To; to != workflow.End && !out[to] {
				out[to] = true
				work = append(work, to)
			}
		}
	}
	return out
}

// pack makes results small enough for one commit: the largest values move to the object store. Those
// that stand there already are copied, for the objects of an execution end with it.
func (s *Service) pack(ctx context.Context, t protocol.TenantID, results []protocol.Event) ([]protocol.Event, error) {
	total := 0
	sizes := make([]int, len(results))
	for i, e := range results {
		var err error
		results[i] = protocol.MapObject(e, func(v protocol.Object) protocol.Object {
			var copied protocol.Object
			if copied, err = s.own(ctx, t, v); err != nil {
				return v
			}
			return copied
		})
		if err != nil {
			return nil, err
		}
		raw, err := json.Marshal(results[i])
		if err != nil {
			return nil, fmt.Errorf("result of node %s: %w", nodeOf(e), err)
		}
		sizes[i] = len(raw)
		total += len(raw)
	}
	order := make([]int, len(results))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(sizes[b], sizes[a]) })
	for _, i := range order {
		if total <= maxReused || sizes[i] < minReference {
			break
		}
		var err error
		results[i] = protocol.MapObject(results[i], func(v protocol.Object) protocol.Object {
			raw, rerr := v.Raw()
			if v.Ref != "" || rerr != nil {
				return v
			}
			var name string
			if name, err = s.log.PutObject(ctx, t, raw); err != nil {
				return v
			}
			total -= len(raw)
			return protocol.ReferTo(name, len(raw))
		})
		if err != nil {
			return nil, fmt.Errorf("keep result: %w", errors.Join(bus.ErrUnavailable, err))
		}
	}
	if total > maxReused {
		return nil, &protocol.Error{
			Code: protocol.CodeTooLarge, Field: "body.from_node",
			Message: fmt.Sprintf("%d results stand before this node, which is more than a rerun can take over; run it from the beginning", len(results)),
		}
	}
	return results, nil
}

// own makes a value the new execution's own.
func (s *Service) own(ctx context.Context, t protocol.TenantID, v protocol.Object) (protocol.Object, error) {
	if v.Ref == "" {
		return v, nil
	}
	raw, err := s.log.GetObject(ctx, t, v.Ref, maxObject)
	if errors.Is(err, bus.ErrNotFound) {
		return v, &protocol.Error{Code: protocol.CodeConflict, Message: "a large value of this execution is not kept any more"}
	}
	if err != nil {
		return v, fmt.Errorf("read value: %w", errors.Join(bus.ErrUnavailable, err))
	}
	name, err := s.log.PutObject(ctx, t, raw)
	if err != nil {
		return v, fmt.Errorf("keep value: %w", errors.Join(bus.ErrUnavailable, err))
	}
	return protocol.ReferTo(name, len(raw)), nil
}
