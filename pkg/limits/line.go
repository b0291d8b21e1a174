package limits

import (
	"errors"
	"slices"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// look is how long a line waits at most for LLM tokens or a closed key without asking again:
// another process may have settled for less, or an administrator opened it.
const look = 10 * time.Second

// line is one queue's waiters, in order of arrival. The first of them leads: it asks, for itself
// and for those behind it, and hands the lead on when it goes.
type line struct {
	waiters []*waiter
	led     bool
	alone   bool // the next ask is for the first alone: one behind it cannot be granted ever
	refusal refusal
	missing int64         // LLM tokens that must be settled back before asking early makes sense
	nudge   chan struct{} // wakes the leader before the refusal's time
}

type waiter struct {
	req      protocol.AcquireRequest
	deadline time.Time // zero: none
	told     protocol.Metric
	lead     chan struct{}
	news     chan Wait
	done     chan gateVerdict
}

func (l *line) batch() []*waiter {
	n := 1
	for !l.alone && n < len(l.waiters) && n <= protocol.MaxBehind && alike(l.waiters[0].req, l.waiters[n].req) {
		n++
	}
	return slices.Clone(l.waiters[:n])
}

func joinWaiters(batch []*waiter) protocol.AcquireRequest {
	req := batch[0].req
	req.Waits, req.Behind = true, make([]protocol.Want, 0, len(batch)-1)
	for _, w := range batch[1:] {
		req.Behind = append(req.Behind, w.req.First())
		req.ReservationMS = max(req.ReservationMS, w.req.ReservationMS)
	}
	return req
}

// settle hands out what an ask brought, and returns what was reserved for those who have gone
// meanwhile. Called with q.mu held.
func (l *line) settle(now time.Time, batch []*waiter, g protocol.Grant, err error) (lost []protocol.SettleRequest) {
	if err != nil {
		l.failed(now, batch, err)
		return nil
	}
	l.alone = false
	granted := count(g, nil)
	l.refusal, l.missing = refusal{}, 0
	if granted < len(batch) {
		l.refuse(now, batch[granted], g)
	}
	for _, w := range batch[:granted] {
		answer := g
		answer.Behind, answer.RetryAfterMS, answer.TurnMS, answer.LimitingMetric = 0, 0, 0, ""
		if r := w.req; !l.answer(w, gateVerdict{grant: answer}) && r.Reservation != "" && !g.Degraded {
			lost = append(lost, protocol.SettleRequest{
				Tenant: r.Tenant, Queue: r.Queue, SubQueue: r.SubQueue, Weight: r.Weight, Limits: r.Limits, Reservation: r.Reservation,
			})
		}
	}
	l.announce(now, 0)
	return lost
}

// refuse remembers until when asking is in vain, and from when on it is this process's turn.
func (l *line) refuse(now time.Time, first *waiter, g protocol.Grant) {
	l.refusal = newRefusal(now, first.req, g)
	l.refusal.fresh = now.Add(time.Duration(max(g.RetryAfterMS, g.TurnMS)) * time.Millisecond)
	l.missing = int64(first.req.Tokens) - g.Remaining[protocol.MetricTokens]
	early := g.LimitingMetric == protocol.MetricTokens || g.LimitingMetric == protocol.MetricClosed
	if latest := now.Add(look); early && latest.Before(l.refusal.fresh) {
		l.refusal.fresh = latest
	}
}

// failed is for an ask that brought an error: by policy, or because one of it can never be granted.
func (l *line) failed(now time.Time, batch []*waiter, err error) {
	var refused *protocol.Error
	switch {
	case errors.As(err, &refused) && refused.Code == protocol.CodeUnavailable:
		l.refusal = newRefusal(now, batch[0].req, protocol.Grant{
			RetryAfterMS: max(1, refused.RetryAfterMS), LimitingMetric: protocol.MetricUnavailable,
		})
		l.announce(now, 0)
	case len(batch) > 1:
		l.alone = true
	default:
		l.alone = false
		l.answer(batch[0], gateVerdict{err: err})
	}
}

// answer takes a waiter out of the line with its answer, and says whether it still stood there.
func (l *line) answer(w *waiter, v gateVerdict) bool {
	i := slices.Index(l.waiters, w)
	if i < 0 {
		return false
	}
	l.waiters = slices.Delete(l.waiters, i, i+1)
	w.done <- v
	return true
}

// announce tells those in a refused line, from a place on, what they wait for, and sends away
// those for whom it is certain that it lasts too long. Called with q.mu held.
func (l *line) announce(now time.Time, from int) {
	if !now.Before(l.refusal.until) && !now.Before(l.refusal.fresh) {
		return
	}
	metric := l.refusal.grant.LimitingMetric
	certain := metric == protocol.MetricMessages || metric == protocol.MetricRequests || metric == protocol.MetricClosed
	for i := from; certain && i < len(l.waiters); {
		w := l.waiters[i]
		if w.deadline.IsZero() || !w.deadline.Before(l.refusal.until) {
			i++
			continue
		}
		l.answer(w, gateVerdict{err: l.exceeded(now, w)})
	}
	inFront := 0
	for i, w := range l.waiters {
		if i >= from && w.told != metric {
			w.tell(Wait{Metric: metric, Expected: l.expected(now, inFront), Ahead: i})
		}
		inFront += units(w.req, metric)
	}
}

// tell replaces what a waiter has not read yet.
func (w *waiter) tell(news Wait) {
	w.told = news.Metric
	select {
	case <-w.news:
	default:
	}
	w.news <- news
}

// expected is the time until the turn, and a window for each windowful that stands in front.
func (l *line) expected(now time.Time, inFront int) time.Duration {
	limits := l.refusal.req.Limits
	limit, window := 0, time.Minute
	switch l.refusal.grant.LimitingMetric {
	case protocol.MetricMessages:
		limit, window = limits.MaxMessagesPerSecond, time.Second
	case protocol.MetricRequests:
		limit = limits.MaxRequestsPerMinute
	case protocol.MetricTokens:
		limit = limits.MaxTokensPerMinute
	default: // closed or unavailable: then all may pass
	}
	wait := max(l.refusal.until.Sub(now), l.refusal.fresh.Sub(now))
	if limit > 0 {
		wait += time.Duration(inFront/limit) * window
	}
	return wait
}

// units is how much of a metric an ask wants.
func units(r protocol.AcquireRequest, m protocol.Metric) int {
	switch m {
	case protocol.MetricMessages:
		return r.Messages
	case protocol.MetricRequests:
		return r.Requests
	case protocol.MetricTokens:
		return r.Tokens
	default:
		return 0
	}
}

func (l *line) exceeded(now time.Time, w *waiter) *Exceeded {
	metric := l.refusal.grant.LimitingMetric
	if metric == "" {
		metric = protocol.MetricUnavailable // no answer has come yet
	}
	return &Exceeded{Queue: w.req.Queue, Metric: metric, RetryAfter: max(0, l.refusal.until.Sub(now))}
}
