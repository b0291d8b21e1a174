// Package engine runs executions: it takes jobs, folds their log, does what the fold says is
// next, and appends what happened. One goroutine owns an execution; the nodes it starts only
// send results back.
//
// The order of things is what makes it durable. Nothing outside is touched before the commit
// that says so stands, and what a node brought stands before anything is done that follows from
// it. Whoever loses the fence of an execution lets go of it: another executor has taken over.
package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/node"
)

// Config is how an engine works.
type Config struct {
	Name        string        // of this executor, in started events
	Concurrency int           // executions at a time
	AckWait     time.Duration // silence after which another executor takes over
	Takeovers   int           // how many executors may die over one execution
	NodeTimeout time.Duration // of a node that names none
	Drain       time.Duration // what running nodes get when the engine stops
	MaxState    int           // bytes that the values of one execution may take; 0: any number
	LongWait    time.Duration // a longer one gives its slot back; 0: 5 s
	CarryAfter  time.Duration // a job that waits and is older is moved to the end of the log; 0: 2 min
}

// maxDeliver sets no limit. Jobs handed back for fairness or for a wait count as delivered too, and one
// past the limit would stay in the log for ever, delivered to nobody. What an executor dies of is
// counted in the log (Takeovers).
const maxDeliver = -1

// Engine takes and runs executions.
type Engine struct {
	cfg     Config
	bus     *bus.Bus
	outside node.Outside
	queue   *limits.Queue
	closer  closer
	mask    func(tenant, text string) string
	plans   *workflow.Cache
	log     *zap.Logger
	reports reports // nil: none
	metrics *metrics

	slots      chan struct{}
	executions *crew
	nodes      *crew

	mu      sync.Mutex
	running map[protocol.ExecutionID]*run
	shares  *shares
}

// closer shuts a key for all executors.
type closer interface {
	Shut(ctx context.Context, t protocol.TenantID, key string, during time.Duration, because string) error
}

// Parts are what an engine works with.
type Parts struct {
	Bus     *bus.Bus
	Outside node.Outside
	Queue   *limits.Queue
	Limiter *limits.Client
	Mask    func(tenant, text string) string // takes secrets out of what will be stored
	Log     *zap.Logger
	Reports reports // nil: nobody is told of executions that fail
}

// New makes an engine. Run starts it.
func New(cfg Config, p Parts) *Engine {
	if cfg.LongWait == 0 {
		cfg.LongWait = longWait
	}
	if cfg.CarryAfter == 0 {
		cfg.CarryAfter = carryAfter
	}
	return &Engine{
		cfg: cfg, bus: p.Bus, outside: p.Outside, queue: p.Queue, closer: p.Limiter, mask: p.Mask, log: p.Log, reports: p.Reports,
		plans: workflow.NewCache(1024), metrics: newMetrics(), slots: make(chan struct{}, cfg.Concurrency), executions: newCrew(), nodes: newCrew(),
		running: map[protocol.ExecutionID]*run{}, shares: newShares(cfg.Concurrency),
	}
}

// Run takes and runs executions until ctx ends; then it takes no more, lets running nodes finish
// within the drain time, hands back what is not done, and returns.
func (e *Engine) Run(ctx context.Context) error {
	stop, err := e.bus.Signals(e.nudge)
	if err != nil {
		return err
	}
	defer stop()
	// Executions outlive the intake: their context ends when the drain time is over.
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	queues := make([]*bus.JobQueue, e.bus.Partitions())
	for p := range queues {
		if queues[p], err = e.queueOf(ctx, p); err != nil {
			if ctx.Err() != nil {
				return nil // stopped before it began
			}
			return err
		}
	}
	var intake sync.WaitGroup
	for p, q := range queues {
		intake.Go(func() { e.take(ctx, work, p, q) })
	}
	beat := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() { e.heartbeat(beat) })
	intake.Wait() // ends with ctx
	e.drain()
	done := make(chan struct{})
	e.executions.dismiss()
	defer e.nodes.dismiss()
	go func() { e.executions.all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(e.cfg.Drain):
		cut()
		<-done
	}
	close(beat)
	beats.Wait()
	return nil
}

func (e *Engine) queueOf(ctx context.Context, partition int) (*bus.JobQueue, error) {
	return e.bus.Jobs(ctx, partition, bus.JobPolicy{AckWait: e.cfg.AckWait, MaxDeliver: maxDeliver})
}

// take fetches jobs of one partition for as many slots as are free. Behind jobs that it had to
// defer it looks further ahead: what stands there belongs to others.
func (e *Engine) take(ctx, work context.Context, partition int, q *bus.JobQueue) {
	ahead := 0
	for ctx.Err() == nil {
		free := e.reserve(ctx)
		if free == 0 {
			return
		}
		fetch := free + ahead
		ahead = 0
		_, err := q.Fetch(fetch, fetchWait, func(j *bus.Job) {
			if ctx.Err() != nil {
				e.handBack(j, 0)
				return
			}
			if delay := e.shares.wait(j.Key.Tenant, j.Delivered > 1); delay > 0 {
				e.metrics.deferred.Inc()
				e.handBack(j, delay)
				ahead = lookAhead
				return
			}
			if free > 0 {
				free--
			} else {
				e.slots <- struct{}{} // soon: some slots are always out of one tenant's reach
			}
			e.shares.begin(j.Key.Tenant)
			e.executions.do(func() {
				defer e.release(1)
				e.execute(work, j)
			})
		}, bus.Unreadable(e.log, func() {}))
		e.release(free)
		if err != nil && ctx.Err() == nil {
			e.log.Warn("no jobs for now", zap.Error(err))
			pause(ctx, time.Second)
			if again, err := e.queueOf(ctx, partition); err == nil {
				q = again // the server may have lost it, with its log
			}
		}
	}
}

