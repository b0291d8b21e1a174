package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/node"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

// attempt is what came back from one try of a node, or that it waits for a queue.
type attempt struct {
	run     execution.Run
	result  execution.Result
	err     error
	began   time.Time
	ended   time.Time
	limited *protocol.NodeRateLimited
}

// pure runs a node that touches nothing, on the execution's own goroutine.
func (e *Engine) pure(ctx context.Context, r *run, step execution.Run) protocol.Event {
	a := attempt{run: step, began: time.Now()}
	a.result, a.err = e.try(ctx, r.input(step, nil))
	a.ended = time.Now()
	return e.conclude(r, a)
}

// launch starts a node that touches the outside, on its own goroutine.
func (r *run) launch(ctx context.Context, step execution.Run) {
	deadline := r.state.NodeDeadline(step.Node, r.engine.cfg.NodeTimeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	if r.flying == nil {
		r.flying, r.results = map[int]context.CancelFunc{}, make(chan attempt, 16)
	}
	r.flying[step.Node] = cancel
	in := r.input(step, r.progress(step))
	asks := r.asks(step, in, deadline)
	ready := r.state.ReadySince(step.Node)
	r.progressed(map[string]any{"type": "node_started", "node": in.Node.ID, "iteration": step.Iteration, "attempt": step.Attempt})
	r.engine.nodes.do(func() {
		defer cancel()
		a := attempt{run: step, began: time.Now()}
		if a.err = r.admit(ctx, step, in.Node.ID, asks); a.err == nil {
			a.began = time.Now()
			a.result, a.err = r.engine.try(ctx, in)
			r.settle(ctx, asks, a.result.Tokens)
			r.shut(ctx, in, a.err)
		}
		a.ended = time.Now()
		if a.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && !isExceeded(a.err) {
			a.err = &timeoutError{after: a.ended.Sub(ready)}
		}
		r.send(a)
	})
}

// send hands a result to the owner; one that has let go meanwhile does not take it.
func (r *run) send(a attempt) {
	select {
	case r.results <- a:
	case <-r.gone:
	}
}

func isExceeded(err error) bool {
	var x *limits.Exceeded
	return errors.As(err, &x)
}

// timeoutError says that a node's own time was up.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("the node did not end within its time (%s)", e.after.Round(time.Millisecond))
}

// panicError says that a node panicked, which was told of where it was caught.
type panicError struct{ nodeType string }

func (e *panicError) Error() string { return "internal error in node type " + e.nodeType }

func (r *run) input(step execution.Run, progress func(string)) node.Input {
	n := &r.state.Plan.Nodes[step.Node]
	return node.Input{Plan: r.state.Plan, Node: n, Values: r.state.Values, Caller: source.Caller{
		Tenant: string(r.key.Tenant), Execution: string(r.key.ID), Node: n.ID,
		IdempotencyKey: fmt.Sprintf("%s/%s/%d", r.key.ID, n.ID, step.Iteration), Progress: progress,
	}}
}

