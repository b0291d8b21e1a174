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
	"github.com/agentflow/agentflow/pkg/workflow"
)

// errHandOver ends a run that is to be taken up again later, here or elsewhere.
var errHandOver = errors.New("handed over")

// longWait is how long a wait may be that holds a slot of the executor.
const longWait = 5 * time.Second

// run is one execution in the hands of this process. Its goroutine alone touches it, but for
// the channels.
type run struct {
	engine   *Engine
	job      *bus.Job
	key      protocol.ExecutionKey
	began    time.Time
	nudged   chan struct{}
	draining chan struct{}
	gone     chan struct{} // closed when nobody takes results any more

	state    *execution.State
	seq      uint64             // of the newest commit we know
	pending  []protocol.Stamped // applied to the state, not yet committed
	started  bool               // the started event stands, so the outside may be touched
	flying   map[int]context.CancelFunc
	results  chan attempt
	comeBack time.Duration // when to be delivered again, after errHandOver
	stopping bool
}

func newRun(e *Engine, j *bus.Job) *run {
	return &run{
		engine: e, job: j, key: j.Key, began: time.Now(), nudged: make(chan struct{}, 1), draining: make(chan struct{}), gone: make(chan struct{}),
		flying: map[int]context.CancelFunc{}, results: make(chan attempt, 16),
	}
}

func (r *run) fields() []zap.Field {
	return []zap.Field{
		zap.String("tenant", string(r.key.Tenant)), zap.String("execution_id", string(r.key.ID)), zap.Int("delivery", r.job.Delivered),
	}
}

// play brings the execution as far as it goes, and returns its terminal event.
func (r *run) play(ctx context.Context) (protocol.Event, error) {
	defer close(r.gone)
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	if r.state.Done() {
		r.reply(encodeEnd(protocol.Stamped{At: protocol.At(time.Now()), Event: r.state.End}))
		return r.state.End, nil
	}
	defer r.ground()
	if r.job.Delivered > 1 {
		if err := r.takeOver(ctx); err != nil {
			return nil, err
		}
	}
	for {
		wake, err := r.advance(ctx)
		if err != nil {
			return nil, err
		}
		if r.state.Done() {
			return r.state.End, nil
		}
		if err := r.wait(ctx, wake); err != nil {
			return nil, err
		}
	}
}

// load folds the log. The job of a first delivery is all there is, unless somebody outside has
// added to it already: then the first commit finds out.
func (r *run) load(ctx context.Context) error {
	records := []protocol.Record{r.job.Record}
	if r.job.Delivered > 1 {
		var err error
		if records, err = r.engine.bus.Load(ctx, r.key, 0); err != nil {
			return fmt.Errorf("load: %w", err)
		}
	}
	return r.fold(ctx, records)
}

func (r *run) fold(ctx context.Context, records []protocol.Record) error {
	if err := r.engine.resolve(ctx, r.key.Tenant, records); err != nil {
		return err
	}
	s, err := execution.Fold(r.key, records, func(req protocol.Requested) (*workflow.Plan, error) {
		return r.engine.plan(ctx, r.key.Tenant, req)
	})
	r.seq = records[len(records)-1].Sequence
	if err != nil {
		return r.unplayable(ctx, err)
	}
	if missing := s.Missing(); len(missing) > 0 {
		return fmt.Errorf("the values of nodes %v could not be read", missing)
	}
	r.state = s
	return nil
}

// unplayable ends an execution whose spec is gone or does not compile: no retry can help it.
func (r *run) unplayable(ctx context.Context, cause error) error {
	var invalid *workflow.InvalidError
	var shape *workflow.ShapeError
	if !errors.Is(cause, bus.ErrNotFound) && !errors.As(cause, &invalid) && !errors.As(cause, &shape) {
		return cause
	}
	now := time.Now()
	end := protocol.Failed{Error: protocol.Failure{Code: protocol.CodeSpecUnavailable, Message: cause.Error()}, Totals: protocol.Totals{Cost: "0"}}
	r.state = &execution.State{ID: r.key.ID, Tenant: r.key.Tenant, Request: requestOf(r.job.Record)}
	r.record(end, now)
	return r.commit(ctx)
}

func requestOf(rec protocol.Record) protocol.Requested {
	req, _ := rec.Events[0].Event.(protocol.Requested)
	return req
}

// takeOver notes that another executor begins. An execution over which too many have died ends.
func (r *run) takeOver(ctx context.Context) error {
	r.engine.metrics.takeovers.Inc()
	if r.state.Deliveries >= r.engine.cfg.Takeovers {
		r.record(r.state.Abort(protocol.Failure{
			Code:    protocol.CodeDeliveryExhausted,
			Message: fmt.Sprintf("%d executors stopped while they ran this execution; it is not tried again", r.state.Deliveries),
		}, time.Now()), time.Now())
		return r.commit(ctx)
	}
	return r.begin(ctx)
}