// lookAhead is how many jobs beyond the free slots are looked at behind a crowd of one tenant.
const lookAhead = 64

const fetchWait = 500 * time.Millisecond // also what stopping may take

// reserve waits for a free slot and takes more if there are, up to a fair part of what the
// partitions share.
func (e *Engine) reserve(ctx context.Context) int {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	n := 1
	for most := max(1, e.cfg.Concurrency/e.bus.Partitions()); n < most; n++ {
		select {
		case e.slots <- struct{}{}:
		default:
			return n
		}
	}
	return n
}

func (e *Engine) release(n int) {
	for range n {
		<-e.slots
	}
}

func (e *Engine) handBack(j *bus.Job, delay time.Duration) {
	if err := j.HandBack(delay); err != nil {
		// It comes again by itself after AckWait.
		e.log.Warn("job not handed back", zap.String("execution_id", string(j.Key.ID)), zap.Error(err))
	}
}

// heartbeat keeps every running job from being taken over.
func (e *Engine) heartbeat(stop <-chan struct{}) {
	t := time.NewTicker(e.cfg.AckWait / 4)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		e.mu.Lock()
		jobs := make([]*bus.Job, 0, len(e.running))
		for _, r := range e.running {
			jobs = append(jobs, r.job)
		}
		e.mu.Unlock()
		for _, j := range jobs {
			if err := j.InProgress(); err != nil {
				e.log.Warn("heartbeat not sent", zap.String("execution_id", string(j.Key.ID)), zap.Error(err))
			}
		}
	}
}

func (e *Engine) nudge(id protocol.ExecutionID) {
	e.mu.Lock()
	r := e.running[id]
	e.mu.Unlock()
	if r != nil {
		select {
		case r.nudged <- struct{}{}:
		default:
		}
	}
}

func (e *Engine) drain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.running {
		close(r.draining)
	}
}

// execute runs one job to its end, or as far as it goes here.
func (e *Engine) execute(ctx context.Context, j *bus.Job) {
	r := newRun(e, j)
	defer func() { e.shares.end(r.key.Tenant, time.Since(r.began)) }()
	if !e.enter(r) {
		// The same job twice in one process: the first runner was silent for too long and is
		// about to lose its fence, or the hand-back crossed. Let it come again.
		e.handBack(j, e.cfg.AckWait/4)
		return
	}
	defer e.leave(r)
	ctx, done := e.bus.Trace(j.Context(ctx), "execute", trace.SpanKindConsumer,
		attribute.String("agentflow.tenant", string(j.Key.Tenant)), attribute.String("agentflow.execution_id", string(j.Key.ID)), attribute.Int("agentflow.delivery", j.Delivered))
	ctx = e.scoped(ctx, j)
	began := time.Now()
	end, err := r.play(ctx)
	done(ending(end, err))
	switch {
	case errors.Is(err, bus.ErrConflict):
		e.metrics.lost.Inc()
		e.log.Info("execution is in other hands", r.fields()...)
	case errors.Is(err, bus.ErrNotFound) && e.trimmed(ctx, j):
		// The log was trimmed behind an execution that had ended; only the acknowledgement was lost.
		e.log.Info("job of a trimmed execution dropped", r.fields()...)
		_ = j.Ack() // else it comes once more
	case errors.Is(err, errCarried):
		_ = j.Ack() // else it comes once more, and finds the newer one again
	case errors.Is(err, errHandOver):
		e.handBack(j, r.comeBack)
	case err != nil:
		e.log.Warn("execution interrupted, will be taken up again", append(r.fields(), zap.Error(err))...)
		e.handBack(j, time.Second)
	default:
		e.metrics.observe(end, time.Since(began))
		e.metrics.timeouts.count(r.state.Request.WorkflowID, end)
		e.report(ctx, end)
		if err := j.Ack(); err != nil {
			// It is delivered again, found ended, and acknowledged then.
			e.log.Warn("job not acknowledged", append(r.fields(), zap.Error(err))...)
		}
	}
}

// trimmed tells whether the log has a job no more. That something was not found may also be a replica that lags behind, or a
// value that is gone.
func (e *Engine) trimmed(ctx context.Context, j *bus.Job) bool {
	state, err := e.bus.State(ctx, j.Key.Stream())
	return err == nil && state.First > j.Record.Sequence
}

func (e *Engine) enter(r *run) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, taken := e.running[r.key.ID]; taken {
		return false
	}
	e.running[r.key.ID] = r
	e.metrics.running.Inc()
	return true
}

func (e *Engine) leave(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, r.key.ID)
	e.metrics.running.Dec()
}

// plan finds the compiled plan of a request: by its hash in the cache, else from the spec that
// rides along, else from the bucket.
func (e *Engine) plan(ctx context.Context, t protocol.TenantID, req protocol.Requested) (*workflow.Plan, error) {
	p, err := e.plans.Plan(req.SpecHash, func() ([]byte, error) { return e.spec(ctx, t, req) })
	if err != nil {
		return nil, fmt.Errorf("spec %s: %w", req.SpecHash, err)
	}
	return p, nil
}

// spec is the document of a request.
func (e *Engine) spec(ctx context.Context, t protocol.TenantID, req protocol.Requested) ([]byte, error) {
	if len(req.Spec) > 0 {
		return req.Spec.Document()
	}
	return e.bus.GetSpec(ctx, t, req.SpecHash)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
