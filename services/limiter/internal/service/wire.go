package service

import (
	"fmt"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/limiter/internal/bucket"
	"github.com/agentflow/agentflow/services/limiter/internal/redis"
)

// askOf checks a request and turns it into the door's terms.
func askOf(r protocol.AcquireRequest) (redis.Ask, error) {
	if err := r.Check(); err != nil {
		return redis.Ask{}, err
	}
	ask := redis.Ask{TTL: reservationLife, Waits: r.Waits, Wants: make([]redis.Want, 0, 1+len(r.Behind))}
	ask.Key, ask.Limits, ask.Share = scopeOf(r.Tenant, r.Queue, r.SubQueue, r.Weight, r.Limits)
	if r.ReservationMS > 0 {
		ask.TTL = time.Duration(r.ReservationMS) * time.Millisecond
	}
	tightest := ask.Limits
	if ask.Key.Share != "" {
		tightest = ask.Share
	}
	if err := possible(r.First(), tightest, ""); err != nil {
		return redis.Ask{}, err
	}
	ask.Wants = append(ask.Wants, wantOf(r.First()))
	for i, w := range r.Behind {
		if err := possible(w, tightest, fmt.Sprintf("behind[%d].", i)); err != nil {
			return redis.Ask{}, err
		}
		ask.Wants = append(ask.Wants, wantOf(w))
	}
	return ask, nil
}

// possible refuses what no waiting could ever grant. An estimate of tokens is no such thing: it
// is taken for the whole limit at most.
func possible(w protocol.Want, l bucket.Limits, path string) error {
	never := func(field string, n int, most int64) error {
		return &protocol.Error{
			Code: protocol.CodeInvalid, Field: path + field,
			Message: fmt.Sprintf("%s%s: %d at once can never pass a queue that lets %d through", path, field, n, most),
		}
	}
	switch {
	case l.Messages > 0 && int64(w.Messages) > l.Capacity():
		return never("messages", w.Messages, l.Capacity())
	case l.Requests > 0 && int64(w.Requests) > l.Requests:
		return never("requests", w.Requests, l.Requests)
	}
	return nil
}

func wantOf(w protocol.Want) redis.Want {
	return redis.Want{
		Want:        bucket.Want{Messages: int64(w.Messages), Requests: int64(w.Requests), Tokens: int64(w.Tokens)},
		Reservation: w.Reservation,
	}
}

// scopeOf addresses a queue, or a share of it with the share's own limits.
func scopeOf(t protocol.TenantID, queue, sub string, weight float64, b workflow.Bandwidth) (k redis.Key, whole, share bucket.Limits) {
	k = redis.Key{Tenant: t, Queue: queue, Share: sub}
	whole = bucket.Limits{
		Messages: int64(min(b.MaxMessagesPerSecond, protocol.MaxRate)),
		Burst:    int64(min(b.BurstSize, protocol.MaxRate)),
		Requests: int64(min(b.MaxRequestsPerMinute, protocol.MaxRate)),
		Tokens:   int64(min(b.MaxTokensPerMinute, protocol.MaxTokenRate)),
	}
	if sub != "" {
		share = whole.Share(weight)
	}
	return k, whole, share
}

func grantOf(a bucket.Answer) protocol.Grant {
	g := protocol.Grant{
		Granted: a.Granted > 0, Behind: max(0, a.Granted-1), RetryAfterMS: milliseconds(a.Wait), TurnMS: milliseconds(a.Turn), LimitingMetric: metricOf(a.Metric), AtUS: a.Now,
		Remaining: make(map[protocol.Metric]int64, bucket.Metrics), ResetMS: make(map[protocol.Metric]int64, bucket.Metrics),
	}
	for m, room := range a.Room {
		name := metricOf(bucket.Metric(m))
		g.Remaining[name] = room.Remaining
		if room.Remaining >= 0 {
			g.ResetMS[name] = milliseconds(room.Reset)
		}
	}
	return g
}

func usageOf(queue string, u redis.Usage) protocol.Usage {
	out := protocol.Usage{Queue: queue, ClosedMS: u.Closed.Milliseconds(), Windows: make(map[protocol.Metric]protocol.UsageWindow, bucket.Metrics)}
	for m, use := range u.Use {
		length := int64(bucket.Minute)
		if bucket.Metric(m) == bucket.Messages {
			length = bucket.Second
		}
		out.Windows[metricOf(bucket.Metric(m))] = protocol.UsageWindow{Used: use.Used, Refused: use.Refused, WindowMS: milliseconds(length)}
	}
	return out
}

// milliseconds rounds up: who asks again after that time is not early.
func milliseconds(us int64) int64 { return (us + 999) / 1000 }

func metricOf(m bucket.Metric) protocol.Metric {
	switch m {
	case bucket.Messages:
		return protocol.MetricMessages
	case bucket.Requests:
		return protocol.MetricRequests
	case bucket.Tokens:
		return protocol.MetricTokens
	case bucket.Closed:
		return protocol.MetricClosed
	default:
		return ""
	}
}
