package limits

import (
	"context"
	"sync"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// A refusal is repeated without asking again for a time. It is exact for longer, but an
// administrator who resets a queue should see it open, and LLM tokens come back whenever somebody settles.
const (
	remember       = time.Second
	rememberTokens = 100 * time.Millisecond
)

// Gate decides at once on asks that do not wait. It is safe for concurrent use.
type Gate struct {
	limiter acquirer

	mu    sync.Mutex
	doors map[lineKey]*door
	sweep int // doors at which the idle ones are thrown out
}

// lineKey names a queue, or a share of it.
type lineKey struct {
	tenant protocol.TenantID
	queue  string
	share  string
}

func keyOf(r protocol.AcquireRequest) lineKey { return lineKey{r.Tenant, r.Queue, r.SubQueue} }

// door is one queue's part of a gate.
type door struct {
	asking  bool
	waiting []*visitor
	refusal refusal
}

type visitor struct {
	req  protocol.AcquireRequest
	lead chan struct{}    // told to ask for all who wait
	done chan gateVerdict // told the answer
}

type gateVerdict struct {
	grant protocol.Grant
	err   error
}

// refusal is the last refusal of a queue, for as long as it may be repeated.
type refusal struct {
	until time.Time // of the wait, by our clock
	fresh time.Time // when to ask again in any case
	req   protocol.AcquireRequest
	grant protocol.Grant
}

// NewGate makes a gate before the limiter that c asks.
func NewGate(c *Client) *Gate { return newGate(c) }

func newGate(a acquirer) *Gate { return &Gate{limiter: a, doors: map[lineKey]*door{}, sweep: 1024} }

// Ask lets in or refuses. A refusal is a Grant too, with the metric and the time to wait.
func (g *Gate) Ask(ctx context.Context, r protocol.AcquireRequest) (protocol.Grant, error) {
	if unlimited(r.Limits) && r.Closable == "" {
		return protocol.Grant{Granted: true}, nil
	}
	key := keyOf(r)
	v := &visitor{req: r, lead: make(chan struct{}, 1), done: make(chan gateVerdict, 1)}
	g.mu.Lock()
	d := g.door(key)
	if grant, ok := d.refusal.repeat(time.Now(), r); ok {
		g.mu.Unlock()
		return grant, nil
	}
	d.waiting = append(d.waiting, v)
	if !d.asking {
		d.asking = true
		v.lead <- struct{}{}
	}
	g.mu.Unlock()
	select {
	case <-v.lead:
		g.askFor(ctx, key, d)
		verdict := <-v.done // the first of the line is always part of the ask
		return verdict.grant, verdict.err
	case verdict := <-v.done:
		return verdict.grant, verdict.err
	}
	// The end of ctx is not waited for: the ask under way is bounded, and whoever leads must lead.
}

func (g *Gate) door(key lineKey) *door {
	d := g.doors[key]
	if d == nil {
		if len(g.doors) >= g.sweep {
			g.throwOut()
		}
		d = &door{}
		g.doors[key] = d
	}
	return d
}

// throwOut forgets queues that nobody asks about, so that the map does not grow with every tenant
// and key there ever was.
func (g *Gate) throwOut() {
	now := time.Now()
	for key, d := range g.doors {
		if !d.asking && now.After(d.refusal.fresh) {
			delete(g.doors, key)
		}
	}
	g.sweep = max(1024, 2*len(g.doors))
}

// askFor asks once for the line as it stands, then hands the lead to the next.
func (g *Gate) askFor(ctx context.Context, key lineKey, d *door) {
	g.mu.Lock()
	batch := d.batch()
	g.mu.Unlock()

	req := join(batch)
	// One visitor's hanging up must not refuse the others; the client bounds the call.
	grant, err := g.limiter.Acquire(context.WithoutCancel(ctx), req)

	g.mu.Lock()
	defer g.mu.Unlock()
	d.waiting = d.waiting[len(batch):]
	granted := count(grant, err)
	if err == nil && granted < len(batch) {
		d.refusal = newRefusal(time.Now(), batch[granted].req, grant)
	}
	for i, v := range batch {
		answer := grant
		answer.Granted, answer.Behind = i < granted, 0
		if answer.Granted {
			answer.RetryAfterMS, answer.TurnMS, answer.LimitingMetric = 0, 0, ""
		}
		v.done <- gateVerdict{answer, err}
	}
	if d.asking = len(d.waiting) > 0; d.asking {
		d.waiting[0].lead <- struct{}{}
		return
	}
	if time.Now().After(d.refusal.fresh) {
		delete(g.doors, key)
	}
}

// batch is the head of the line and those right behind it that may travel in the same ask.
func (d *door) batch() []*visitor {
	n := 1
	for n < len(d.waiting) && n <= protocol.MaxBehind && alike(d.waiting[0].req, d.waiting[n].req) {
		n++
	}
	return d.waiting[:n:n]
}

func join(batch []*visitor) protocol.AcquireRequest {
	req := batch[0].req
	req.Behind = make([]protocol.Want, 0, len(batch)-1)
	for _, v := range batch[1:] {
		req.Behind = append(req.Behind, v.req.First())
	}
	return req
}

// alike says whether two asks of a queue differ in nothing but what they want.
func alike(a, b protocol.AcquireRequest) bool {
	return a.Limits == b.Limits && a.Weight == b.Weight && a.Closable == b.Closable
}

// count is how many asks of a request were granted.
func count(g protocol.Grant, err error) int {
	if err != nil || !g.Granted {
		return 0
	}
	return 1 + g.Behind
}

func newRefusal(now time.Time, r protocol.AcquireRequest, g protocol.Grant) refusal {
	out := refusal{until: now.Add(time.Duration(g.RetryAfterMS) * time.Millisecond), req: r, grant: g}
	out.fresh = now.Add(remember)
	if g.LimitingMetric == protocol.MetricTokens {
		out.fresh = now.Add(rememberTokens)
	}
	if out.until.Before(out.fresh) {
		out.fresh = out.until
	}
	out.grant.Granted, out.grant.Behind = false, 0
	return out
}

// repeat gives the refusal again, when it holds for this ask too: who wants no less is refused no less.
func (f *refusal) repeat(now time.Time, r protocol.AcquireRequest) (protocol.Grant, bool) {
	if !now.Before(f.fresh) || !f.covers(r) {
		return protocol.Grant{}, false
	}
	grant := f.grant
	grant.RetryAfterMS = max(1, f.until.Sub(now).Milliseconds())
	return grant, true
}

// covers says whether an ask wants at least what was refused.
func (f *refusal) covers(r protocol.AcquireRequest) bool {
	if !alike(f.req, r) {
		return false
	}
	switch m := f.grant.LimitingMetric; m {
	case protocol.MetricMessages, protocol.MetricRequests, protocol.MetricTokens:
		return units(r, m) >= units(f.req, m)
	default: // closed: nothing passes
		return true
	}
}
