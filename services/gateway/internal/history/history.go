// Package history reads what is known of executions: from the hot log while it holds them, which
// is exact to the last commit, and from catalog's archive when it does not.
//
// It decides nothing about an execution: that is package execution's business, in the executor.
package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// maxObject bounds a value fetched from the object store.
const maxObject = 64 << 20

// Reader reads executions. It is safe for concurrent use.
type Reader struct{ bus *bus.Bus }

// New makes a reader.
func New(b *bus.Bus) *Reader { return &Reader{bus: b} }

// Get returns an execution. A *protocol.Error of catalog says why there is none for this tenant.
func (r *Reader) Get(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID) (*protocol.Execution, error) {
	records, err := r.bus.Load(ctx, r.bus.Key(t, id), 0)
	if errors.Is(err, bus.ErrNotFound) {
		return r.archived(ctx, t, id)
	}
	if err != nil {
		return nil, fmt.Errorf("load execution %s: %w", id, errors.Join(bus.ErrUnavailable, err))
	}
	e := r.begin(ctx, t, id, records[0])
	f := fold{execution: e}
	for _, rec := range records {
		if rec.Sequence > e.LastSequence {
			f.apply(rec)
		}
	}
	f.close()
	return e, r.resolve(ctx, t, e, f)
}

// begin is the execution before its first record is applied. A carried record stands for all that
// was before it, of which the tables know more than the log.
func (r *Reader) begin(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID, first protocol.Record) *protocol.Execution {
	if _, carried := first.Events[0].Event.(protocol.Carried); carried {
		if e, err := r.archived(ctx, t, id); err == nil {
			return e
		}
		// Without the tables there is still the state itself.
	}
	return &protocol.Execution{ID: id, Tenant: t, Status: "PENDING", Cost: "0"}
}

func (r *Reader) archived(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID) (*protocol.Execution, error) {
	e, err := bus.Request(ctx, r.bus, protocol.GetExecution, protocol.GetExecutionRequest{Tenant: t, ID: id})
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// resolve fills in the states that an execution's events hold or refer to.
func (r *Reader) resolve(ctx context.Context, t protocol.TenantID, e *protocol.Execution, f fold) error {
	if !f.input.IsZero() {
		raw, err := r.Value(ctx, t, f.input)
		if err != nil {
			return fmt.Errorf("initial state of %s: %w", e.ID, err)
		}
		e.InitialState = raw
	}
	if !f.final.IsZero() {
		raw, err := r.Value(ctx, t, f.final)
		if err != nil {
			return fmt.Errorf("final state of %s: %w", e.ID, err)
		}
		e.FinalState = raw
	}
	return nil
}

// Value is the JSON of an object, fetched if need be.
func (r *Reader) Value(ctx context.Context, t protocol.TenantID, o protocol.Object) (json.RawMessage, error) {
	if o.Ref == "" {
		return o.Raw()
	}
	raw, err := r.bus.GetObject(ctx, t, o.Ref, maxObject)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		err = errors.Join(bus.ErrUnavailable, err)
	}
	return raw, err
}

// Ended returns the terminal event of an execution that the archive knows, nil when it knows none. It is the event
// as it was committed, to the byte, while the archive keeps the commit; after that, what the row says.
func (r *Reader) Ended(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID) (protocol.Event, error) {
	e, err := r.archived(ctx, t, id)
	if protocol.CodeOf(err) == protocol.CodeNotFound {
		return nil, nil //nolint:nilnil // not known is an answer
	}
	if err != nil {
		return nil, err
	}
	if e.LastSequence > 0 {
		last, err := r.archive(ctx, t, id, e.LastSequence-1, 0)
		if err != nil && protocol.CodeOf(err) != protocol.CodeNotFound {
			return nil, err
		}
		if len(last) > 0 {
			if end := last[len(last)-1].End(); end != nil {
				return end, nil
			}
		}
	}
	totals := protocol.Totals{TokensUsed: e.TokensUsed, Cost: e.Cost.String(), NodesRun: e.NodesRun}
	if e.DurationMS != nil {
		totals.DurationMS = *e.DurationMS
	}
	state := protocol.RawObject(e.FinalState)
	switch e.Status {
	case "COMPLETED":
		return protocol.Completed{State: state, Totals: totals}, nil
	case "FAILED":
		failed := protocol.Failed{State: state, Totals: totals}
		if e.Error != nil {
			failed.Error = *e.Error
		}
		return failed, nil
	case "TIMED_OUT":
		timedOut := protocol.TimedOut{State: state, Totals: totals}
		if e.Timeout != nil {
			timedOut.Scope, timedOut.Node, timedOut.ElapsedMS = e.Timeout.Scope, e.Timeout.Node, e.Timeout.ElapsedMS
		}
		return timedOut, nil
	case "CANCELLED":
		return protocol.Cancelled{State: state, Totals: totals}, nil
	}
	// The tables know it as unfinished, so the log still holds it: whoever asks can wait there.
	return nil, fmt.Errorf("execution %s has not ended: %w", id, bus.ErrUnavailable)
}

// Commits returns the commits of an execution after a sequence, in order, from the log or else
// from the archive. The error of an execution that is in neither says so.
func (r *Reader) Commits(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID, after uint64) ([]protocol.Record, error) {
	records, err := r.bus.Load(ctx, r.bus.Key(t, id), after)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return r.archive(ctx, t, id, after, 0)
	case err != nil:
		return nil, fmt.Errorf("load execution %s: %w", id, errors.Join(bus.ErrUnavailable, err))
	case len(records) > 0 && records[0].Previous > after:
		// The log begins at a carried commit: what was before it stands in the archive.
		before, err := r.archive(ctx, t, id, after, records[0].Sequence)
		if err != nil {
			return nil, err
		}
		return append(before, records...), nil
	}
	return records, nil
}

// archive reads commits after one sequence and before another; 0 means to the end.
func (r *Reader) archive(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID, after, before uint64) ([]protocol.Record, error) {
	var out []protocol.Record
	for {
		page, err := bus.Request(ctx, r.bus, protocol.GetExecutionCommits, protocol.GetExecutionCommitsRequest{Tenant: t, ID: id, After: after})
		if err != nil {
			return nil, err
		}
		for _, c := range page.Commits {
			if before > 0 && c.Sequence >= before {
				return out, nil
			}
			rec, err := c.Record()
			if err != nil {
				return nil, fmt.Errorf("archive of %s: %w", id, err)
			}
			out = append(out, rec)
			after = c.Sequence
		}
		if !page.HasMore || len(page.Commits) == 0 {
			return out, nil
		}
	}
}
