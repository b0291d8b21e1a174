package limits

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// fake is a limiter that counts by a log of what passed in the last window.
type fake struct {
	mu      sync.Mutex
	latency time.Duration
	fail    error
	closed  time.Time
	passed  map[lineKey][]pass
	calls   int
	permits int
	settled []protocol.SettleRequest
}

type pass struct {
	at   time.Time
	want protocol.Want
}

func newFake(latency time.Duration) *fake {
	return &fake{latency: latency, passed: map[lineKey][]pass{}}
}

func (f *fake) Acquire(_ context.Context, r protocol.AcquireRequest) (protocol.Grant, error) {
	time.Sleep(f.latency) //nolint:forbidigo // inside synctest
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.fail != nil {
		return protocol.Grant{}, f.fail
	}
	now := time.Now()
	if wait := f.closed.Sub(now); wait > 0 {
		return protocol.Grant{RetryAfterMS: wait.Milliseconds(), LimitingMetric: protocol.MetricClosed}, nil
	}
	granted := 0
	var g protocol.Grant
	for _, w := range append([]protocol.Want{r.First()}, r.Behind...) {
		if r.Limits.MaxMessagesPerSecond > 0 && w.Messages > r.Limits.MaxMessagesPerSecond {
			return protocol.Grant{}, &protocol.Error{Code: protocol.CodeInvalid, Message: "never"}
		}
		if wait, m := f.wait(now, r, w); wait > 0 {
			g.RetryAfterMS, g.LimitingMetric = (wait + time.Millisecond - 1).Milliseconds(), m
			g.Remaining = map[protocol.Metric]int64{m: int64(f.left(now, r, m))}
			break
		}
		f.passed[keyOf(r)] = append(f.passed[keyOf(r)], pass{now, w})
		granted++
	}
	f.permits += granted
	g.Granted, g.Behind = granted > 0, max(0, granted-1)
	return g, nil
}

func (f *fake) Settle(_ context.Context, r protocol.SettleRequest) (protocol.SettleReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settled = append(f.settled, r)
	key := lineKey{r.Tenant, r.Queue, r.SubQueue}
	for i, p := range f.passed[key] {
		if p.want.Reservation == r.Reservation {
			f.passed[key][i].want = protocol.Want{Tokens: r.Used}
			return protocol.SettleReply{Returned: p.want.Tokens - r.Used}, nil
		}
	}
	return protocol.SettleReply{}, errors.New("no such reservation")
}

func limitOf(l workflow.Bandwidth, m protocol.Metric) (int, time.Duration) {
	switch m {
	case protocol.MetricMessages:
		return l.MaxMessagesPerSecond, time.Second
	case protocol.MetricRequests:
		return l.MaxRequestsPerMinute, time.Minute
	default:
		return l.MaxTokensPerMinute, time.Minute
	}
}

func (f *fake) wait(now time.Time, r protocol.AcquireRequest, w protocol.Want) (longest time.Duration, by protocol.Metric) {
	for _, m := range []protocol.Metric{protocol.MetricMessages, protocol.MetricRequests, protocol.MetricTokens} {
		limit, window := limitOf(r.Limits, m)
		if limit == 0 {
			continue
		}
		excess := wanted(w, m) - f.left(now, r, m)
		for _, p := range f.passed[keyOf(r)] {
			if excess <= 0 {
				break
			}
			if left := p.at.Add(window).Sub(now); left > 0 {
				if excess -= wanted(p.want, m); excess <= 0 && left > longest {
					longest, by = left, m
				}
			}
		}
	}
	return longest, by
}

func (f *fake) left(now time.Time, r protocol.AcquireRequest, m protocol.Metric) int {
	limit, window := limitOf(r.Limits, m)
	for _, p := range f.passed[keyOf(r)] {
		if now.Sub(p.at) < window {
			limit -= wanted(p.want, m)
		}
	}
	return limit
}

func wanted(w protocol.Want, m protocol.Metric) int {
	return units(protocol.AcquireRequest{Messages: w.Messages, Requests: w.Requests, Tokens: w.Tokens}, m)
}

func (f *fake) count() (calls, permits int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls, f.permits
}

func ask(l workflow.Bandwidth) protocol.AcquireRequest {
	return protocol.AcquireRequest{Tenant: "acme", Queue: "q", Limits: l, Messages: 1, Requests: 1}
}