// begin commits the started event, once per delivery.
func (r *run) begin(ctx context.Context) error {
	if !r.started {
		r.record(protocol.Started{Executor: r.engine.cfg.Name, Delivery: r.state.Deliveries + 1}, time.Now())
		r.started = true
	}
	return r.commit(ctx)
}

// record stamps an event, applies it, and keeps it for the next commit.
func (r *run) record(e protocol.Event, now time.Time) {
	s := protocol.Stamped{At: protocol.At(now), Event: e}
	r.pending = append(r.pending, s)
	r.state.Apply(s)
}

// advance does everything that can be done now: it runs pure nodes, commits, starts the nodes
// that touch the outside, and finishes. It returns when to look again at the latest.
func (r *run) advance(ctx context.Context) (time.Time, error) {
	for {
		now := time.Now()
		var outside []execution.Run
		wake := r.state.Deadline()
		again := false
	steps:
		for _, step := range r.state.Next(now) {
			switch step := step.(type) {
			case execution.Finish:
				r.ground()
				r.record(step.Event, now)
				return time.Time{}, r.commit(ctx)
			case execution.Wait:
				if wake.IsZero() || step.Until.Before(wake) {
					wake = step.Until
				}
				if d := r.state.NodeDeadline(step.Node, r.engine.cfg.NodeTimeout); d.Before(wake) {
					wake = d
				}
			case execution.Run:
				if _, flies := r.flying[step.Node]; flies {
					continue
				}
				if r.outside(step.Node) {
					outside = append(outside, step)
					continue
				}
				e := r.engine.pure(ctx, r, step)
				r.record(e, time.Now())
				again = true
				if _, failed := e.(protocol.NodeFailed); failed || len(r.pending) >= maxPending {
					break steps
				}
			}
		}
		if again {
			if len(r.pending) >= maxPending {
				if err := r.commit(ctx); err != nil {
					return wake, err
				}
			}
			continue
		}
		if r.stopping {
			return wake, r.flush(ctx)
		}
		if len(outside) == 0 {
			return wake, r.flush(ctx)
		}
		if err := r.begin(ctx); err != nil {
			return wake, err
		}
		if r.state.Done() {
			return wake, nil
		}
		for _, step := range outside {
			r.launch(ctx, step)
		}
		return wake, nil
	}
}

// maxPending bounds what a crash may cost to do again, and the size of a commit.
const maxPending = 500

func (r *run) outside(n int) bool {
	return !r.state.Plan.Nodes[n].Pure || r.state.Queued(n)
}

// flush commits what is pending, if anything is.
func (r *run) flush(ctx context.Context) error {
	if len(r.pending) == 0 {
		return nil
	}
	return r.commit(ctx)
}

// wait sleeps until a node returns, somebody nudges, the moment wake comes, or the engine stops.
func (r *run) wait(ctx context.Context, wake time.Time) error {
	if len(r.flying) == 0 {
		if r.stopping {
			return errHandOver
		}
		if d := time.Until(wake); d > longWait {
			// Nothing runs: whoever is free when the time comes goes on.
			r.comeBack = d
			return errHandOver
		}
	}
	if wake.IsZero() {
		wake = time.Now().Add(time.Minute)
	}
	timer := time.NewTimer(max(0, time.Until(wake)))
	defer timer.Stop()
	draining := r.draining
	if r.stopping {
		draining = nil
	}
	select {
	case a := <-r.results:
		r.landed(a)
		// Branches that ended together are committed together.
		for len(r.results) > 0 {
			r.landed(<-r.results)
		}
	case <-r.nudged:
		return r.refresh(ctx)
	case <-timer.C:
	case <-draining:
		r.stopping = true
	case <-ctx.Done():
		return errHandOver
	}
	return nil
}

func (r *run) landed(a attempt) {
	cancel, ok := r.flying[a.run.Node]
	if a.limited != nil {
		if ok {
			r.record(*a.limited, a.ended)
		}
		return
	}
	if ok {
		cancel()
		delete(r.flying, a.run.Node)
		r.record(r.engine.conclude(r, a), a.ended)
	}
}

// ground cancels every node that is still out and forgets its result.
func (r *run) ground() {
	for n, cancel := range r.flying {
		cancel()
		delete(r.flying, n)
	}
}

// refresh reads what others have appended: a cancel.
func (r *run) refresh(ctx context.Context) error {
	records, err := r.engine.bus.Load(ctx, r.key, r.seq)
	if errors.Is(err, bus.ErrNotFound) || len(records) == 0 && err == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("refresh: %w", err)
	}
	return r.merge(records)
}

// merge folds commits that others made: those from outside are welcome, those of another
// executor mean that it has taken over.
func (r *run) merge(records []protocol.Record) error {
	for _, rec := range records {
		for _, e := range rec.Events {
			if _, ok := e.Event.(protocol.CancelRequested); !ok {
				return fmt.Errorf("commit %d is another executor's: %w", rec.Sequence, bus.ErrConflict)
			}
		}
	}
	r.state.Follow(records)
	r.seq = records[len(records)-1].Sequence
	return nil
}
