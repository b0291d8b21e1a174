package limits

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Queue is where the work of one process waits for room, one line for each limited queue. It is
// safe for concurrent use, and has no goroutine of its own: whoever is first in a line asks.
type Queue struct {
	limiter acquirer
	settler settler

	mu    sync.Mutex
	lines map[lineKey]*line
	sweep int // lines at which the idle ones are thrown out
}

type settler interface {
	Settle(ctx context.Context, r protocol.SettleRequest) (protocol.SettleReply, error)
}

// Wait tells one who waits what for.
type Wait struct {
	Metric   protocol.Metric
	Expected time.Duration // until the turn comes, an estimate
	Ahead    int           // how many stand in front, in this process
}

// Exceeded says that the wait would have lasted, or has lasted, beyond the caller's deadline.
type Exceeded struct { //nolint:errname // it reads as what it says: limits.Exceeded
	Queue      string
	Metric     protocol.Metric
	RetryAfter time.Duration
}

func (e *Exceeded) Error() string {
	if e.Metric == protocol.MetricClosed {
		return fmt.Sprintf("%s is closed, as its provider asked, for another %s", e.Queue, e.RetryAfter.Round(time.Millisecond))
	}
	if e.Metric == protocol.MetricUnavailable {
		return fmt.Sprintf("queue %s: the limiter does not answer, and nothing passes without it", e.Queue)
	}
	return fmt.Sprintf("queue %s: no room within the time there is: %s is used up for another %s", e.Queue, e.Metric, e.RetryAfter.Round(time.Millisecond))
}

// Unwrap is the error as it travels: RATE_LIMITED, with the time to try again after.
func (e *Exceeded) Unwrap() error {
	return &protocol.Error{
		Code: protocol.CodeRateLimited, Message: e.Error(), RetryAfterMS: max(1, e.RetryAfter.Milliseconds()),
		Details: map[string]any{"queue": e.Queue, "limiting_metric": e.Metric},
	}
}

// NewQueue makes the waiting room of one process.
func NewQueue(c *Client) *Queue { return newQueue(c, c) }

func newQueue(a acquirer, s settler) *Queue {
	return &Queue{limiter: a, settler: s, lines: map[lineKey]*line{}, sweep: 1024}
}

// Acquire waits for room, in order of arrival, until ctx ends. waiting, if given, is called when
// the wait begins and when its reason changes, by the goroutine of the caller.
//
// The error is an [*Exceeded] when the deadline of ctx has passed, or when it is certain that it
// will have; ctx's own error when ctx was cancelled; and a *protocol.Error INVALID when the ask
// can never be granted.
func (q *Queue) Acquire(ctx context.Context, r protocol.AcquireRequest, waiting func(Wait)) (protocol.Grant, error) {
	if unlimited(r.Limits) && r.Closable == "" {
		return protocol.Grant{Granted: true}, nil
	}
	w := &waiter{req: r, lead: make(chan struct{}, 1), news: make(chan Wait, 1), done: make(chan gateVerdict, 1)}
	w.deadline, _ = ctx.Deadline()
	key := keyOf(r)
	l := q.join(key, w)
	leads := false
	defer func() { q.part(key, l, w, leads) }()
	for {
		select {
		case v := <-w.done:
			return v.grant, v.err
		default:
		}
		if ctx.Err() != nil {
			v := q.leave(ctx, l, w)
			return v.grant, v.err
		}
		var timer *time.Timer
		if leads {
			if pause := q.pause(l); pause > 0 {
				timer = time.NewTimer(pause)
			} else {
				q.ask(ctx, l)
				continue
			}
		}
		q.hear(ctx, l, w, timer, &leads, waiting)
	}
}

