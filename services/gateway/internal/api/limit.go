package api

import (
	"context"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// gate decides at once whether there is room.
type gate interface {
	Ask(ctx context.Context, r protocol.AcquireRequest) (protocol.Grant, error)
}

var _ gate = (*limits.Gate)(nil)

// The queues of requests. Those of executions and sources all have a slash in their names.
const (
	tenantQueue = "requests"
	keyQueue    = "requests-"
)

// limit asks whether one more request of the key and of the tenant is let in, and tells the client
// where it stands. What a tenant may use of language models is counted where they are called.
func (s *Server) limit(c *fiber.Ctx, r *request) error {
	if s.gate == nil || r.tenant == "" {
		return nil
	}
	counts, err := s.pass(c, r, nil, "key_", keyQueue+r.who.Actor, bandwidth(r.who.KeyLimits, workflow.Bandwidth{}))
	if err == nil {
		counts, err = s.pass(c, r, counts, "", tenantQueue, bandwidth(r.who.Limits, s.opts.Limits))
	}
	limitHeaders(c, counts)
	return err
}

// counted is what was asked for under some limits, and the answer.
type counted struct {
	prefix string // of the metrics' names
	room   workflow.Bandwidth
	grant  protocol.Grant
}

// pass asks one queue, and adds what it answered to the counts.
func (s *Server) pass(c *fiber.Ctx, r *request, counts []counted, prefix, queue string, room workflow.Bandwidth) ([]counted, error) {
	if room.MaxMessagesPerSecond == 0 && room.MaxRequestsPerMinute == 0 {
		return counts, nil
	}
	grant, err := s.gate.Ask(c.UserContext(), protocol.AcquireRequest{Tenant: r.tenant, Queue: queue, Limits: room, Messages: 1, Requests: 1})
	if err != nil {
		return counts, err
	}
	counts = append(counts, counted{prefix, room, grant})
	if grant.Granted {
		return counts, nil
	}
	return counts, &protocol.Error{
		Code: protocol.CodeRateLimited, RetryAfterMS: grant.RetryAfterMS,
		Message: "the limit on " + strings.ReplaceAll(string(grant.LimitingMetric), "_", " ") + " is used up; try again after the time in Retry-After",
	}
}

// bandwidth is what is left of the defaults under a record's own limits: absent means the default,
// 0 unlimited.
func bandwidth(own *protocol.TenantLimits, defaults workflow.Bandwidth) workflow.Bandwidth {
	b := defaults
	b.MaxTokensPerMinute = 0
	if own == nil {
		return b
	}
	for _, f := range []struct {
		own  *int
		into *int
	}{
		{own.MessagesPerSecond, &b.MaxMessagesPerSecond}, {own.RequestsPerMinute, &b.MaxRequestsPerMinute}, {own.BurstSize, &b.BurstSize},
	} {
		if f.own != nil {
			*f.into = *f.own
		}
	}
	return b
}

// limitHeaders says what the limits are and what is left of them: in the form of the standard's
// draft, and in the older one for the limit that is nearest.
func limitHeaders(c *fiber.Ctx, counts []counted) {
	var policies, states []string
	nearest := int64(-1)
	for _, n := range counts {
		for _, m := range []struct {
			metric protocol.Metric
			quota  int
			window int // seconds
		}{
			{protocol.MetricMessages, n.room.MaxMessagesPerSecond, 1},
			{protocol.MetricRequests, n.room.MaxRequestsPerMinute, 60},
		} {
			if m.quota == 0 {
				continue
			}
			name := `"` + n.prefix + string(m.metric) + `"`
			policies = append(policies, name+";q="+strconv.Itoa(m.quota)+";w="+strconv.Itoa(m.window))
			left, known := n.grant.Remaining[m.metric]
			if !known || left < 0 {
				continue
			}
			reset := (n.grant.ResetMS[m.metric] + 999) / 1000
			states = append(states, name+";r="+strconv.FormatInt(left, 10)+";t="+strconv.FormatInt(reset, 10))
			if nearest < 0 || left < nearest {
				nearest = left
				c.Set("X-RateLimit-Limit", strconv.Itoa(m.quota))
				c.Set("X-RateLimit-Remaining", strconv.FormatInt(left, 10))
				c.Set("X-RateLimit-Reset", strconv.FormatInt(reset, 10))
			}
		}
	}
	if len(policies) > 0 {
		c.Set("RateLimit-Policy", strings.Join(policies, ", "))
	}
	if len(states) > 0 {
		c.Set("RateLimit", strings.Join(states, ", "))
	}
}
