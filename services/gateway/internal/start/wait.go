package start

import (
	"context"
	"errors"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

const (
	// pollFirst and pollMost space the looks into the log, in case the reply was lost.
	pollFirst = time.Second
	pollMost  = 5 * time.Second
	// grace is what the executor gets after the deadline to say that it has passed.
	grace = 15 * time.Second
)

// Wait returns the terminal event of a run. It gives up with ErrNoOutcome some time after the
// execution's deadline, and with the context's error when that ends first; the execution does not
// care either way.
func (s *Service) Wait(ctx context.Context, r *Run) (protocol.Event, error) {
	if r.end != nil {
		return r.end, nil
	}
	if r.reply == nil {
		return s.follow(ctx, r)
	}
	late := time.NewTimer(r.deadline.Sub(s.now()) + grace)
	defer late.Stop()
	every := pollFirst
	poll := time.NewTimer(every)
	defer poll.Stop()
	for {
		select {
		case body := <-r.reply:
			if e := s.outcome(body); e != nil {
				return e, nil
			}
			r.reply = nil // not the outcome, and there comes no second reply: the log has it
			return s.follow(ctx, r)
		case <-poll.C:
			// A log that does not answer now may answer later.
			if last, err := s.log.Last(ctx, r.key); err == nil {
				if e := last.End(); e != nil {
					return e, nil
				}
			}
			every = min(every*3/2, pollMost)
			poll.Reset(every)
		case <-late.C:
			return nil, ErrNoOutcome
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Service) outcome(body []byte) protocol.Event {
	c, err := protocol.DecodeCommit("reply", body)
	if err != nil {
		return nil
	}
	return c.End()
}

// follow waits by reading the log, for those whom no reply is sent to.
func (s *Service) follow(ctx context.Context, r *Run) (protocol.Event, error) {
	ctx, cancel := context.WithDeadline(ctx, r.deadline.Add(grace))
	defer cancel()
	var end protocol.Event
	for {
		err := s.log.Follow(ctx, r.key, 0, func(rec protocol.Record) bool {
			end = rec.End()
			return end == nil
		})
		switch {
		case end != nil:
			return end, nil
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil, ErrNoOutcome
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			return nil, ErrNoOutcome
		case errors.Is(err, bus.ErrNotFound):
			// It has ended and left the log while nobody looked.
			if end, aerr := s.archive.Ended(ctx, r.Tenant, r.ID); aerr == nil && end != nil {
				return end, nil
			}
		}
		// The log could not be read: NATS may be away for a moment.
		select {
		case <-time.After(pollFirst):
		case <-ctx.Done():
		}
	}
}