// try runs a node and turns a panic into an error: one node's bug must not take the others down.
func (e *Engine) try(ctx context.Context, in node.Input) (res execution.Result, err error) {
	began := time.Now()
	ctx, done := e.bus.Trace(ctx, "node "+in.Node.Type, trace.SpanKindInternal,
		attribute.String("agentflow.node.id", in.Node.ID), attribute.String("agentflow.node.type", in.Node.Type))
	defer func() { done(failed(err)) }() // when err is final
	defer func() {
		if p := recover(); p != nil {
			e.logger(ctx).Error("node panicked", zap.String("node", in.Node.ID), zap.String("type", in.Node.Type), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = &panicError{in.Node.Type}
		}
		if res.StartedAt.IsZero() {
			res.StartedAt = began
		}
		e.metrics.node(in.Node.Type, res.Tokens, err, time.Since(began))
		e.noteEnd(ctx, in, err, time.Since(began))
	}()
	e.noteBegin(ctx, in)
	return node.Run(ctx, e.outside, in)
}

// conclude turns an attempt into its event.
func (e *Engine) conclude(r *run, a attempt) protocol.Event {
	if a.err == nil {
		return r.state.Complete(a.run, a.result, a.ended)
	}
	f := e.failure(r.key.Tenant, a.err)
	n := &r.state.Plan.Nodes[a.run.Node]
	var next time.Time
	if !n.Pure {
		next = e.nextTry(r, a, f)
	}
	if !next.IsZero() {
		e.metrics.retries.WithLabelValues(n.Type).Inc()
	}
	return r.state.Fail(a.run, f, a.began, a.ended, next)
}

// failure says in the protocol's words why a node failed, without secrets.
func (e *Engine) failure(t protocol.TenantID, err error) protocol.Failure {
	f := classified(err)
	f.Message = e.mask(string(t), err.Error())
	return f
}

// classified is a failure that says of which kind it is, and nothing in words.
func classified(err error) protocol.Failure {
	f := protocol.Failure{Code: protocol.CodeNodeFailed}
	var (
		src      *source.Error
		exceeded *limits.Exceeded
		timeout  *timeoutError
		panicked *panicError
	)
	switch {
	case errors.As(err, &panicked):
		f.Code = protocol.CodeInternal
	case errors.As(err, &timeout):
		f.Code, f.Class = protocol.CodeTimedOut, string(source.ClassTimeout)
	case errors.As(err, &exceeded):
		f.Code, f.Class, f.RetryAfterMS = protocol.CodeRateLimited, "limit", exceeded.RetryAfter.Milliseconds()
	case errors.As(err, &src):
		f.Class, f.Status, f.RetryAfterMS = string(src.Class), src.Status, src.RetryAfter.Milliseconds()
	}
	return f
}

// defaultRetry is the policy of nodes that touch the outside and say nothing else.
var defaultRetry = workflow.Retry{MaxAttempts: 3, InitialInterval: 500 * time.Millisecond, Backoff: 2, MaxInterval: 30 * time.Second}

// nextTry is when a failed attempt is followed by another, the zero time when it is not.
func (e *Engine) nextTry(r *run, a attempt, f protocol.Failure) time.Time {
	var src *source.Error
	if !errors.As(a.err, &src) || !src.Retryable() {
		return time.Time{}
	}
	n := &r.state.Plan.Nodes[a.run.Node]
	policy := defaultRetry
	if s, err := node.Source(r.input(a.run, nil), sourceKind(n.Type)); err == nil {
		method, _ := n.Metadata["method"].(string)
		policy = merge(policy, source.RetryPolicy(s, method, true))
	}
	policy = merge(policy, n.Retry)
	if len(policy.On) > 0 && !slices.Contains(policy.On, class(src.Class)) || a.run.Attempt >= policy.MaxAttempts {
		return time.Time{}
	}
	wait := float64(policy.InitialInterval)
	for range a.run.Attempt - 1 {
		wait = min(wait*policy.Backoff, float64(policy.MaxInterval))
	}
	wait *= 0.5 + rand.Float64()/2 //nolint:gosec // jitter is no secret
	next := a.ended.Add(max(time.Duration(wait), time.Duration(f.RetryAfterMS)*time.Millisecond))
	if !next.Before(r.state.NodeDeadline(a.run.Node, e.cfg.NodeTimeout)) {
		return time.Time{}
	}
	return next
}

// class maps what a breaker refuses to the network behind it.
func class(c source.Class) string {
	if c == source.ClassRefused {
		return string(source.ClassNetwork)
	}
	return string(c)
}

func sourceKind(nodeType string) string {
	if nodeType == "router" {
		return "llm"
	}
	return nodeType
}

func merge(base, over workflow.Retry) workflow.Retry {
	if over.MaxAttempts > 0 {
		base.MaxAttempts = over.MaxAttempts
	}
	if over.InitialInterval > 0 {
		base.InitialInterval = over.InitialInterval
	}
	if over.Backoff > 0 {
		base.Backoff = over.Backoff
	}
	if over.MaxInterval > 0 {
		base.MaxInterval = over.MaxInterval
	}
	if len(over.On) > 0 {
		base.On = over.On
	}
	return base
}

// asks are the limiter requests of the queues over which a node was reached.
func (r *run) asks(step execution.Run, in node.Input, deadline time.Time) []protocol.AcquireRequest {
	var asks []protocol.AcquireRequest
	for _, q := range r.state.TakenQueues(step.Node) {
		queue := r.state.Plan.Spec.Queues[q]
		ask := protocol.AcquireRequest{
			Tenant: r.key.Tenant, Queue: r.queueName(queue.ID), Messages: 1, Requests: 1, Tokens: node.Estimate(in),
			ReservationMS: min(max(1, time.Until(deadline).Milliseconds()), protocol.MaxReservationMS),
			Reservation:   fmt.Sprintf("%s/%s/%d/%d", r.key.ID, in.Node.ID, step.Iteration, step.Attempt),
		}
		if len(ask.Reservation) > protocol.MaxReservation {
			ask.Reservation = ask.Reservation[:protocol.MaxReservation]
		}
		if queue.Bandwidth != nil {
			ask.Limits = *queue.Bandwidth
		}
		if ask.Limits.MaxTokensPerMinute == 0 {
			ask.Tokens, ask.Reservation = 0, ""
		} else {
			ask.Tokens = min(ask.Tokens, ask.Limits.MaxTokensPerMinute)
		}
		name, _ := in.Node.Metadata["sub_queue"].(string)
		for _, sub := range queue.SubQueues {
			if sub.ID == name && name != "" {
				ask.SubQueue, ask.Weight = sub.ID, sub.Weight
			}
		}
		asks = append(asks, ask)
	}
	if key := closable(in); key != "" {
		asks = append(asks, protocol.AcquireRequest{Tenant: r.key.Tenant, Queue: key, Closable: key})
	}
	return asks
}

// closable names the key that a provider's 429 shuts for all executors. Only model providers
// have one: beside what their calls cost, asking is cheap.
func closable(in node.Input) string {
	kind := sourceKind(in.Node.Type)
	if kind != "llm" && kind != "image" {
		return ""
	}
	s, err := node.Source(in, kind)
	if err != nil || s.Config["provider"] == "echo" {
		return ""
	}
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, s.Config["provider"], s.Config["base_url"], s.Config["api_key_env"]) // a hash never fails
	return fmt.Sprintf("source/%s/%x", s.ID, h.Sum64())
}

