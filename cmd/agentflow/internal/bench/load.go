package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// outcome is how one request ended.
type outcome struct {
	kind  string // of request, such as create or list
	fault string // why it does not count; "" when all is well
}

// sender makes one request after another for one client.
type sender func(ctx context.Context) outcome

// load says when requests are due. In the closed loop (rate 0) each client makes its next request when the last one is
// answered. In the open loop requests are due at fixed times whatever became of the earlier ones, and a late answer is
// late by all the time since then: a platform that stalls cannot keep the requests it delays out of the figures
// (coordinated omission).
type load struct {
	rate     float64       // requests a second over all clients; 0: closed loop
	warmup   time.Duration // requests begun in it are not measured
	duration time.Duration // of what is measured
	requests int64         // measured; 0: as many as fit into duration
}

// overtime is how long after its end an overloaded open loop may go on sending what was due before.
const overtime = 10 * time.Second

// faultNotSent counts requests of an open loop that were due and never sent.
const faultNotSent = "not sent: all clients were busy"

// spell is one run of a load.
type spell struct {
	load
	rec                *recorder
	begin, first, last time.Time // of all, and of what is measured
	due                atomic.Int64
	measured           atomic.Int64
}

// run loads until the end, with one sender for each client, and returns when every request is answered. It ends early
// with ctx.
func (l load) run(ctx context.Context, rec *recorder, senders []sender) {
	now := time.Now()
	s := &spell{load: l, rec: rec, begin: now, first: now.Add(l.warmup)}
	s.last = s.first.Add(l.duration)
	rec.window(s.first, s.last, l.requests > 0)
	var wg sync.WaitGroup
	for i, send := range senders {
		wg.Go(func() { s.client(ctx, i, send) })
	}
	wg.Wait()
}

// client makes the requests of one client.
func (s *spell) client(ctx context.Context, i int, send sender) {
	for {
		intended, ok := s.next(ctx)
		if !ok {
			return
		}
		o := outcome{fault: faultNotSent}
		if s.requests > 0 || time.Now().Before(s.last.Add(overtime)) {
			o = send(ctx)
		}
		if ctx.Err() != nil {
			return // what failed now, failed because of it
		}
		s.rec.add(i, o, intended, time.Now())
	}
}

// next waits until a request is due, and says when it was.
func (s *spell) next(ctx context.Context) (time.Time, bool) {
	if ctx.Err() != nil {
		return time.Time{}, false
	}
	intended := time.Now()
	if s.rate > 0 {
		n := s.due.Add(1) - 1
		intended = s.begin.Add(time.Duration(float64(n) / s.rate * float64(time.Second)))
	}
	switch {
	case s.requests == 0 && !intended.Before(s.last):
		return time.Time{}, false
	case s.requests > 0 && !intended.Before(s.first) && s.measured.Add(1) > s.requests:
		return time.Time{}, false
	}
	if wait := time.Until(intended); s.rate > 0 && wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return time.Time{}, false
		}
	}
	return intended, true
}
