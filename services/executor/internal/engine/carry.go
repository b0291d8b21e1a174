package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// errCarried ends a run whose job has given way to a newer one of the same execution.
var errCarried = errors.New("carried on by a newer job")

// carryAfter is how old the job of a waiting execution may become, unless Config says otherwise: the log
// cannot be trimmed behind it.
const carryAfter = 2 * time.Minute

// idle tells that nothing can be done now or soon.
func (r *run) idle(now time.Time) bool {
	wake := r.state.Deadline()
	for _, step := range r.state.Next(now) {
		w, waits := step.(execution.Wait)
		if !waits {
			return false
		}
		wake = r.sooner(wake, w)
	}
	return wake.Sub(now) > r.engine.cfg.LongWait
}

// sooner is when to look again, with one more node that waits.
func (r *run) sooner(wake time.Time, w execution.Wait) time.Time {
	if wake.IsZero() || w.Until.Before(wake) {
		wake = w.Until
	}
	if d := r.state.NodeDeadline(w.Node, r.engine.cfg.NodeTimeout); d.Before(wake) {
		wake = d
	}
	return wake
}

// park leaves an execution that waits to whoever is free when the time comes.
func (r *run) park(ctx context.Context, wait time.Duration) error {
	r.comeBack = min(wait, r.engine.cfg.CarryAfter)
	if wait < r.engine.cfg.CarryAfter || time.Since(r.job.Record.Stored) < r.engine.cfg.CarryAfter {
		return errHandOver
	}
	carried, err := r.carry(ctx)
	switch {
	case errors.Is(err, bus.ErrConflict):
		return r.refresh(ctx) // perhaps it was cancelled
	case err != nil:
		// It waits all the same; only the log stays longer than it need.
		r.engine.log.Warn("waiting execution not carried on", append(r.fields(), zap.Error(err))...)
		return errHandOver
	case !carried:
		return errHandOver
	}
	return errCarried
}

// carry appends the whole state as a new job, and so the log may be trimmed up to there. It reports false
// for a state that is too large for a commit. Should this process die before the old job is acknowledged,
// the old one is delivered again, and finds the newer.
func (r *run) carry(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	spec, err := r.engine.spec(ctx, r.key.Tenant, r.state.Request)
	if err != nil {
		return false, fmt.Errorf("carry: %w", err)
	}
	event, err := r.state.Carry(spec)
	if err != nil {
		return false, err
	}
	c := protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{{At: protocol.At(time.Now()), Event: event}}}
	if c.Body, err = protocol.EncodeCommit(c); err != nil || len(c.Body) > maxCommit {
		return false, err
	}
	if _, err = r.engine.bus.Append(ctx, r.key, r.seq, c); err != nil {
		return false, fmt.Errorf("carry: %w", err)
	}
	r.engine.metrics.commits.Inc()
	return true, nil
}

// superseded tells whether a newer job than ours carries the execution on.
func (r *run) superseded(records []protocol.Record) bool {
	for _, rec := range records {
		if _, carried := rec.Events[0].Event.(protocol.Carried); carried && rec.Sequence > r.job.Record.Sequence {
			return true
		}
	}
	return false
}