// queueName keeps queues of different workflows apart: stored ones by their id, inline ones by
// their name or content.
func (r *run) queueName(id string) string {
	req := &r.state.Request
	switch {
	case req.WorkflowID != "":
		return req.WorkflowID + "/" + id
	case req.WorkflowName != "":
		return req.WorkflowName + "/" + id
	}
	return req.SpecHash[:16] + "/" + id
}

// admit waits for room in every queue, telling the owner when that takes time.
func (r *run) admit(ctx context.Context, step execution.Run, id string, asks []protocol.AcquireRequest) error {
	for _, ask := range asks {
		queue := ask.Queue
		_, err := r.engine.queue.Acquire(ctx, ask, func(w limits.Wait) {
			now := time.Now()
			r.send(attempt{run: step, ended: now, limited: &protocol.NodeRateLimited{
				Node: id, Iteration: step.Iteration, Queue: queue, Metric: w.Metric,
				RetryAt: protocol.At(now.Add(w.Expected)),
			}})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle gives back what was reserved and not used.
func (r *run) settle(ctx context.Context, asks []protocol.AcquireRequest, used int64) {
	for _, ask := range asks {
		if ask.Reservation == "" {
			continue
		}
		_, err := r.engine.queue.Settle(context.WithoutCancel(ctx), protocol.SettleRequest{
			Tenant: ask.Tenant, Queue: ask.Queue, SubQueue: ask.SubQueue, Weight: ask.Weight, Limits: ask.Limits,
			Reservation: ask.Reservation, Used: int(used),
		})
		if err != nil {
			// The reservation runs out by itself.
			r.engine.log.Debug("reservation not settled", append(r.fields(), zap.Error(err))...)
		}
	}
}

// shut closes a provider's key for the whole fleet for as long as its 429 asks.
func (r *run) shut(ctx context.Context, in node.Input, err error) {
	var src *source.Error
	if !errors.As(err, &src) || src.Class != source.Class429 || src.RetryAfter <= 0 {
		return
	}
	key := closable(in)
	if key == "" {
		return
	}
	if err := r.engine.closer.Shut(context.WithoutCancel(ctx), r.key.Tenant, key, src.RetryAfter, "429 of the provider"); err != nil {
		r.engine.log.Warn("source not closed for the fleet", append(r.fields(), zap.Error(err))...)
	}
}

// progress streams what a model writes, when the node asks for it.
func (r *run) progress(step execution.Run) func(string) {
	n := &r.state.Plan.Nodes[step.Node]
	if stream, _ := n.Metadata["stream"].(bool); !stream {
		return nil
	}
	return func(text string) {
		r.progressed(map[string]any{"type": "tokens", "node": n.ID, "iteration": step.Iteration, "text": text})
	}
}

func (r *run) progressed(what map[string]any) {
	what["at"] = protocol.At(time.Now())
	body, err := json.Marshal(what)
	if err != nil {
		return // nothing that a person watches is worth a failure
	}
	if err := r.engine.bus.Progress(r.key.Tenant, r.key.ID, body); err != nil {
		r.engine.log.Debug("progress not sent", append(r.fields(), zap.Error(err))...)
	}
}
