package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// errHandOver ends a run that is to be taken up again later, here or elsewhere.
var errHandOver = errors.New("handed over")

// longWait is how long a wait may be that holds a slot of the executor, unless Config says otherwise.
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
	seq      uint64                     // of the newest commit we know
	known    time.Time                  // when we last knew that it is the newest
	size     int                        // about how large the values are
	pending  []protocol.Stamped         // applied to the state, not yet committed
	heft     int                        // about how large they are
	started  bool                       // the started event stands, so the outside may be touched
	flying   map[int]context.CancelFunc // nodes that are out; with results made for the first that goes
	results  chan attempt
	comeBack time.Duration // when to be delivered again, after errHandOver
	stopping bool
}

func newRun(e *Engine, j *bus.Job) *run {
	return &run{
		engine: e, job: j, key: j.Key, began: time.Now(), nudged: make(chan struct{}, 1), draining: make(chan struct{}), gone: make(chan struct{}),
	}
}

func (r *run) fields() []zap.Field {
	return []zap.Field{
		zap.String("tenant", string(r.key.Tenant)), zap.String("execution_id", string(r.key.ID)), zap.Int("delivery", r.job.Delivered),
	}
}

// play brings the execution as far as it goes, and returns its terminal event.
func (r *run) play(ctx context.Context) (end protocol.Event, err error) {
	defer close(r.gone)
	defer func() {
		if p := recover(); p != nil {
			end, err = r.panicked(ctx, p)
		}
	}()
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	if r.state.Done() {
		end := protocol.Commit{Events: []protocol.Stamped{{At: protocol.At(time.Now()), Event: r.state.End}}}
		if end.Encode() == nil { // else the gateway finds it in the log
			r.reply(&end)
		}
		return r.state.End, nil
	}
	defer r.ground()
	if r.job.Delivered > 1 && !r.idle(time.Now()) {
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

// load folds the log. The job of a first delivery is all there is, unless it is a cancel, or somebody
// outside has added to it already: then the first commit finds out.
func (r *run) load(ctx context.Context) error {
	records := []protocol.Record{r.job.Record}
	if _, cancel := r.job.Record.Events[0].Event.(protocol.CancelRequested); cancel || r.job.Delivered > 1 {
		var err error
		if records, err = r.engine.bus.Load(ctx, r.key, 0); err != nil {
			return fmt.Errorf("load: %w", err)
		}
		if r.superseded(records) {
			return errCarried
		}
	}
	if err := r.engine.resolve(ctx, r.key.Tenant, records); err != nil {
		r.seq = records[len(records)-1].Sequence
		return r.unplayable(ctx, err)
	}
	return r.fold(ctx, records)
}

// fold makes the state from commits whose values have been resolved.
func (r *run) fold(ctx context.Context, records []protocol.Record) error {
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
	r.state, r.known, r.size = s, time.Now(), weightOf(records)
	return nil
}

// looks is how many deliveries must find that something is gone: one of a bucket's replicas may lag behind.
const looks = 3

// unplayable ends an execution whose spec is gone or does not compile, or of which a value is gone: no retry can help it.
func (r *run) unplayable(ctx context.Context, cause error) error {
	var invalid *workflow.InvalidError
	var shape *workflow.ShapeError
	gone := errors.Is(cause, bus.ErrNotFound) && r.job.Delivered >= looks
	if !gone && !errors.As(cause, &invalid) && !errors.As(cause, &shape) {
		return cause
	}
	return r.giveUp(ctx, protocol.Failure{Code: protocol.CodeSpecUnavailable, Message: cause.Error()})
}

// giveUp ends an execution that has no state.
func (r *run) giveUp(ctx context.Context, f protocol.Failure) error {
	r.state = &execution.State{ID: r.key.ID, Tenant: r.key.Tenant, Request: requestOf(r.job.Record)}
	r.record(protocol.Failed{Error: f, Totals: protocol.Totals{Cost: "0"}}, time.Now())
	return r.commit(ctx)
}

// panicked keeps a bug that one execution brings out from ending all others here. The execution is
// taken up again, and counted as one that executors stop over. Without a state that would never end.
func (r *run) panicked(ctx context.Context, p any) (protocol.Event, error) {
	r.engine.logger(ctx).Error("execution panicked", append(r.fields(), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))...)
	r.ground()
	if r.state != nil {
		return nil, fmt.Errorf("panic: %v", p)
	}
	last, err := r.engine.bus.Last(ctx, r.key)
	if err != nil {
		return nil, fmt.Errorf("after a panic: %w", err)
	}
	r.seq = last.Sequence
	if err := r.giveUp(ctx, protocol.Failure{Code: protocol.CodeInternal, Message: "the platform cannot read this execution; it has been recorded"}); err != nil {
		return nil, err
	}
	return r.state.End, nil
}

// requestOf is the request that a job holds; a cancel holds none.
func requestOf(rec protocol.Record) protocol.Requested {
	first := rec.Events[0].Event
	if carried, ok := first.(protocol.Carried); ok {
		return carried.Requested
	}
	req, _ := first.(protocol.Requested)
	return req
}

// takeOver notes that another executor begins. An execution over which too many have died ends.
func (r *run) takeOver(ctx context.Context) error {
	r.engine.metrics.takeovers.Inc()
	if r.state.Deliveries >= r.engine.cfg.Takeovers {
		r.engine.metrics.exhausted.Inc()
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
	w := weightOfEvent(e, weight)
	r.size += w
	r.heft += w
	s := protocol.Stamped{At: protocol.At(now), Event: e}
	r.pending = append(r.pending, s)
	r.state.Apply(s)
}

// advance does everything that can be done now: it runs pure nodes, commits, starts the nodes
// that touch the outside, and finishes. It returns when to look again at the latest.
func (r *run) advance(ctx context.Context) (time.Time, error) {
	entered := time.Now()
	for {
		now := time.Now()
		if most := r.engine.cfg.MaxState; r.size > most && most > 0 {
			r.ground()
			r.record(r.state.Abort(protocol.Failure{
				Code:    protocol.CodeStateTooLarge,
				Message: fmt.Sprintf("the values of this execution take more than %d bytes", most),
			}, now), now)
			return time.Time{}, r.commit(ctx)
		}
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
				wake = r.sooner(wake, step)
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
				if _, failed := e.(protocol.NodeFailed); failed || r.full() {
					break steps
				}
			}
		}
		if again {
			if r.full() {
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
		if r.doubtful(entered) {
			if err := r.refresh(ctx); err != nil {
				return wake, err
			}
			continue // a cancel may have come
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

// full tells whether what is pending should be committed before more is done.
func (r *run) full() bool { return len(r.pending) >= maxPending || r.heft > maxCommit }

func (r *run) outside(n int) bool {
	return !r.state.Plan.Nodes[n].Pure || r.state.Queued(n)
}

// doubtful tells that no commit will stand between now and the next outside call, after the wait for a retry: another
// executor may have taken over meanwhile. No wait is too short for that, for a server that restarts delivers at once
// what was not acknowledged while it was away.
func (r *run) doubtful(since time.Time) bool {
	return r.started && len(r.pending) == 0 && r.known.Before(since)
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
		if d := time.Until(wake); d > r.engine.cfg.LongWait {
			return r.park(ctx, d)
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
	asked := time.Now()
	records, err := r.engine.bus.Load(ctx, r.key, r.seq)
	if errors.Is(err, bus.ErrNotFound) || len(records) == 0 && err == nil {
		r.known = asked
		return nil
	}
	if err != nil {
		return fmt.Errorf("refresh: %w", err)
	}
	r.known = asked
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
