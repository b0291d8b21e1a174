package start

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// freshClaim is how young a claim must be for its execution to be surely either in the log or not
// begun, when the archive cannot be asked.
const freshClaim = 10 * time.Second

// claim is what stands under an idempotency key for 24 hours.
type claim struct {
	Fingerprint string               `json:"fingerprint"`
	Execution   protocol.ExecutionID `json:"execution_id"`
	At          protocol.Time        `json:"at"`
}

// beginOnce accepts an order at most once. The key is claimed before anything is appended, with
// the id that the execution will have: whoever repeats the order, after the first one died at any
// point, ends up with that same execution.
func (s *Service) beginOnce(ctx context.Context, o Order) (*Run, error) {
	c, err := s.claimed(ctx, o)
	if err != nil {
		return nil, err
	}
	if c == nil {
		// The order is checked before its key is claimed: a bad one leaves the key free.
		req, err := s.request(ctx, &o)
		if err != nil {
			return nil, err
		}
		mine := claim{Fingerprint: o.Fingerprint, Execution: protocol.ExecutionID(typeid.New("exec")), At: protocol.At(s.now())}
		first, won, err := s.claim(ctx, o, mine)
		if err != nil {
			return nil, err
		}
		if won {
			return s.launch(ctx, o, req, mine.Execution)
		}
		c = &first
	}
	if c.Fingerprint != o.Fingerprint {
		return nil, ErrReused
	}
	return s.join(ctx, o, *c)
}

// join finds the execution of an earlier claim, or begins it if the claimer never did.
func (s *Service) join(ctx context.Context, o Order, c claim) (*Run, error) {
	run := &Run{ID: c.Execution, Tenant: o.Tenant, Replayed: true, key: s.log.Key(o.Tenant, c.Execution), release: func() {}}
	run.deadline = s.now().Add(firstPositive(o.Timeout, s.defaults.Timeout))
	last, err := s.log.Last(ctx, run.key)
	if err == nil {
		run.end = last.End()
		return run, nil
	}
	if !errors.Is(err, bus.ErrNotFound) {
		return nil, fmt.Errorf("repeat %s: %w", c.Execution, errors.Join(bus.ErrUnavailable, err))
	}
	// Not in the log: either it was never begun, or it has ended and was trimmed. The archive holds
	// whatever was trimmed. Were it begun again now, it would run twice.
	end, err := s.archive.Ended(ctx, o.Tenant, c.Execution)
	switch {
	case err != nil && s.now().Sub(c.At.Time) > freshClaim:
		return nil, fmt.Errorf("repeat %s: %w", c.Execution, err)
	case err == nil && end != nil:
		run.end = end
		return run, nil
	}
	req, err := s.request(ctx, &o)
	if err != nil {
		return nil, err
	}
	again, err := s.launch(ctx, o, req, c.Execution)
	if err != nil {
		return nil, err
	}
	again.Replayed = true
	return again, nil
}

// claimed reads the claim under the key of an order; nil when there is none.
func (s *Service) claimed(ctx context.Context, o Order) (*claim, error) {
	kept, err := s.log.Claimed(ctx, o.Tenant, o.IdempotencyKey)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil //nolint:nilnil // no claim is an answer
	}
	if err != nil {
		return nil, err
	}
	c, err := readClaim(kept)
	return &c, err
}

func (s *Service) claim(ctx context.Context, o Order, mine claim) (claim, bool, error) {
	body, err := json.Marshal(mine)
	if err != nil {
		return claim{}, false, fmt.Errorf("claim: %w", err)
	}
	kept, won, err := s.log.Claim(ctx, o.Tenant, o.IdempotencyKey, body)
	if err != nil {
		return claim{}, false, err
	}
	if won {
		return mine, true, nil
	}
	c, err := readClaim(kept)
	return c, false, err
}

func readClaim(body []byte) (claim, error) {
	var c claim
	if err := json.Unmarshal(body, &c); err != nil {
		return claim{}, fmt.Errorf("read claim: %w", err)
	}
	return c, nil
}