// hear sleeps until there is something to do for a waiter.
func (q *Queue) hear(ctx context.Context, l *line, w *waiter, timer *time.Timer, leads *bool, waiting func(Wait)) {
	var (
		rang  <-chan time.Time
		nudge <-chan struct{}
	)
	if timer != nil {
		defer timer.Stop()
		rang, nudge = timer.C, l.nudge
	}
	select {
	case v := <-w.done:
		w.done <- v // nobody else sends: every waiter is answered once
	case news := <-w.news:
		if waiting != nil {
			waiting(news)
		}
	case <-w.lead:
		*leads = true
	case <-rang:
	case <-nudge:
	case <-ctx.Done():
	}
}

// Settle tells the limiter what a reservation used, and wakes the line if that made room.
func (q *Queue) Settle(ctx context.Context, r protocol.SettleRequest) (protocol.SettleReply, error) {
	reply, err := q.settler.Settle(ctx, r)
	if err != nil || reply.Returned <= 0 {
		return reply, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[lineKey{r.Tenant, r.Queue, r.SubQueue}]
	if l == nil || l.refusal.grant.LimitingMetric != protocol.MetricTokens {
		return reply, nil
	}
	if l.missing -= int64(reply.Returned); l.missing <= 0 {
		l.refusal = refusal{}
		select {
		case l.nudge <- struct{}{}:
		default:
		}
	}
	return reply, nil
}

// Waiting is how many wait in this process.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, l := range q.lines {
		n += len(l.waiters)
	}
	return n
}

// join puts a waiter at the end of its line.
func (q *Queue) join(key lineKey, w *waiter) *line {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[key]
	if l == nil {
		if len(q.lines) >= q.sweep {
			q.throwOut()
		}
		l = &line{nudge: make(chan struct{}, 1)}
		q.lines[key] = l
	}
	if len(l.waiters) == 0 && (!l.refusal.covers(w.req) || !time.Now().Before(l.refusal.until)) {
		l.refusal = refusal{} // it was of one who wanted more, or is over, and nobody's turn now
	}
	l.waiters = append(l.waiters, w)
	if !l.led {
		l.led = true
		w.lead <- struct{}{}
	}
	l.announce(time.Now(), len(l.waiters)-1)
	return l
}

func (q *Queue) throwOut() {
	now := time.Now()
	for key, l := range q.lines {
		if len(l.waiters) == 0 && !now.Before(l.refusal.until) {
			delete(q.lines, key)
		}
	}
	q.sweep = max(1024, 2*len(q.lines))
}

// pause is how long asking is in vain.
func (q *Queue) pause(l *line) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return time.Until(l.refusal.fresh)
}

// ask asks once for the line as it stands.
func (q *Queue) ask(ctx context.Context, l *line) {
	q.mu.Lock()
	batch := l.batch()
	q.mu.Unlock()
	// The others' asks must not end with the leader's context; the client bounds the call.
	ctx = context.WithoutCancel(ctx)
	grant, err := q.limiter.Acquire(ctx, joinWaiters(batch))
	q.mu.Lock()
	lost := l.settle(time.Now(), batch, grant, err)
	q.mu.Unlock()
	for _, r := range lost {
		_, _ = q.Settle(ctx, r) // best effort: it comes back by itself, only later
	}
}

// leave takes a waiter whose context has ended out of its line, unless its answer was first.
func (q *Queue) leave(ctx context.Context, l *line, w *waiter) gateVerdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := fmt.Errorf("wait for room in queue %s: %w", w.req.Queue, ctx.Err())
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = l.exceeded(time.Now(), w)
	}
	l.answer(w, gateVerdict{err: err})
	return <-w.done
}

// part hands the lead on when one who has it, or is just being given it, goes.
func (q *Queue) part(key lineKey, l *line, w *waiter, leads bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.lead:
		leads = true
	default:
	}
	if !leads {
		return
	}
	if len(l.waiters) > 0 {
		l.waiters[0].lead <- struct{}{}
		return
	}
	l.led = false
	if !time.Now().Before(l.refusal.until) && q.lines[key] == l {
		delete(q.lines, key)
	}
}
