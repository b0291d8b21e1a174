package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

const (
	maxCommit = 480 << 10 // a commit stays under 512 KiB
	minObject = 1 << 10   // a reference would not be much smaller
	maxObject = 64 << 20  // the largest value anybody reads back
)

// appendTimeout is how long an executor tries to get a commit into the log before it gives the
// execution back; the fence makes it harmless if the commit stood after all.
const appendTimeout = 30 * time.Second

// fullPause is how long a commit waits until it asks again whether a full log takes it.
const fullPause = 250 * time.Millisecond

// commit appends everything that is pending as one message. When somebody outside was first,
// their events are folded and it tries again.
func (r *run) commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	for len(r.pending) > 0 {
		c := protocol.Commit{ID: typeid.New("cmt"), Events: r.pending}
		if err := r.engine.encode(ctx, r.key.Tenant, &c); err != nil {
			return err
		}
		sent := time.Now()
		seq, err := r.engine.bus.Append(ctx, r.key, r.seq, c)
		if errors.Is(err, bus.ErrConflict) {
			if err := r.rebase(ctx); err != nil {
				return err
			}
			continue
		}
		if errors.Is(err, bus.ErrLogFull) && ctx.Err() == nil {
			pause(ctx, fullPause) // given back now, the execution would make its calls again
			continue
		}
		if err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		r.engine.metrics.commits.Inc()
		r.seq, r.pending, r.heft, r.known = seq, nil, 0, sent
		if r.state.Done() {
			r.reply(&c) // with large values moved away already
		}
	}
	return nil
}

// rebase folds what came in between. An end that we had not yet written gives way to it: a
// cancel that was accepted before the end is honoured.
func (r *run) rebase(ctx context.Context) error {
	records, err := r.engine.bus.Load(ctx, r.key, r.seq)
	if err != nil {
		return fmt.Errorf("rebase: %w", err)
	}
	pending := r.pending
	if last := len(pending) - 1; protocol.Terminal(pending[last].Event) && r.state.Plan != nil {
		// The fold cannot go back: build it anew without the end.
		all, err := r.engine.bus.Load(ctx, r.key, 0)
		if err != nil {
			return fmt.Errorf("rebase: %w", err)
		}
		if err := r.merge(records); err != nil {
			return err
		}
		if err := r.engine.resolve(ctx, r.key.Tenant, all); err != nil {
			return fmt.Errorf("rebase: %w", err)
		}
		if err := r.fold(ctx, all); err != nil {
			return err
		}
		r.pending = nil
		for _, e := range pending[:last] {
			r.pending = append(r.pending, e)
			r.state.Apply(e)
		}
		now := time.Now()
		for _, step := range r.state.Next(now) {
			if f, ok := step.(execution.Finish); ok {
				r.record(f.Event, now)
			}
		}
		return nil
	}
	return r.merge(records)
}

// encode renders a commit. When it is too large, its values move to the object store, the largest
// first, until it fits.
func (e *Engine) encode(ctx context.Context, t protocol.TenantID, c *protocol.Commit) error {
	if err := c.Encode(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if len(c.Body) <= maxCommit {
		return nil
	}
	if err := e.offload(ctx, t, c, len(c.Body)-maxCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := c.Encode(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// offload replaces values in a commit by references until it is smaller by excess bytes.
func (e *Engine) offload(ctx context.Context, t protocol.TenantID, c *protocol.Commit, excess int) error {
	type value struct {
		event int
		raw   []byte
	}
	var values []value
	for i, s := range c.Events {
		protocol.MapObject(s.Event, func(o protocol.Object) protocol.Object {
			if raw, err := o.Raw(); err == nil && o.Ref == "" && len(raw) > minObject {
				values = append(values, value{i, raw})
			}
			return o
		})
	}
	slices.SortFunc(values, func(a, b value) int { return len(b.raw) - len(a.raw) })
	c.Events = slices.Clone(c.Events) // the run's own events keep their values
	for _, v := range values {
		if excess <= 0 {
			break
		}
		name, err := e.bus.PutObject(ctx, t, v.raw)
		if err != nil {
			return err
		}
		c.Events[v.event].Event = protocol.MapObject(c.Events[v.event].Event, func(protocol.Object) protocol.Object {
			return protocol.ReferTo(name, len(v.raw))
		})
		excess -= len(v.raw)
	}
	return nil
}

// resolve fetches the values that commits refer to, so that they can be folded.
func (e *Engine) resolve(ctx context.Context, t protocol.TenantID, records []protocol.Record) error {
	for i := range records {
		for j := range records[i].Events {
			var err error
			ev := &records[i].Events[j]
			ev.Event = protocol.MapObject(ev.Event, func(o protocol.Object) protocol.Object {
				if o.Ref == "" || err != nil {
					return o
				}
				var raw []byte
				if raw, err = e.bus.GetObject(ctx, t, o.Ref, maxObject); err != nil {
					return o
				}
				return o.Resolved(raw)
			})
			if err != nil {
				return fmt.Errorf("resolve value of commit %d: %w", records[i].Sequence, err)
			}
		}
	}
	return nil
}

// reply tells the gateway that waits how the execution ended, without what else the commit holds. A lost
// reply costs nothing: the end stands in the log.
func (r *run) reply(c *protocol.Commit) {
	to := r.state.Request.Reply
	if to == "" {
		return
	}
	if err := r.engine.bus.Reply(to, c.Last()); err != nil {
		r.engine.log.Warn("reply not sent", append(r.fields(), zap.Error(err))...)
	}
}
